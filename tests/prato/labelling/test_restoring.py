"""Versions that are restored: as what they mean, and in the state that reviewers gave to the very same drawing last."""

from __future__ import annotations

import json
from contextlib import nullcontext
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prato.data.cine import read_cine, write_cine
from prato.data.nifti import Volume, read_volume, write_volume
from prato.data.structures import STRUCTURES, voxel_counts
from prato.evaluation.agreement import label_diff
from prato.labelling.records import LabelVersionError, UnknownVersionError
from prato.labelling.restoring import convert_found_label, restore
from prato.labelling.versions import LabelVersions
from tests.app.hearts import heart
from tests.app.live import write_study
from tests.prato.labelling.test_cine_labels import AFFINE, PHASES, current_mask, drawing, mask_of, open_label, save, states

RV, MYO, LV = STRUCTURES.values()
STOCK = [{"name": "LV", "idx": 1}, {"name": "MYO", "idx": 2}, {"name": "RV", "idx": 3}]
SWAPPED = np.array([0, LV, MYO, RV], np.uint8)[heart()]


def found_stock_label(folder: Path) -> LabelVersions:
    """A study a whose label numbers LV 1 and RV 3, as the list of a stock server says."""
    affine = read_volume(write_study(folder / "a.nii.gz", seed=0)).affine
    (folder / "labels" / "final").mkdir(parents=True)
    write_volume(folder / "labels" / "final" / "a.nii.gz", SWAPPED, affine)
    labels = {"final": {"ext": ".nii.gz", "info": {"label_info": STOCK}}}
    listed = {"objects": {"a": {"image": {"ext": ".nii.gz", "info": {}}, "labels": labels}}}
    (folder / "datastore_v2.json").write_text(json.dumps(listed))
    return LabelVersions(folder, "a")


def test_a_found_version_is_restored_and_compared_as_what_its_names_say(tmp_path: Path) -> None:
    label = found_stock_label(tmp_path)
    found = label.current()
    assert found is not None and found.voxels == voxel_counts(heart())
    convert_found_label(label, tmp_path / "a.nii.gz")
    (tmp_path / "datastore_v2.json").unlink()  # from now on the record alone knows
    assert restore(label, 1, tmp_path / "a.nii.gz", {"annotator": "Ada"}).version.voxels == voxel_counts(heart())
    for number in (1, 2, 3):
        assert np.array_equal(label.read_mask(number).array, heart())
        assert label_diff(label, 1, number)["changed_voxels"] == 0
        assert label.find(number).voxels == voxel_counts(heart())
    assert np.array_equal(label.read_volume(1).array, SWAPPED)  # the file itself is kept as it was


@pytest.mark.parametrize("is_removed", [False, True])
def test_what_replaces_a_found_label_while_it_is_converted_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_removed: bool) -> None:
    label = found_stock_label(tmp_path)
    drawn, real = np.roll(heart(), 1, 0), LabelVersions.read_mask

    def read_meanwhile(self: LabelVersions, number: int, grid: Volume | None = None) -> Volume:
        monkeypatch.undo()
        found = real(self, number, grid)
        if is_removed:
            label.remove()
        else:
            label.save(found.with_array(drawn), {"annotator": "Ada"})
        return found

    monkeypatch.setattr(LabelVersions, "read_mask", read_meanwhile)
    with pytest.raises(UnknownVersionError, match="was removed") if is_removed else nullcontext():
        convert_found_label(label, tmp_path / "a.nii.gz")
    assert label.current() is None if is_removed else np.array_equal(current_mask(label), drawn)
    assert [version.origin for version in label.all()] == (["found"] if is_removed else ["found", "submitted"])


def write_turned(label: LabelVersions, mask: np.ndarray, axes: tuple[bool, bool, bool]) -> None:
    """``mask`` as the file of ``label``, as another program saves it that counts some of the ``axes`` from their other end."""
    affine = AFFINE.copy()
    for axis, is_reversed in enumerate(axes):
        if is_reversed:
            affine[:3, 3] += (mask.shape[axis] - 1) * affine[:3, axis]
            affine[:3, axis] *= -1
            mask = np.flip(mask, axis)
    label.current_path().parent.mkdir(parents=True, exist_ok=True)
    write_cine(label.current_path(), np.ascontiguousarray(mask), affine, 200)


@given(st.tuples(st.booleans(), st.booleans(), st.booleans()), st.integers(0, PHASES - 1))
@settings(max_examples=8, deadline=None)
def test_phases_that_another_program_saved_with_turned_axes_keep_their_state(axes: tuple[bool, bool, bool], corrected: int) -> None:
    with TemporaryDirectory() as name:
        label, drawn = open_label(Path(name)), mask_of(p0=1, p1=2, p2=3, p3=4)
        save(label, drawn, annotator="Ada", phases={"0": "corrected", "1": "corrected", "2": "proposed", "3": "proposed"})
        label.review("approved", {"annotator": "Cy", "phases": [0]})
        label.review("sent back", {"annotator": "Cy", "phases": [1], "reason": "the apex is missing"})
        before = states(label)
        drawn[..., corrected] = drawing(9)
        write_turned(label, drawn, axes)
        for _ in range(2):  # as it was found, and once it is converted
            assert states(label) == before | {corrected: ("corrected", "unknown")}
            convert_found_label(label, Path(name) / "a.nii.gz")
        assert np.array_equal(current_mask(label), drawn)
        current = label.current()
        assert current is not None and {n: phase.version for n, phase in current.phases.items()} == dict.fromkeys(range(4), 1) | {
            corrected: 2
        }
        again = mask_of(**{f"p{n}": 20 for n in range(PHASES)})
        others = [n for n in range(PHASES) if n != corrected]
        assert save(label, again, annotator="Ada", base_version=1, phases=others).conflicts == []
        assert [v.version for v in save(label, again, annotator="Ada", base_version=1, phases=corrected).conflicts] == [2]


def test_a_phase_that_was_sent_back_is_not_restored_as_final(tmp_path: Path) -> None:
    label, image = open_label(tmp_path), tmp_path / "a.nii.gz"
    save(label, mask_of(p0=1, p1=2), annotator="Ada")
    label.review("approved", {"annotator": "Cy", "phases": [0]})
    save(label, mask_of(p3=3), annotator="Bob", phases=3)
    label.review("sent back", {"annotator": "Cy", "phases": [0], "reason": "the apex is missing"})
    label.review("approved", {"annotator": "Cy", "phases": [1]})
    restored = restore(label, 1, image, {"annotator": "Ada", "phases": [0, 1]}).version
    assert (restored.phases[0].state, restored.phases[0].reason, restored.phases[0].approved_by) == (
        "proposed",
        "the apex is missing",
        None,
    )
    assert (restored.phases[1].state, restored.phases[1].approved_by) == ("final", "Cy")
    # the copy is reviewed, and then the version that it is a copy of is restored again
    label.review("sent back", {"annotator": "Dee", "phases": [1], "reason": "the valve is in it"})
    assert restore(label, 1, image, {"annotator": "Ada"}).version.phases[1].reason == "the valve is in it"


@pytest.mark.parametrize("base", [None, 1])
def test_whose_phases_are_restored_as_they_are_has_lost_nothing(tmp_path: Path, base: int | None) -> None:
    label, image = open_label(tmp_path), tmp_path / "a.nii.gz"
    save(label, mask_of(p0=1, p1=2), annotator="Ada")
    save(label, mask_of(p1=3), annotator="Bob", phases=1)
    save(label, mask_of(p3=4), annotator="Bob", phases=3)
    saved = restore(label, 1, image, {"annotator": "Cy", "base_version": base})
    assert [version.version for version in saved.conflicts] == [2, 3]  # phase 0 is Ada's drawing, before and after
    saved = restore(label, 1, image, {"annotator": "Dee", "phases": [0, 1], "base_version": base})
    assert [version.version for version in saved.conflicts] == []


DECISIONS = st.lists(st.tuples(st.sampled_from(["draw", "approved", "sent back", "restore"]), st.integers(0, 9)), max_size=8)


@pytest.mark.slow
@given(DECISIONS)
@settings(max_examples=25, deadline=None)
def test_only_a_reviewer_changes_the_state_of_a_drawing(turns: list[tuple[str, int]]) -> None:
    with TemporaryDirectory() as name:
        label = open_label(Path(name))
        save(label, mask_of(p0=100), annotator="Ada", phases=0)
        decided = {drawing(100).tobytes(): "corrected"}
        for seed, (turn, which) in enumerate(turns):
            shown = current_mask(label)[..., 0].tobytes()
            if turn == "draw":
                shown = drawing(seed).tobytes()
                save(label, mask_of(p0=seed), annotator="Ada", phases=0)
                decided[shown] = "corrected"
            elif turn == "restore":
                number = label.all()[which % len(label.all())].version
                restore(label, number, Path(name) / "a.nii.gz", {"annotator": "Bob"})
                shown = label.read_volume(number).array[..., 0].tobytes()
            elif decided[shown] != "proposed":
                label.review("approved" if turn == "approved" else "sent back", {"annotator": "Cy", "reason": "no apex"})
                decided[shown] = "final" if turn == "approved" else "proposed"
            assert states(label)[0] == (decided[shown], "Ada")


def test_a_phase_that_a_version_does_not_have_is_not_restored_from_it(tmp_path: Path) -> None:
    label = open_label(tmp_path)
    save(label, mask_of(p0=1), annotator="Ada")
    save(label, mask_of(p3=3), annotator="Bob", phases=3)
    label.review("approved", {"annotator": "Cy"})
    with pytest.raises(LabelVersionError, match=r"^Version 1 has no phase 3: name phases that it has \(0\)\.$"):
        restore(label, 1, tmp_path / "a.nii.gz", {"annotator": "Dee", "phases": [0, 3]})
    assert len(label.all()) == 2 and states(label)[3] == ("final", "Bob")


@pytest.mark.parametrize("base", [None, 2])
@pytest.mark.parametrize("phases", [3, 1])
def test_whoever_submits_to_an_image_that_was_replaced_is_told_whose_phases_are_dropped(
    tmp_path: Path, phases: int, base: int | None
) -> None:
    label = open_label(tmp_path)
    save(label, mask_of(p0=1), annotator="Ada", phases=0)
    save(label, mask_of(p3=3, p2=4), annotator="Bob", phases={"2": "proposed", "3": "corrected"})
    shape = (*drawing(0).shape, phases)[: 4 if phases > 1 else 3]
    write = write_cine if phases > 1 else write_volume
    write(tmp_path / "a.nii.gz", np.ones(shape, np.int16), AFFINE)
    mask = np.zeros(shape, np.uint8)
    mask[(..., 1) if phases > 1 else ...] = drawing(5)
    saved = label.save(read_cine(tmp_path / "a.nii.gz").grid().with_array(mask), {"annotator": "Ada", "base_version": base})
    assert [version.version for version in saved.conflicts] == [1, 2]
    assert (saved.dropped, set(saved.version.phases)) == ((0, 2, 3), {1 if phases > 1 else 0})
    assert len({*saved.replaced}) == 1
