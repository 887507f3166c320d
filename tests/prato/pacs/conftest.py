"""One Orthanc for all tests, empty for each."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from prato.pacs.web import Pacs
from tests.prato.pacs.orthanc import PASSWORD, USER, Orthanc


@pytest.fixture(scope="session")
def one_orthanc(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Orthanc]:
    server = Orthanc(tmp_path_factory.mktemp("orthanc"))
    yield server
    server.kill()


@pytest.fixture
def orthanc(one_orthanc: Orthanc) -> Orthanc:
    one_orthanc.clear()
    return one_orthanc


@pytest.fixture
def pacs(orthanc: Orthanc) -> Pacs:
    return Pacs(orthanc.url, USER, PASSWORD)
