"""Labels of cines: several people submit phases, in any order, and nothing that anybody drew is lost or overwritten by a proposal."""

from __future__ import annotations

import json
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prato.data.cine import read_cine, write_cine
from prato.data.labels.names import LabelError
from prato.data.nifti import Volume, VolumeError, read_image, write_volume
from prato.evaluation.agreement import label_diff, study_agreement
from prato.labelling.importing import import_mask
from prato.labelling.mask_files import MaskOwner
from prato.labelling.merging import check_submission
from prato.labelling.phases import trusted_phases
from prato.labelling.records import LabelVersionError, OvertakenError
from prato.labelling.restoring import restore
from prato.labelling.versions import LabelVersions

AFFINE = np.diag([-1.5, -1.5, 8.0, 1.0])
SHAPE, PHASES = (6, 5, 2), 4


def drawing(seed: int) -> np.ndarray:
    """A mask of one phase that no other seed gives."""
    drawn = np.random.default_rng(seed).integers(0, 4, SHAPE).astype(np.uint8)
    drawn[0, 0, 0] = 1
    return drawn


def mask_of(**phases: int) -> np.ndarray:
    """A mask of all phases: ``p2=7`` is ``drawing(7)`` in phase 2."""
    mask = np.zeros((*SHAPE, PHASES), np.uint8)
    for name, seed in phases.items():
        mask[..., int(name[1:])] = drawing(seed)
    return mask


def open_label(folder: Path) -> LabelVersions:
    write_cine(folder / "a.nii.gz", np.ones((*SHAPE, PHASES), np.int16), AFFINE, step_ms=200)
    return LabelVersions(folder, "a")


@pytest.fixture
def label(tmp_path: Path) -> LabelVersions:
    return open_label(tmp_path)


def save(label: LabelVersions, mask: np.ndarray, **params: object):
    image = label.current_path().parents[2] / "a.nii.gz"
    return label.save(read_cine(image).grid().with_array(mask), params)


def states(label: LabelVersions) -> dict[int, tuple[str, str]]:
    current = label.current()
    assert current is not None
    return {number: (phase.state, phase.editor) for number, phase in sorted(current.phases.items())}


def current_mask(label: LabelVersions) -> np.ndarray:
    current = label.current()
    assert current is not None
    return label.read_volume(current.version).array


def test_two_phases_and_another_person_s_third_become_one_label(label: LabelVersions) -> None:
    save(label, mask_of(p0=1, p2=2), annotator="Ada", base_version=0, phases=[0, 2])
    saved = save(label, mask_of(p3=3), annotator="Ben", base_version=0, phases=[3])
    assert (saved.conflicts, saved.replaced) == ([], (3,))
    assert np.array_equal(current_mask(label), mask_of(p0=1, p2=2, p3=3))
    assert states(label) == {0: ("corrected", "Ada"), 2: ("corrected", "Ada"), 3: ("corrected", "Ben")}
    # the same phase: the later one is the label, and its annotator is told of the other
    saved = save(label, mask_of(p2=4, p1=9), annotator="Ben", base_version=0, phases=[2])
    assert [version.version for version in saved.conflicts] == [1]
    assert np.array_equal(current_mask(label), mask_of(p0=1, p2=4, p3=3))
    assert np.array_equal(label.read_volume(1).array, mask_of(p0=1, p2=2))


def test_a_whole_mask_that_names_no_phase_changes_those_that_were_changed(label: LabelVersions) -> None:
    save(label, mask_of(p0=1, p1=2), annotator="Ada")
    save(label, mask_of(p3=3), annotator="Ben", phases=3)
    # Ada began with version 1, and has never seen phase 3
    saved = save(label, mask_of(p0=1, p1=5), annotator="Ada", base_version=1)
    assert (saved.replaced, saved.conflicts) == ((1,), [])
    assert np.array_equal(current_mask(label), mask_of(p0=1, p1=5, p3=3))
    assert save(label, current_mask(label), annotator="Cy").version.version == 3  # nothing is new: no new version
    with pytest.raises(LabelVersionError, match="Phase 3 of the label for a is empty"):
        save(label, mask_of(p0=1, p1=5), annotator="Cy", base_version=3)


def test_what_was_removed_meanwhile_is_stored_whole_and_never_as_an_empty_label(
    label: LabelVersions, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn = mask_of(p0=1, p1=2)
    save(label, drawn, annotator="Ada")
    with monkeypatch.context() as patch:  # somebody removes the label between the two looks of one save
        patch.setattr(label, "_recover", lambda: label.current_path().unlink(missing_ok=True))
        assert save(label, drawn, annotator="Ben").replaced == (0, 1)
    assert np.array_equal(current_mask(label), drawn)
    label.remove("Cy")
    with pytest.raises(LabelVersionError, match="version 2 of the label of a, which is its label no longer: restore it"):
        save(label, drawn, annotator="Ben", base_version=2)
    assert label.current() is None and len(label.all()) == 2
    assert save(label, drawn, annotator="Ben", base_version=2, phases=[0, 1]).replaced == (0, 1)
    assert np.array_equal(current_mask(label), drawn)


def test_proposals_fill_what_nobody_drew(label: LabelVersions) -> None:
    save(label, mask_of(p1=1), annotator="Ada", phases=[1])
    sent = dict.fromkeys(map(str, range(PHASES)), "proposed")
    saved = save(label, mask_of(p0=5, p1=6, p2=7, p3=8), annotator="Ben", model_version="0123456789ab", phases=sent)
    assert (saved.replaced, saved.kept, saved.conflicts) == ((0, 2, 3), (1,), [])
    assert np.array_equal(current_mask(label), mask_of(p0=5, p1=1, p2=7, p3=8))
    assert states(label)[0] == ("proposed", "0123456789ab")
    current = label.current()
    assert current is not None
    assert trusted_phases(current.phases) == [1]
    saved = save(label, mask_of(p1=9), annotator="Ben", phases={"1": "proposed"})
    assert (saved.version, saved.replaced, saved.kept) == (current, (), (1,))


SUBMISSIONS = st.lists(
    st.tuples(
        st.sampled_from(["Ada", "Ben", "Cy"]),
        st.dictionaries(st.integers(0, PHASES - 1), st.sampled_from(["proposed", "corrected"]), min_size=1),
        st.booleans(),
        st.sampled_from(["nothing", "approved", "sent back"]),
    ),
    min_size=1,
    max_size=5,
)


@pytest.mark.slow
@given(SUBMISSIONS)
@settings(max_examples=20, deadline=None)
def test_nothing_drawn_is_overwritten_by_a_proposal_and_nothing_submitted_is_lost(turns) -> None:
    with TemporaryDirectory() as folder:
        label, before, drawn = open_label(Path(folder)), mask_of(), set()
        sent = []
        for seed, (who, phases, knows, decision) in enumerate(turns):
            mask = mask_of(**{f"p{n}": 10 * seed + n for n in range(PHASES)})  # others are not submitted, whatever they hold
            current = label.current()
            base = {"base_version": current.version if current else 0} if knows else {}
            saved = save(label, mask, annotator=who, phases={str(n): state for n, state in phases.items()}, **base)
            after = current_mask(label)
            for n in range(PHASES):
                is_replaced = n in phases and (phases[n] == "corrected" or n not in drawn)
                assert np.array_equal(after[..., n], (mask if is_replaced else before)[..., n])
                assert (n in saved.replaced, n in saved.kept) == (is_replaced, n in phases and not is_replaced)
            assert not (knows and saved.conflicts)
            sent += [(saved.version.version, n, mask[..., n]) for n in saved.replaced]
            drawn |= {n for n, state in phases.items() if state == "corrected"}
            if decision != "nothing" and drawn and trusted_phases(saved.version.phases):
                label.review(decision, {"annotator": "Dee", "reason": "the apex is missing"})  # changes no voxel
                assert np.array_equal(current_mask(label), after)
            before = after
        for number, n, voxels in sent:
            assert np.array_equal(label.read_volume(number).array[..., n], voxels)


@given(st.permutations(range(3)), st.booleans())
@settings(max_examples=6, deadline=None)
def test_the_order_of_submissions_of_different_phases_does_not_matter(order, names_phases) -> None:
    sent = [("Ada", {"p0": 1, "p1": 2}), ("Ben", {"p2": 3}), ("Cy", {"p3": 4})]
    with TemporaryDirectory() as folder:
        label = open_label(Path(folder))
        save(label, mask_of(p0=7, p1=7, p2=7, p3=7), phases=dict.fromkeys("0123", "proposed"))
        for turn in order:
            who, phases = sent[turn]
            named = {"phases": [int(name[1:]) for name in phases]} if names_phases else {}
            others = {f"p{n}": 7 for n in range(PHASES)}  # as they were when everybody began
            assert save(label, mask_of(**{**others, **phases}), annotator=who, base_version=1, **named).conflicts == []
        assert np.array_equal(current_mask(label), mask_of(p0=1, p1=2, p2=3, p3=4))
        assert states(label) == {n: ("corrected", who) for n, who in enumerate(["Ada", "Ada", "Ben", "Cy"])}


def test_who_looks_decides_and_what_was_replaced_meanwhile_is_looked_at_again(label: LabelVersions) -> None:
    save(label, mask_of(p0=1, p1=2), annotator="Ada")
    with pytest.raises(LabelVersionError, match="needs the reviewer's name"):
        label.review("approved", {})
    with pytest.raises(LabelVersionError, match="Phase 0 was drawn by Ada"):
        label.review("approved", {"annotator": "Ada"})
    with pytest.raises(LabelVersionError, match="only with a reason"):
        label.review("sent back", {"annotator": "Ben", "phases": 1})
    label.review("approved", {"annotator": "Ben", "phases": [0]})
    version = label.review("sent back", {"annotator": "Ben", "phases": 1, "reason": " the apex is missing "})
    assert version == label.current() == label.find(1)
    assert [(r.reviewer, r.decision, r.phases, r.reason) for r in version.reviews] == [
        ("Ben", "approved", (0,), None),
        ("Ben", "sent back", (1,), "the apex is missing"),
    ]
    assert states(label) == {0: ("final", "Ada"), 1: ("proposed", "Ada")}
    save(label, mask_of(p1=3), annotator="Ada", phases=1)
    assert states(label) == {0: ("final", "Ada"), 1: ("corrected", "Ada")}
    with pytest.raises(OvertakenError, match="Phase 1 was replaced by Ada in version 2"):
        label.review("approved", {"annotator": "Ben", "phases": 1, "base_version": 1})
    for seen in (0, 3, "2", True):
        with pytest.raises(LabelVersionError, match="base_version must be the number of the version that was reviewed, 1 to 2"):
            label.review("approved", {"annotator": "Ben", "base_version": seen})
    assert label.review("approved", {"annotator": "Ada"}, alone=True).phases[1].state == "final"


def test_versions_of_phases_are_compared_and_restored(label: LabelVersions, tmp_path: Path) -> None:
    save(label, mask_of(p0=1, p1=2), annotator="Ada")
    save(label, mask_of(p1=3, p2=4), annotator="Ben", phases=[1, 2])
    found = label_diff(label, 1, 2)
    assert set(found["phases"]) == {"1", "2"}
    assert found["changed_voxels"] == sum(phase["changed_voxels"] for phase in found["phases"].values()) > 0
    agreement = study_agreement(label)
    assert agreement["annotators"] == {"Ada": 1, "Ben": 2}
    assert [(pair["annotators"], pair["phase"]) for pair in agreement["pairs"]] == [(["Ada", "Ben"], 1)]
    saved = restore(label, 1, tmp_path / "a.nii.gz", {"annotator": "Cy", "phases": [1]})
    assert [version.version for version in saved.conflicts] == [2]
    assert np.array_equal(current_mask(label), mask_of(p0=1, p1=2, p2=4))
    assert states(label) == {0: ("corrected", "Ada"), 1: ("corrected", "Ada"), 2: ("corrected", "Ben")}
    restore(label, 1, tmp_path / "a.nii.gz", {"annotator": "Cy"})
    assert np.array_equal(current_mask(label), mask_of(p0=1, p1=2))
    assert set(states(label)) == {0, 1}


def test_a_file_put_into_the_folder_vouches_for_what_is_new_in_it(label: LabelVersions, tmp_path: Path) -> None:
    path = tmp_path / "labels" / "final" / "a.nii.gz"
    path.parent.mkdir(parents=True)
    write_cine(path, mask_of(p1=1), AFFINE)
    assert states(label) == {1: ("corrected", "unknown")}
    save(label, mask_of(p0=5, p2=6), phases={"0": "proposed", "2": "proposed"}, annotator="Ben")
    write_cine(path, mask_of(p0=5, p1=1, p2=9, p3=8), AFFINE)  # somebody corrected phase 2 and drew phase 3 in another program
    assert states(label) == {0: ("proposed", "Ben"), 1: ("corrected", "unknown"), 2: ("corrected", "unknown"), 3: ("corrected", "unknown")}
    save(label, mask_of(p3=3), annotator="Ben", phases=3)
    assert np.array_equal(current_mask(label), mask_of(p0=5, p1=1, p2=9, p3=3))
    assert [version.origin for version in label.all()] == ["found", "submitted", "found", "submitted"]


@pytest.mark.parametrize(
    ("shape", "params", "words"),
    [
        ((*SHAPE, 3), {}, "has 3 phases and its image 4 phases"),
        ((*SHAPE, 5), {"phases": [0]}, "has 5 phases and its image 4 phases"),
        (SHAPE, {}, "has one phase and its image 4 phases: send one mask of all phases, or a volume for one phase"),
        (SHAPE, {"phases": [0, 1]}, "has one phase and its image 4 phases"),
        ((*SHAPE, 1), {}, "has one phase and its image 4 phases"),
        ((6, 5, 3, PHASES), {}, "has 6x5x3 voxels and its image 6x5x2"),
        ((6, 5, 3), {"phases": 1}, "has 6x5x3 voxels and its image 6x5x2"),
        (SHAPE, {"phases": 4}, "The image has phases 0 to 3: there is no phase 4"),
    ],
)
def test_a_label_of_other_phases_than_its_image_is_refused(tmp_path: Path, shape, params, words) -> None:
    open_label(tmp_path)
    grid, sent = read_cine(tmp_path / "a.nii.gz").grid(), Volume(np.ones(shape, np.uint8).squeeze(), AFFINE)
    with pytest.raises((LabelError, LabelVersionError), match=words):
        check_submission(grid, sent, "The label for a", params)


def test_phases_of_an_imported_mask_join_those_that_are_there(label: LabelVersions, tmp_path: Path) -> None:
    save(label, mask_of(p3=3), annotator="Ada")
    names = {"3": "RV cavity", "2": "myocardium", "1": "LV cavity"}
    write_cine(tmp_path / "a_gt.nii.gz", mask_of(p0=1, p2=2), AFFINE)
    assert import_mask(tmp_path / "a.nii.gz", MaskOwner("a"), tmp_path / "a_gt.nii.gz", names, {"annotator": "Cy"})
    assert not import_mask(tmp_path / "a.nii.gz", MaskOwner("a"), tmp_path / "a_gt.nii.gz", names, {"annotator": "Cy"})
    swapped = np.array([0, 3, 2, 1], np.uint8)
    assert np.array_equal(current_mask(label), swapped[mask_of(p0=1, p2=2)] + mask_of(p3=3))
    assert states(label) == {0: ("corrected", "Cy"), 2: ("corrected", "Cy"), 3: ("corrected", "Ada")}


def test_phases_that_an_imported_mask_holds_as_they_were_stay_whose_and_what_they_are(label: LabelVersions, tmp_path: Path) -> None:
    """Whoever corrects one phase in another program takes nobody's approval away by that."""
    save(label, mask_of(p0=1, p2=2, p3=3), annotator="Ada")
    label.review("approved", {"annotator": "Bob", "phases": [0, 2]})
    write_cine(tmp_path / "a_gt.nii.gz", mask_of(p0=1, p2=2, p3=1), AFFINE)
    names = {"1": "RV cavity", "2": "myocardium", "3": "LV cavity"}
    assert import_mask(tmp_path / "a.nii.gz", MaskOwner("a"), tmp_path / "a_gt.nii.gz", names, {"annotator": "Cy"}) == {3: "corrected"}
    assert states(label) == {0: ("final", "Ada"), 2: ("final", "Ada"), 3: ("corrected", "Cy")}


def test_a_mask_of_one_phase_is_that_phase_s(label: LabelVersions, tmp_path: Path) -> None:
    save(label, mask_of(p3=3), annotator="Ada")
    names = {"1": "RV cavity", "2": "myocardium", "3": "LV cavity"}
    write_volume(tmp_path / "a_frame03.nii.gz", mask_of(p2=1)[..., 2], AFFINE)
    taken = import_mask(tmp_path / "a.nii.gz", MaskOwner("a", 2), tmp_path / "a_frame03.nii.gz", names, {"annotator": "Cy"})
    assert taken == {2: "corrected"} and np.array_equal(current_mask(label), mask_of(p2=1, p3=3))
    assert states(label) == {2: ("corrected", "Cy"), 3: ("corrected", "Ada")}
    refused = (
        (4, "a_frame03.nii.gz", "the last is called frame04"),
        (2, "a.nii.gz", "It is 4D"),
        (None, "a_frame03.nii.gz", "a_frame01 for"),
    )
    for phase, path, words in refused:
        with pytest.raises(VolumeError, match=words):
            import_mask(tmp_path / "a.nii.gz", MaskOwner("a", phase), tmp_path / path, names, {"annotator": "Cy"})


def test_imported_phases_that_are_still_the_model_s_stay_proposals(label: LabelVersions, tmp_path: Path) -> None:
    """The model would be trained, and measured, on its own masks."""
    (tmp_path / "labels" / "original").mkdir(parents=True, exist_ok=True)
    write_cine(tmp_path / "labels" / "original" / "a.nii.gz", mask_of(p0=1, p1=1, p2=1, p3=1), AFFINE)
    names = {"1": "RV cavity", "2": "myocardium", "3": "LV cavity"}
    path = tmp_path / "a_gt.nii.gz"

    def take(mask: np.ndarray, accept_proposals: bool = False) -> dict[int, str]:
        write_cine(path, mask, AFFINE)
        return dict(import_mask(tmp_path / "a.nii.gz", MaskOwner("a"), path, names, {"annotator": "Cy"}, accept_proposals))

    with pytest.raises(LabelError, match="equals the model's proposal"):
        take(mask_of(p0=1, p1=1, p2=1, p3=1))
    assert label.current() is None
    proposal = {"labels": {"original": {"info": {"model": "prato_unetr", "model_version": "0123456789ab"}}}}
    (tmp_path / "datastore_v2.json").write_text(json.dumps({"objects": {"a": proposal}}))
    assert take(mask_of(p0=2, p1=1, p2=3, p3=1)) == {0: "corrected", 1: "proposed", 2: "corrected", 3: "proposed"}
    assert trusted_phases(label.current().phases) == [0, 2]
    assert (label.current().params["model"], label.current().phases[1].editor) == ("prato_unetr", "0123456789ab")
    assert take(mask_of(p0=2, p1=1, p2=3, p3=1)) == {}
    with pytest.raises(LabelError, match="equals the model's proposal"):
        take(mask_of(p0=1, p1=1, p2=3, p3=1))
    assert take(mask_of(p0=1, p1=1, p2=3, p3=1), accept_proposals=True) == {0: "corrected", 1: "corrected", 3: "corrected"}


def test_a_volume_is_taken_for_the_phase_that_is_named(label: LabelVersions, tmp_path: Path) -> None:
    grid = read_cine(tmp_path / "a.nii.gz").grid()
    flipped = Volume(drawing(5)[::-1], AFFINE @ np.array([[-1, 0, 0, 5], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1.0]]))
    mask = check_submission(grid, flipped, "The label for a", {"phases": {"2": "corrected"}})
    assert np.array_equal(mask, mask_of(p2=5))
    label.save(grid.with_array(mask), {"annotator": "Ada", "phases": {"2": "corrected"}})
    stored = read_image(tmp_path / "labels" / "final" / "a.nii.gz")
    assert stored.shape == (*SHAPE, PHASES)
    assert np.array_equal(np.asanyarray(stored.dataobj), mask_of(p2=5))
