"""A cine holds as many different frames as were requested, and its boxes hold the heart."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from prato.data.nifti import read_volume, write_volume
from prato.data.studies.folder import StudyFile
from scripts.bench.cines import write_cines


@pytest.fixture
def frames(tmp_path: Path) -> list[StudyFile]:
    """The two labelled frames of one patient, uint8, 6 slices; the heart is smaller in the second one, and from slice to slice."""
    rng, files = np.random.default_rng(0), []
    for name, edge in (("p_ED", 8), ("p_ES", 6)):
        label = np.zeros((30, 24, 6), dtype=np.uint8)
        for z in range(6):
            label[10 : 10 + edge - z, 9 : 9 + edge - z, z] = 1
        paths = tmp_path / f"{name}.nii.gz", tmp_path / f"{name}_label.nii.gz"
        for path, array in zip(paths, (rng.integers(0, 255, label.shape).astype(np.uint8), label)):
            write_volume(path, array, np.diag([1.5, 1.5, 8.0, 1.0]))
        files.append(StudyFile(name, "p", *paths))
    return files


def test_frames_differ_and_boxes_hold_the_heart(frames: list[StudyFile], tmp_path: Path) -> None:
    (cine,) = write_cines(frames, tmp_path, 4, 30, 1)
    stacks = [read_volume(tmp_path / f"{study}.nii.gz").array for study in cine.stacks]
    assert len({stack.tobytes() for stack in stacks}) == 30
    assert {(stack.shape, stack.dtype) for stack in stacks} == {((30, 24, 4), np.dtype(np.uint8))}
    middle = read_volume(tmp_path / f"{cine.slice}.nii.gz").array
    assert all(np.array_equal(middle[..., frame], stack[..., 2]) for frame, stack in enumerate(stacks))
    assert (cine.stack_box.start, cine.stack_box.stop) == ((10, 9, 0), (18, 17, 4))
    assert (cine.slice_box.start, cine.slice_box.stop) == ((10, 9, 0), (16, 15, 30))


def test_too_few_patients_are_refused(frames: list[StudyFile], tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="1 patients have two labelled frames"):
        write_cines(frames, tmp_path, 4, 30, 2)
