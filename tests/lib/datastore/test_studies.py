"""The guarded studies folder: nothing unfit gets in, nothing submitted gets lost."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fastapi import HTTPException

import lib.datastore.studies
from lib.datastore.studies import StudiesDatastore
from prato.data.cine import read_cine, write_cine
from prato.data.nifti import read_image, read_volume, write_volume
from prato.data.structures import STRUCTURES
from prato.data.studies.label_records import HISTORY
from prato.labelling.versions import LabelVersions, SavedVersion
from tests.waiting import wait_until

AFFINE = np.diag([-1.5, -1.5, 8.0, 1.0])
SHAPE = (8, 7, 3)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    studies = tmp_path / "studies"
    studies.mkdir()
    for name in ("a", "b"):
        write_volume(studies / f"{name}.nii.gz", np.arange(np.prod(SHAPE), dtype=np.int16).reshape(SHAPE), AFFINE)
    return studies


@pytest.fixture
def store(folder: Path, monkeypatch: pytest.MonkeyPatch) -> StudiesDatastore:
    monkeypatch.setattr(lib.datastore.studies.settings, "MONAI_LABEL_DATASTORE_AUTO_RELOAD", False)
    return StudiesDatastore(str(folder))


def label(folder: Path, value: int = STRUCTURES["myocardium"], size: int = 2) -> str:
    """A label file to send, ``size`` voxels of ``value``."""
    mask = np.zeros(SHAPE, np.uint8)
    mask.ravel()[:size] = value
    path = folder.parent / "sent.nii.gz"
    write_volume(path, mask, AFFINE)
    return str(path)


def tree(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file() and p.name != ".lock"}


def refused(status: int, words: str) -> Any:
    """The next block must raise an HTTPException of that status whose sentence holds ``words``."""
    return pytest.raises(HTTPException, check=lambda error: error.status_code == status and words in error.detail)


def test_a_label_of_an_image_that_was_removed_meanwhile_is_no_bad_label(store: StudiesDatastore, folder: Path) -> None:
    sent = label(folder)
    (folder / "a.nii.gz").unlink()  # by another program, a moment ago
    before = tree(folder)
    with refused(404, "The image a does not exist in"):
        store.save_label("a", sent, "final", {})
    assert tree(folder) == before


def test_a_label_is_stored_and_listed(store: StudiesDatastore, folder: Path) -> None:
    assert store.save_label("a", label(folder), "final", {"client_id": "x"}) == "a"
    stored = read_volume(folder / "labels" / "final" / "a.nii.gz")
    assert int((stored.array == STRUCTURES["myocardium"]).sum()) == 2
    assert store.get_label_info("a", "final")["voxels"] == {"myocardium": 2}
    assert store.get_unlabeled_images() == ["b"]
    on_disk = json.loads((folder / "datastore_v2.json").read_text())
    assert on_disk["objects"]["a"]["labels"]["final"]["info"]["client_id"] == "x"


def test_what_is_replaced_or_removed_is_kept(store: StudiesDatastore, folder: Path) -> None:
    stored, sent = folder / "labels" / "final" / "a.nii.gz", []
    for size in (2, 3, 4):
        saved = store.submit_label("a", label(folder, size=size), "final", {"annotator": "Ada"})
        assert saved and saved.version.version == size - 1
        sent.append(stored.read_bytes())
    store.remove_label("a", "final")
    assert not stored.exists()
    assert store.get_unlabeled_images() == ["a", "b"]
    versions = store.versions("a", "final")
    assert [versions.read(n) for n in (1, 2, 3)] == sent
    assert versions.current() is None
    assert store.restore_label("a", "final", 2, {"annotator": "Bob"}).version.version == 4
    assert stored.read_bytes() == sent[1]
    assert store.get_label_info("a", "final")["annotator"] == "Bob"


def test_the_models_own_proposals_make_no_history(store: StudiesDatastore, folder: Path) -> None:
    for size in (0, 3):  # a proposal may be empty
        assert store.submit_label("a", label(folder, size=size), "original", {"model": "prato_auto", "params": {}}) is None
    assert not (folder / HISTORY).exists()
    assert store.get_label_info("a", "original")["voxels"] == {"myocardium": 3}
    with refused(400, "proposals (tag original) have no versions"):
        store.versions("a", "original")


@pytest.mark.parametrize("is_whole", [True, False])
def test_a_proposal_for_one_phase_leaves_those_of_the_others(store: StudiesDatastore, folder: Path, is_whole: bool) -> None:
    write_cine(folder / "c.nii.gz", np.ones((*SHAPE, 4), np.int16), AFFINE, 200)
    store.refresh()
    sent, mask = folder.parent / "sent.nii.gz", np.zeros((*SHAPE, 4), np.uint8)
    mask[0, 0, 0], mask[1, 0, 0, 2] = 1, 2
    write_cine(sent, mask, AFFINE)
    store.submit_label("c", str(sent), "original", {"phases": [0, 1, 3]})  # of which 2 is none
    proposed = read_cine(folder / "labels" / "original" / "c.nii.gz").phase(2).array
    assert not proposed.any()
    new = np.full_like(mask, 3)
    if is_whole:
        write_cine(sent, new, AFFINE)
    else:
        write_volume(sent, new[..., 2], AFFINE)
    store.submit_label("c", str(sent), "original", {"phases": {"2": "proposed"}})
    stored = np.asarray(read_image(folder / "labels" / "original" / "c.nii.gz").dataobj)
    assert np.array_equal(stored[..., 2], new[..., 2]) and np.array_equal(stored[..., [0, 1, 3]], mask[..., [0, 1, 3]])
    assert store.get_label_info("c", "original")["voxels"] == {"RV cavity": 3, "LV cavity": mask[..., 0].size}
    write_cine(sent, mask, AFFINE)
    store.submit_label("c", str(sent), "original", {})  # which names no phase: it is about all
    assert np.array_equal(np.asarray(read_image(folder / "labels" / "original" / "c.nii.gz").dataobj), mask)


def test_what_is_said_later_stays_with_the_version(store: StudiesDatastore, folder: Path) -> None:
    store.save_label("a", label(folder), "final", {"annotator": "Ada"})
    store.update_label_info("a", "final", {"quality": "good"})
    assert store.get_label_info("a", "final")["quality"] == "good"
    assert store.versions("a", "final").find(1).params == {"annotator": "Ada", "quality": "good"}
    before = tree(folder)
    with refused(400, "The annotator of a stored label cannot be changed"):
        store.update_label_info("a", "final", {"annotator": "Bob"})
    assert tree(folder) == before


@pytest.mark.parametrize(
    ("study", "tag", "info", "value", "status", "words"),
    [
        ("nobody", "final", {}, 1, 404, "no study called 'nobody'"),
        ("../a", "final", {}, 1, 404, "no study called '../a'"),
        ("a", "../../final", {}, 1, 400, "tag may hold only letters"),
        ("a", "", {}, 1, 400, "tag may hold only letters"),
        ("a", "final", [1], 1, 400, "params must be a JSON object"),
        ("a", "final", {"score": float("nan")}, 1, 400, "finite numbers"),
        ("a", "final", {"annotator": "\ud800"}, 1, 400, "Unicode text"),
        ("a", "final", {"base_version": 7}, 1, 400, "the number of a version of a (1), not 7"),
        ("b", "final", {"base_version": "1"}, 1, 400, "a version of b (none yet), not '1'"),
        ("a", "final", {}, 9, 400, "holds the value 9"),
        ("a", "final", {}, 0, 400, "is empty: draw at least one structure"),
        ("a", "final", {"label_info": [{"name": "spleen", "idx": 1}]}, 1, 400, "segment 'spleen'"),
    ],
)
def test_refused_labels_change_nothing(
    store: StudiesDatastore, folder: Path, *, study: str, tag: str, info: Any, value: int, status: int, words: str
) -> None:
    store.save_label("a", label(folder), "final", {})
    before = tree(folder)
    with refused(status, words):
        store.save_label(study, label(folder, value), tag, info)
    assert tree(folder) == before


def test_a_write_that_breaks_off_leaves_the_stored_label(store: StudiesDatastore, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store.save_label("a", label(folder), "final", {})
    stored = (folder / "labels" / "final" / "a.nii.gz").read_bytes()

    def full(*_: object) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr("prato.data.atomic.os.fsync", full)
    with pytest.raises(OSError, match="no space"):
        store.save_label("a", label(folder, size=9), "final", {})
    assert (folder / "labels" / "final" / "a.nii.gz").read_bytes() == stored
    assert not list(folder.rglob("*.tmp"))


def test_images_are_checked_at_the_door(store: StudiesDatastore, folder: Path) -> None:
    image = str(folder / "a.nii.gz")
    before = tree(folder)
    cine = folder.parent / "cine.nii.gz"
    cine.write_bytes(b"neither an image nor a cine")
    for name, file, status, words in (
        ("../evil", image, 400, "name may hold only letters"),
        (".hidden", image, 400, "name may hold only letters"),
        ("-v", image, 400, "except at its beginning, spaces and . + -"),
        ("x/y", image, 400, "name may hold only letters"),
        ("two\nlines", image, 400, "name may hold only letters"),
        ("x" * 151, image, 400, "at most 150 bytes"),
        ("new", str(cine), 400, "The image new is not readable NIfTI"),
        ("b", label(folder), 409, "another image called b"),
    ):
        with refused(status, words):
            store.add_image(name, file, {})
    assert tree(folder) == before
    assert store.add_image("a", image, {}) == "a"  # the same again
    for name in ("patient 7_ED", "6: cine [SA] (2), 50 %"):  # the second as 3D Slicer calls what it loads from DICOM
        assert store.add_image(name, image, {"who": "me"}) == name
        assert store.get_image_info(name)["who"] == "me"
        assert (folder / f"{name}.nii.gz").read_bytes() == (folder / "a.nii.gz").read_bytes()


def test_the_labels_of_a_removed_study_can_be_restored_once_its_image_is_back(store: StudiesDatastore, folder: Path) -> None:
    store.save_label("a", label(folder), "final", {})
    store.remove_image("a")
    assert store.list_images() == ["b"]
    assert store.versions("a", "final").read(1)
    with refused(409, "The image of a was removed: add it again"):
        store.restore_label("a", "final", 1, {})
    with refused(404, "no study called 'a'"):
        store.remove_image("a")
    store.add_image("a", str(folder / "b.nii.gz"), {})
    assert store.get_unlabeled_images() == ["b", "a"]
    store.restore_label("a", "final", 1, {})
    assert store.get_unlabeled_images() == ["b"]
    with refused(404, "has no label with the tag"):
        store.remove_label("b", "final")


def test_a_study_goes_with_the_sidecar_that_the_import_wrote_of_it(store: StudiesDatastore, folder: Path) -> None:
    (folder / "a.json").write_text(json.dumps({"schema": "prato-label/cine/1", "study": "a"}))
    (folder / "b.json").write_text(json.dumps({"note": "somebody's own"}))
    for name in ("a", "b"):
        store.remove_image(name)
    assert not (folder / "a.json").exists() and (folder / "b.json").exists()


def test_files_that_arrive_by_a_rename_are_noticed(folder: Path) -> None:
    store = StudiesDatastore(str(folder))
    write_volume(folder / "c.nii.gz", np.ones(SHAPE, np.int16), AFFINE)
    wait_until(lambda: "c" in store.list_images())
    store._observer.stop()
    assert sorted(store.list_images()) == ["a", "b", "c"]


@pytest.mark.parametrize("depth", [65, 150, 199, 250, 400, 5000])
def test_params_too_deep_to_be_read_again_are_refused(store: StudiesDatastore, folder: Path, depth: int) -> None:
    deep: Any = 1
    for _ in range(depth):
        deep = [deep]
    store.submit_label("a", label(folder), "final", {"annotator": "Ada"})
    before = tree(folder)
    for change in (
        lambda: store.submit_label("a", label(folder), "final", {"annotator": "Ben", "note": deep}),
        lambda: store.restore_label("a", "final", 1, {"annotator": "Ben", "note": deep}),
        lambda: store.update_label_info("a", "final", {"note": deep}),
    ):
        with refused(400, "lists more than"):
            change()
    assert tree(folder) == before


def test_who_sent_deep_params_is_still_known(store: StudiesDatastore, folder: Path) -> None:
    deep: Any = 1
    for _ in range(63):  # in params, which is an object itself
        deep = {"x": deep}
    store.submit_label("a", label(folder), "final", {"annotator": "Ada", "note": deep})
    current = StudiesDatastore(str(folder)).versions("a", "final").current()
    assert current is not None and (current.annotator, current.params["note"]) == ("Ada", deep)


def test_a_label_that_comes_in_while_its_image_is_removed_is_kept_but_not_as_the_next_image_s(
    store: StudiesDatastore, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.submit_label("a", label(folder), "final", {"annotator": "Ada"})
    save = LabelVersions.save

    def removed_first(self: LabelVersions, *arguments: Any) -> SavedVersion:
        store.remove_image("a", "Zed")
        return save(self, *arguments)

    monkeypatch.setattr(LabelVersions, "save", removed_first)
    with refused(409, "The image of a was removed meanwhile (the label is kept as version 2): add it again"):
        store.submit_label("a", label(folder, size=3), "final", {"annotator": "Bob"})
    monkeypatch.undo()
    unlink = Path.unlink

    def saved_first(self: Path, missing_ok: bool = False) -> None:
        if self == folder / "b.nii.gz":
            store.submit_label("b", label(folder, size=4), "final", {"annotator": "Cy"})
        unlink(self, missing_ok)

    monkeypatch.setattr(Path, "unlink", saved_first)
    store.remove_image("b", "Zed")
    assert not list((folder / "labels").rglob("*.nii.gz"))
    for name, annotators in (("a", ["Ada", "Bob"]), ("b", ["Cy"])):
        write_volume(folder / f"{name}.nii.gz", np.ones(SHAPE, np.int16), AFFINE)
        store.refresh()
        assert [version.annotator for version in store.versions(name, "final").all()] == annotators
        assert name not in store.get_labeled_images()
        store.restore_label(name, "final", len(annotators), {})
        assert name in store.get_labeled_images()
