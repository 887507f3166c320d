"""The manifest of a folder to which several add at once."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from prato.data.studies.folder import MANIFEST_NAME, Manifest, Study, load_manifest, save_manifest
from prato.data.studies.listing import listed_first


def test_what_several_list_at_once_is_all_listed(tmp_path: Path) -> None:
    def add(n: int) -> None:
        with listed_first(tmp_path, "DICOM", {f"p{n}_4d": Study(patient=f"p{n}")}):
            pass

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(add, range(16)))
    manifest = load_manifest(tmp_path)
    assert manifest is not None and len(manifest.studies) == 16 and manifest.source == "DICOM"


@pytest.mark.parametrize("is_new", [False, True])
def test_studies_that_do_not_come_are_not_listed(tmp_path: Path, is_new: bool) -> None:
    if not is_new:
        save_manifest(tmp_path, Manifest(source="M&Ms", studies={"a": Study(patient="a")}))
    before = None if is_new else (tmp_path / MANIFEST_NAME).read_bytes()
    with pytest.raises(OSError), listed_first(tmp_path, "DICOM", {"b": Study(patient="b")}):
        raise OSError
    assert (before is None and not (tmp_path / MANIFEST_NAME).exists()) or (tmp_path / MANIFEST_NAME).read_bytes() == before
