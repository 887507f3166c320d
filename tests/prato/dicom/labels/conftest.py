"""A cine that was imported from DICOM once for each file of tests, which says as ``SCAN`` of what scan."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.prato.dicom.labels.label_folders import Folders


@pytest.fixture(scope="module")
def imported_once(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Folders:
    return Folders(tmp_path_factory.mktemp("once"), request.module.SCAN.images())


@pytest.fixture
def folders(imported_once: Folders, tmp_path: Path) -> Folders:
    return imported_once.copy_to(tmp_path)
