"""Versions of a label in a folder: all kept, each with its record, whoever writes when."""

from __future__ import annotations

import errno
import gzip
import threading
from pathlib import Path

import numpy as np
import pytest

from prato.data.nifti import Volume, VolumeError, nifti_bytes, write_volume
from prato.data.studies.label_records import HISTORY
from prato.labelling.files import list_labelled_studies
from prato.labelling.records import DamagedVersionError, LabelVersionError, UnknownVersionError, in_ranges
from prato.labelling.restoring import restore
from prato.labelling.versions import LabelVersions

AFFINE = np.diag([-1.5, -1.5, 8.0, 1.0])
SHAPE = (8, 7, 3)


def mask(size: int) -> np.ndarray:
    drawn = np.zeros(SHAPE, np.uint8)
    drawn.ravel()[:size] = 2
    return drawn


@pytest.fixture
def label(tmp_path: Path) -> LabelVersions:
    write_volume(tmp_path / "a.nii.gz", np.ones(SHAPE, np.int16), AFFINE)
    return LabelVersions(tmp_path, "a")


def stored(folder: Path) -> Path:
    return folder / "labels" / "final" / "a.nii.gz"


def by_hand(folder: Path, size: int) -> None:
    stored(folder).parent.mkdir(parents=True, exist_ok=True)
    write_volume(stored(folder), mask(size), AFFINE)


def test_a_version_says_where_it_comes_from(label: LabelVersions, tmp_path: Path) -> None:
    sent = {"annotator": "Ada", "box": [1, 2, 3, 4, 0, 3], "model": "prato_unetr", "model_version": "0123456789ab"}
    label.save(Volume(mask(2), AFFINE), sent)
    label.save(Volume(mask(3), AFFINE), {"client_id": "c7", "base_version": 1})
    label.save(Volume(mask(4), AFFINE), {"annotator": " "})
    first, second, third = label.all()
    assert (first.params, first.origin, first.base_version, first.voxels) == (sent, "submitted", None, {"myocardium": 2})
    assert [version.annotator for version in label.all()] == ["Ada", "c7", "unknown"]
    assert second.base_version == 1
    assert first.created <= second.created <= third.created
    assert str(first.created.tzinfo) == "UTC"
    assert label.current() == third
    assert label.read(3) == stored(tmp_path).read_bytes()
    assert np.array_equal(label.read_volume(1).array, mask(2))


def test_what_is_added_to_a_version_s_parameters_changes_nothing_else(label: LabelVersions, tmp_path: Path) -> None:
    label.update_params({"note": "nothing is there yet"})
    assert not list((tmp_path / HISTORY).rglob("*.json"))
    label.save(Volume(mask(2), AFFINE), {"annotator": "Ada", "box": [1, 2, 3, 4, 0, 3]})
    before = label.current()
    label.update_params({"box": [0, 2, 0, 2, 0, 3], "note": "redrawn"})
    (after,) = label.all()
    assert after.params == {"annotator": "Ada", "box": [0, 2, 0, 2, 0, 3], "note": "redrawn"}
    assert after.model_copy(update={"params": before.params}) == before


def test_what_a_new_version_replaces_unseen(label: LabelVersions, tmp_path: Path) -> None:
    by_hand(tmp_path, 1)
    conflicts = [
        [version.version for version in label.save(Volume(mask(size), AFFINE), params).conflicts]
        for size, params in enumerate(
            (
                {"annotator": "Ada"},  # version 2: what was found in the folder is nobody's
                {"annotator": "ada"},  # her own
                {"annotator": "Bob"},  # hers, and he does not say what he started from
                {"annotator": "Bob", "base_version": 4},
                {"annotator": "Ada", "base_version": 3},  # she has not seen 4 and 5
                {"annotator": "Cy", "base_version": 0},
            ),
            2,
        )
    ]
    assert conflicts == [[], [], [3], [], [4, 5], [1, 2, 3, 4, 5, 6]]
    for seen in ({}, {"base_version": 0}, {"base_version": 3}):  # 0 is what a client tells that has found no label
        label.remove()
        assert label.save(Volume(mask(9), AFFINE), {"annotator": "Bob", **seen}).conflicts == []


@pytest.mark.parametrize("base", [9, -1, "1", 1.0, True])
def test_a_base_that_is_no_version_is_refused(label: LabelVersions, tmp_path: Path, base: object) -> None:
    with pytest.raises(LabelVersionError, match=r"base_version must be 0, for no label, or the number of a version of a \(none yet\)"):
        label.save(Volume(mask(2), AFFINE), {"base_version": base})
    assert [path.name for path in tmp_path.iterdir()] == ["a.nii.gz"]


def test_numbers_in_a_message_are_whole_however_many_there_are(label: LabelVersions) -> None:
    for size in range(1, 24):
        label.save(Volume(mask(size), AFFINE), {})
    with pytest.raises(LabelVersionError, match=r"a version of a \(1 to 23\), not 99\.$"):
        label.save(Volume(mask(2), AFFINE), {"base_version": 99})
    with pytest.raises(UnknownVersionError, match=r"has no version 99: there are 1 to 23\.$"):
        label.find(99)
    assert in_ranges([0, 2, 3, 4, 7, 8, 9, 10]) == "0, 2, 3, 4, 7 to 10"


def test_labels_that_come_by_another_way_are_versions_too(label: LabelVersions, tmp_path: Path) -> None:
    by_hand(tmp_path, 1)
    assert [(v.version, v.origin, v.annotator, v.voxels) for v in label.all()] == [(1, "found", "unknown", {"myocardium": 1})]
    assert not (tmp_path / HISTORY).exists()  # reading writes nothing
    label.save(Volume(mask(2), AFFINE), {})
    by_hand(tmp_path, 3)
    label.remove()
    assert label.current() is None
    stored(tmp_path).with_name("a.nii").write_bytes(gzip.decompress(label.read(1)))
    assert label.current() is not None
    label.save(Volume(mask(4), AFFINE), {})
    assert [version.origin for version in label.all()] == ["found", "submitted", "found", "found", "submitted"]
    assert [int(label.read_volume(n).array.sum() / 2) for n in range(1, 6)] == [1, 2, 3, 1, 4]
    assert [path.name for path in stored(tmp_path).parent.iterdir()] == ["a.nii.gz"]


def test_restoring_is_a_new_version(label: LabelVersions, tmp_path: Path) -> None:
    for size in (2, 3):
        label.save(Volume(mask(size), AFFINE), {"annotator": "Ada"})
    version = restore(label, 1, tmp_path / "a.nii.gz", {"annotator": "Bob"}).version
    assert (version.version, version.origin, version.restored_from, version.annotator) == (3, "restored", 1, "Bob")
    assert stored(tmp_path).read_bytes() == label.read(1) == label.read(3)
    write_volume(tmp_path / "a.nii.gz", np.ones((8, 7, 4), np.int16), AFFINE)
    before = len(label.all())
    with pytest.raises(LabelVersionError, match=r"Version 2 of a cannot be restored: it has 8x7x3 voxels and its image 8x7x4"):
        restore(label, 2, tmp_path / "a.nii.gz", {})
    with pytest.raises(UnknownVersionError, match="The label of a has no version 9: there are 1, 2, 3"):
        restore(label, 9, tmp_path / "a.nii.gz", {})
    assert len(label.all()) == before


def test_who_took_a_label_away_is_kept_and_it_comes_back(label: LabelVersions, tmp_path: Path) -> None:
    by_hand(tmp_path, 1)
    label.remove("Ada")  # a label that nobody had recorded
    label.remove("Bob")  # there is none: no error, and no record
    assert label.current() is None
    restore(label, 1, tmp_path / "a.nii.gz", {"annotator": "Cy"})
    label.remove()
    restore(label, 1, tmp_path / "a.nii.gz", {"annotator": "Cy"})
    first, second, third = LabelVersions(tmp_path, "a").list_versions()[0]
    assert [removal.annotator for removal in first.removals] == ["Ada"]
    assert [removal.annotator for removal in second.removals] == ["unknown"]
    assert third.removals == ()
    assert first.removals[0].removed <= second.created <= second.removals[0].removed <= third.created
    assert label.current() == third
    assert stored(tmp_path).read_bytes() == label.read(1) == label.read(3)


def test_a_removal_that_finds_no_room_has_not_happened(label: LabelVersions, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    label.save(Volume(mask(2), AFFINE), {})
    monkeypatch.setattr("prato.data.atomic.tempfile.mkstemp", full)
    with pytest.raises(OSError, match="No space left"):
        label.remove("Ada")
    assert label.current() == label.find(1)
    assert label.find(1).removals == ()


def test_a_file_that_was_damaged_is_not_handed_out(label: LabelVersions, tmp_path: Path) -> None:
    for size in (2, 3):
        label.save(Volume(mask(size), AFFINE), {})
    history = tmp_path / HISTORY / "final" / "a"
    (history / "0001.nii.gz").write_bytes(b"torn")
    (history / "0002.json").write_text('{"version": 2')
    with pytest.raises(DamagedVersionError, match="The file of version 1 of the label of a is missing or damaged"):
        label.read(1)
    assert np.array_equal(label.read_volume(2).array, mask(3))  # its file is whole; of the record, only who and when is lost
    assert (label.all()[1].origin, label.all()[1].voxels) == ("found", {"myocardium": 3})
    by_hand(tmp_path, 4)
    stored(tmp_path).write_bytes(b"no label")
    assert label.all()[2].voxels == {}
    with pytest.raises(VolumeError, match="Version 3 of the label of a is not readable NIfTI"):
        label.read_volume(3)


@pytest.mark.parametrize("name", ["", ".", "..", "../a", "a/b", "a\\b", "/etc/passwd", "a\0", "x" * 300, "\ud800"])
def test_names_that_are_paths_are_refused(tmp_path: Path, name: str) -> None:
    for study, tag in ((name, "final"), ("a", name)):
        with pytest.raises(UnknownVersionError, match="There are no labels under the name"):
            LabelVersions(tmp_path, study, tag)


def test_everyone_at_once(label: LabelVersions, tmp_path: Path) -> None:
    """Writers wait for each other and all are kept; readers see versions that are whole, and one that is current."""
    numbers: list[int] = []
    faults: list[object] = []
    looks: list[int] = []
    done = threading.Event()

    def write(who: int) -> None:
        for n in range(5):
            numbers.append(LabelVersions(tmp_path, "a").save(Volume(mask(10 * who + n), AFFINE), {"annotator": str(who)}).version.version)

    def look() -> None:
        while not done.is_set():
            versions, current = label.list_versions()
            if any(version.origin != "submitted" for version in versions) or (versions and current != versions[-1]):
                faults.append((versions, current))
            try:
                looks.append(len(label.read(current.version)) if current else 0)
            except LabelVersionError as error:
                faults.append(error)

    writers, reader = [threading.Thread(target=write, args=[who]) for who in range(1, 5)], threading.Thread(target=look)
    for thread in (reader, *writers):
        thread.start()
    for thread in writers:
        thread.join()
    done.set()
    reader.join()
    assert sorted(numbers) == list(range(1, 21))
    assert not faults
    assert looks
    assert sorted(v.voxels["myocardium"] for v in label.all()) == sorted(10 * who + n for who in range(1, 5) for n in range(5))
    for who in "1234":  # each one's in the order in which they were sent
        own = [v.voxels["myocardium"] for v in label.all() if v.annotator == who]
        assert own == sorted(own)


def test_which_studies_have_labels(label: LabelVersions, tmp_path: Path) -> None:
    by_hand(tmp_path, 1)
    (stored(tmp_path).parent / ".b.nii.gz.x.tmp").write_bytes(b"")
    (stored(tmp_path).parent / "c.nii").write_bytes(b"")
    LabelVersions(tmp_path, "gone").save(Volume(mask(2), AFFINE), {})
    LabelVersions(tmp_path, "gone").remove()
    assert list_labelled_studies(tmp_path) == ["a", "c", "gone"]


@pytest.mark.parametrize("name", [7, ["Ada"], {"name": "Ada"}, True, "Ada\nBob", "\x1b[31mAda", "Ada\u2028Bob", "x" * 151])
def test_what_is_no_name_is_refused_instead_of_becoming_nobody(label: LabelVersions, tmp_path: Path, name: object) -> None:
    label.save(Volume(mask(3), AFFINE), {"annotator": " Zo\u00eb\u3000O'Hara-\u5c71\u7530 "})
    assert label.find(1).annotator == "Zo\u00eb\u3000O'Hara-\u5c71\u7530"
    before = sorted(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
    for act in (
        lambda: label.save(Volume(mask(5), AFFINE), {"annotator": name, "user": "Bob"}),
        lambda: label.review("approved", {"annotator": name}, False),
        lambda: restore(label, 1, tmp_path / "a.nii.gz", {"annotator": name}),
    ):
        with pytest.raises(LabelVersionError, match="annotator must be a name, text of at most 150 characters in one line, not "):
            act()
    assert sorted(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()) == before


@pytest.mark.parametrize(("name", "annotator"), [(7, "unknown"), (None, "Bob"), ("", "Bob")])
def test_a_found_label_is_taken_whatever_its_annotator_is_called(
    label: LabelVersions, tmp_path: Path, name: object, annotator: str
) -> None:
    by_hand(tmp_path, 3)
    label.adopt({"annotator": name, "user": "Bob"})
    assert label.find(1).annotator == annotator


@pytest.mark.parametrize("then", ["submitted", "removed"])
def test_a_file_that_another_program_puts_beside_the_label_is_not_lost(label: LabelVersions, tmp_path: Path, then: str) -> None:
    label.save(Volume(mask(1), AFFINE), {"annotator": "Ada"})
    beside = tmp_path / "labels" / "final" / "a.nii"
    beside.write_bytes(nifti_bytes(mask(2), AFFINE))
    if then == "submitted":
        label.save(Volume(mask(3), AFFINE), {"annotator": "Bob"})
        assert beside.read_bytes() == nifti_bytes(mask(2), AFFINE) and len(label.all()) == 2
    else:
        label.remove("Bob")
        assert label.current() is None and not beside.exists()
        assert [(each.origin, len(each.removals)) for each in label.all()] == [("submitted", 1), ("found", 1)]
        assert np.array_equal(label.read_volume(2).array, mask(2))


def test_the_record_of_a_version_whose_file_is_missing_waits_for_its_file(label: LabelVersions, tmp_path: Path) -> None:
    """Who drew it must not be forgotten before a backup is put back."""
    for size in (2, 3, 4):
        label.save(Volume(mask(size), AFFINE), {"annotator": f"Ada {size}"})
    path = tmp_path / HISTORY / "final" / "a" / "0001.nii.gz"
    backup = path.read_bytes()
    path.unlink()
    with pytest.raises(DamagedVersionError, match="is missing or damaged: restore it from a backup"):
        label.read(1)
    label.recover()
    label.save(Volume(mask(5), AFFINE), {"annotator": "Bob"})
    path.write_bytes(backup)
    assert [version.annotator for version in LabelVersions(tmp_path, "a").all()] == ["Ada 2", "Ada 3", "Ada 4", "Bob"]
    assert label.read(1) == backup
