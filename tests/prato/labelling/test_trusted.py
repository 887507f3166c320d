"""What a labeller vouches for is used, and nothing else."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from prato.data.cases import StudyReader, load_training_cases, read_label_file
from prato.data.cine import read_cine, write_cine
from prato.data.nifti import Volume, VolumeError, read_volume, write_volume
from prato.data.studies.folder import StudyFile, find_labelled_studies
from prato.labelling.trusted import find_trusted_phases
from prato.labelling.versions import LabelVersions
from prato.phantom.beat import make_beat


@pytest.fixture(scope="module")
def beat():
    return make_beat(1, 1, phases=4)


@pytest.fixture
def studies(tmp_path: Path, beat) -> Path:
    """A volume and a cine of one generated patient, without labels."""
    write_cine(tmp_path / "p_4d.nii.gz", beat.images, beat.affine, step_ms=200)
    write_volume(tmp_path / "p_ED.nii.gz", beat.images[..., 0], beat.affine)
    return tmp_path


def trusted(studies: Path) -> tuple[list[tuple[str, int | None]], list[str]]:
    found, left_out = find_trusted_phases(find_labelled_studies(studies))
    return [(file.study, file.phase) for file in found], list(left_out)


@pytest.mark.slow
def test_corrected_and_final_phases_are_used_and_proposals_are_not(studies: Path, beat) -> None:
    label, grid = LabelVersions(studies, "p_4d"), read_cine(studies / "p_4d.nii.gz").grid().with_array(beat.labels)
    label.save(grid, {"annotator": "a model", "phases": dict.fromkeys("0123", "proposed")})
    assert trusted(studies) == ([], ["p_4d"])
    label.save(grid, {"annotator": "Ada", "phases": [1, 3]})
    label.review("approved", {"annotator": "Ben", "phases": [3]})
    assert trusted(studies) == ([("p_4d", 1), ("p_4d", 3)], [])
    label.review("sent back", {"annotator": "Ben", "phases": [1], "reason": "the apex is missing"})
    assert trusted(studies) == ([("p_4d", 3)], [])


def test_a_volume_is_a_cine_of_one_phase(studies: Path, beat) -> None:
    label = LabelVersions(studies, "p_ED")
    label.save(read_volume(studies / "p_ED.nii.gz").with_array(beat.labels[..., 0]), {"annotator": "Ada"})
    assert trusted(studies) == ([("p_ED", None)], [])
    label.review("sent back", {"annotator": "Ben", "reason": "the apex is missing"})
    assert trusted(studies) == ([], ["p_ED"])


@pytest.mark.slow
def test_labels_put_into_the_folder_are_used_where_they_hold_a_structure(studies: Path, beat) -> None:
    (studies / "labels" / "final").mkdir(parents=True)
    mask = beat.labels.copy()
    mask[..., [0, 2]] = 0
    write_cine(studies / "labels" / "final" / "p_4d.nii.gz", mask, beat.affine)
    write_volume(studies / "labels" / "final" / "p_ED.nii.gz", beat.labels[..., 0], beat.affine)
    assert trusted(studies) == ([("p_4d", 1), ("p_4d", 3), ("p_ED", None)], [])
    loaded, left_out = load_training_cases(find_trusted_phases(find_labelled_studies(studies))[0], 3.0)
    assert ([file.name for file, _ in loaded], left_out) == (["p_4d phase 1", "p_4d phase 3", "p_ED"], {})
    assert {case.patient for _, case in loaded} == {"p"}
    assert all(case.source == "anatomy" for _, case in loaded)


@pytest.mark.parametrize(
    ("is_empty", "words"), [(True, "The label for p_4d phase 0 is empty"), (False, "The label p_4d.nii.gz is not readable")]
)
def test_of_a_cine_s_label_that_cannot_be_used_the_reason_is_about_the_label(studies: Path, beat, is_empty: bool, words: str) -> None:
    path = studies / "labels" / "final" / "p_4d.nii.gz"
    path.parent.mkdir(parents=True)
    write_cine(path, np.zeros_like(beat.labels), beat.affine) if is_empty else path.write_bytes(b"no label")
    loaded, left_out = load_training_cases(find_trusted_phases(find_labelled_studies(studies))[0], 3.0)
    assert not loaded and words in left_out["p_4d phase 0"]


@pytest.mark.slow
def test_the_phases_of_a_cine_are_read_once(studies: Path, beat, monkeypatch: pytest.MonkeyPatch) -> None:
    (studies / "labels" / "final").mkdir(parents=True)
    write_cine(studies / "labels" / "final" / "p_4d.nii.gz", beat.labels, beat.affine)
    files, reader, reads = find_trusted_phases(find_labelled_studies(studies))[0], StudyReader(), []
    monkeypatch.setattr("prato.data.cases.read_cine", lambda path: reads.append(path) or read_cine(path))
    for file in files:
        image, label = reader.read(file)
        assert np.array_equal(image.array, beat.images[..., file.phase])
        assert np.array_equal(label.mask, beat.labels[..., file.phase])
    assert len(reads) == 1
    with pytest.raises(VolumeError, match="cannot name 9"):
        reader.read(StudyFile("p_4d", "p", files[0].image, files[0].label, 9))


@pytest.mark.slow
def test_a_phase_whose_cavities_are_swapped_is_left_out_and_the_others_are_not(studies: Path, beat) -> None:
    (studies / "labels" / "final").mkdir(parents=True)
    mask = beat.labels.copy()
    mask[..., 2] = np.array([0, 3, 2, 1], np.uint8)[mask[..., 2]]
    write_cine(studies / "labels" / "final" / "p_4d.nii.gz", mask, beat.affine)
    loaded, left_out = load_training_cases(find_trusted_phases(find_labelled_studies(studies))[0], 3.0)
    assert [file.phase for file, _ in loaded] == [0, 1, 3]
    assert "The label for p_4d phase 2 cannot be right: RV and LV cavity seem to be swapped" in left_out["p_4d phase 2"]


def test_a_stored_label_that_was_removed_a_moment_ago_is_told_as_one_that_cannot_be_read(tmp_path: Path) -> None:
    """By a labeller, while a training or an evaluation goes through the labels that it found at its start."""
    image = Volume(np.zeros((4, 4, 2), np.int16), np.diag([1.5, 1.5, 8.0, 1.0]))
    LabelVersions(tmp_path, "a").save(image.with_array(np.ones((4, 4, 2), np.uint8)), {"annotator": "Ada"})
    label = tmp_path / "labels" / "final" / "a.nii.gz"
    read_label_file(label, image)
    LabelVersions(tmp_path, "a").remove("Ada")
    with pytest.raises(VolumeError, match=r"a\.nii\.gz"):
        read_label_file(label, image)
