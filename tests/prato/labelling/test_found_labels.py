"""Labels that other programs have put into the folder: names decide, axes are turned, the file that was found is kept."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from monailabel.datastore.local import LocalDatastore

import lib.datastore.studies
import prato.labelling.reader
from lib.datastore.studies import StudiesDatastore
from prato.data.cases import load_training_cases, read_label
from prato.data.labels.names import LABEL_INFO
from prato.data.nifti import read_volume, write_volume
from prato.data.structures import STRUCTURES, voxel_counts
from prato.data.studies.folder import find_labelled_studies
from prato.labelling.versions import LabelVersions
from tests.app.hearts import heart
from tests.app.live import write_study

RV, MYO, LV = STRUCTURES.values()
STOCK = [{"name": "LV", "idx": 1}, {"name": "MYO", "idx": 2}, {"name": "RV", "idx": 3}]
SWAPPED = np.array([0, LV, MYO, RV], np.uint8)[heart()]
RV_ALONE = np.where(heart() == RV, heart(), 0)
FEW_SLICES = RV_ALONE * (np.arange(5) < 3)


def stock_folder(folder: Path, labels: dict[str, np.ndarray], infos: dict[str, Any], reverse: tuple[str, ...] = ()) -> None:
    """What a stock MONAI Label server makes of these images and labels: its own datastore stores them."""
    sent = folder.parent / f"{folder.name}-sent.nii.gz"
    affines = {study: read_volume(write_study(folder / f"{study}.nii.gz", seed=n)).affine for n, study in enumerate(labels)}
    store = LocalDatastore(str(folder), extensions=("*.nii.gz", "*.nii"), auto_reload=False)
    for study, drawn in labels.items():
        mask, affine = drawn, affines[study]
        if study in reverse:
            turn = np.diag([-1.0, 1, 1, 1])
            turn[0, 3] = mask.shape[0] - 1
            mask, affine = np.flip(drawn, 0), affine @ turn
        write_volume(sent, np.ascontiguousarray(mask), affine)
        info = {"client_id": "ada"} | ({"label_info": infos[study]} if study in infos else {})
        store.save_label(study, str(sent), "final", info)


def served(folder: Path, monkeypatch: pytest.MonkeyPatch) -> StudiesDatastore:
    monkeypatch.setattr(lib.datastore.studies.settings, "MONAI_LABEL_DATASTORE_AUTO_RELOAD", False)
    return StudiesDatastore(str(folder))


def test_training_reads_names_where_no_server_has_run(tmp_path: Path) -> None:
    stock_folder(tmp_path, {"a": SWAPPED, "b": SWAPPED}, {"a": STOCK, "b": STOCK}, reverse=("b",))
    for file in find_labelled_studies(tmp_path):
        assert np.array_equal(read_label(file.label, read_volume(file.image)), heart())
    loaded, left_out = load_training_cases(find_labelled_studies(tmp_path), 3.0)
    assert [case.source for _, case in loaded] == ["names", "names"] and not left_out


def test_a_found_label_is_read_once_and_again_after_each_change(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stock_folder(tmp_path, {"a": SWAPPED}, {})
    versions, read = LabelVersions(tmp_path, "a"), []
    original = prato.labelling.reader.read_label_volume
    monkeypatch.setattr(prato.labelling.reader, "read_label_volume", lambda *given: read.append(given) or original(*given))
    assert versions.all() == versions.all() and versions.current() == versions.find(1) and len(read) == 1
    before = versions.current()
    write_volume(path := tmp_path / "labels" / "final" / "a.nii.gz", heart(), read_volume(tmp_path / "a.nii.gz").affine)
    replaced = versions.current()
    assert before is not None and replaced is not None and replaced.voxels == voxel_counts(heart()) != before.voxels
    listed = json.loads((tmp_path / "datastore_v2.json").read_bytes())
    listed["objects"]["a"]["labels"]["final"]["info"]["label_info"] = STOCK
    (tmp_path / "datastore_v2.json").write_text(json.dumps(listed))
    named = versions.current()
    assert named is not None and named.voxels == before.voxels and path.exists()


def test_a_server_converts_what_was_found_and_keeps_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stock_folder(tmp_path, {"a": SWAPPED, "b": heart(), "c": heart()}, {"a": STOCK}, reverse=("b",))
    raw = {study: (tmp_path / "labels" / "final" / f"{study}.nii.gz").read_bytes() for study in "abc"}
    store = served(tmp_path, monkeypatch)
    for study in "abc":
        stored = read_volume(store.get_label_uri(study, "final"))
        assert np.array_equal(stored.array, heart())
        assert store.get_label_info(study, "final")["warnings"] == []
        versions = store.versions(study, "final")
        assert versions.read(1) == raw[study]
        origins = [(version.version, version.origin, version.restored_from, version.annotator) for version in versions.all()]
        found = (1, "found", None, "ada")
        assert origins == ([found] if study == "c" else [found, (2, "converted", 1, "ada")])
    assert store.get_label_info("a", "final")["label_info"] == LABEL_INFO
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    served(tmp_path, monkeypatch).refresh()
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize(
    ("mask", "info", "words"),
    [
        (SWAPPED, None, "RV and LV cavity seem to be swapped"),
        (heart(), STOCK, "RV and LV cavity seem to be swapped"),
        (heart() * 2, None, "holds the value 4, which names no structure"),
        (heart()[1:], None, "has 39x36x5 voxels and its image 40x36x5"),
        (heart(), [{"name": "spleen", "idx": 1}], "does not name"),
        (heart(), [{"name": "LV", "idx": 1}, {"name": "left ventricle", "idx": 2}, {"name": "RV", "idx": 3}], "names LV cavity twice"),
        (heart(), "LV", "label_info must be a list"),
    ],
)
def test_what_cannot_be_right_is_said_before_training_and_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mask: np.ndarray, info: Any, words: str
) -> None:
    stock_folder(tmp_path, {"a": mask, "b": heart()}, {} if info is None else {"a": info})
    loaded, left_out = load_training_cases(find_labelled_studies(tmp_path), 3.0)
    assert [file.study for file, _ in loaded] == ["b"] and words in left_out["a"]
    store = served(tmp_path, monkeypatch)
    assert words in " ".join(store.get_label_info("a", "final")["warnings"])
    loaded, left_out = load_training_cases(find_labelled_studies(tmp_path), 3.0)
    assert [file.study for file, _ in loaded] == ["b"] and list(left_out) == ["a"]


def test_a_label_that_shows_nothing_is_trained_on_where_another_shows_the_numbering(tmp_path: Path) -> None:
    stock_folder(tmp_path, {"a": FEW_SLICES, "b": heart()}, {})
    loaded, left_out = load_training_cases(find_labelled_studies(tmp_path), 3.0)
    assert [case.source for _, case in loaded] == ["guess", "anatomy"] and not left_out


@pytest.mark.parametrize("other", [SWAPPED, None])
def test_otherwise_it_would_be_a_guess(tmp_path: Path, other: np.ndarray | None) -> None:
    stock_folder(tmp_path, {"a": FEW_SLICES} | ({} if other is None else {"b": other}), {})
    loaded, left_out = load_training_cases(find_labelled_studies(tmp_path), 3.0)
    assert not loaded and "Nothing says which value of the label for a is which structure" in left_out["a"]


def test_a_submitted_label_needs_no_names_and_is_warned_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stock_folder(tmp_path, {"a": heart(), "b": heart()}, {})
    store = served(tmp_path, monkeypatch)
    affine = read_volume(tmp_path / "a.nii.gz").affine
    sent = tmp_path / "sent.tmp.gz"
    assert store.label_warnings() == []
    for mask, info, warned in ((FEW_SLICES, {}, 0), (RV_ALONE, {}, 1), (SWAPPED, {}, 1), (SWAPPED, {"label_info": STOCK}, 0)):
        write_volume(sent, mask, affine)
        saved = store.submit_label("a", str(sent), "final", info)
        assert saved is not None and len(saved.version.warnings) == warned
        assert store.get_label_info("a", "final")["warnings"] == [*saved.version.warnings]
        assert store.label_warnings() == [f"a: {warning}" for warning in saved.version.warnings]  # what the reply to a training lists
        loaded, _ = load_training_cases(find_labelled_studies(tmp_path), 3.0)
        assert ["a" in {file.study for file, _ in loaded}] == [not warned]
    assert store.get_label_info("a", "final")["label_info"] == LABEL_INFO
