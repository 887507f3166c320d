"""Cines for timing: the frames between the two labelled ones of a heartbeat, which ACDC's labelled studies leave out, blended from them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tqdm import tqdm

from prato.data.cases import read_label
from prato.data.nifti import read_volume, write_volume
from prato.data.studies.folder import StudyFile
from prato.prompts.box import Box


@dataclass(frozen=True)
class Cine:
    """A heartbeat as studies of a folder.

    Attributes:
        slice: the study that holds all frames of the middle slice, as one stack.
        stacks: a study for each frame, in order.
        slice_box, stack_box: round the hearts of both labelled frames, on those studies.
    """

    slice: str
    slice_box: Box
    stacks: list[str]
    stack_box: Box


def write_cines(files: list[StudyFile], served: Path, slices: int, frames: int, count: int) -> list[Cine]:
    """Write the cines of the first ``count`` patients of ``files``, of ``frames`` frames of ``slices`` slices, into the folder ``served``.

    Raises:
        ValueError: fewer patients than that have two frames of one shape.
        VolumeError: a study cannot be read.
    """
    of_patient: dict[str, list[StudyFile]] = {}
    for file in files:
        of_patient.setdefault(file.patient, []).append(file)
    pairs = [found[:2] for found in of_patient.values() if len({read_volume(f.image).array.shape for f in found[:2]}) == 1 < len(found)]
    if len(pairs) < count:
        raise ValueError(f"{len(pairs)} patients have two labelled frames of at least {slices} slices, and the cines need {count}.")
    return [_cine(pair, served, slices, frames) for pair in tqdm(pairs[:count], desc="preparing", unit="cine")]


def _cine(pair: list[StudyFile], served: Path, slices: int, frames: int) -> Cine:
    first, last = (read_volume(file.image) for file in pair)
    start, end = (volume.array[..., :slices].astype(np.float32) for volume in (first, last))
    heart = (read_label(pair[0].label, first) | read_label(pair[1].label, last))[..., :slices] > 0
    # a quarter of a frame off, so that no frame on the way back is one of those on the way out
    shares = 1 - np.abs(2 * (np.arange(frames) + 0.25) / frames - 1)
    stacks = [np.rint((1 - share) * start + share * end).astype(first.array.dtype) for share in shares]
    names = [f"{pair[0].patient}_cine{frame:02d}" for frame in range(frames)]
    for name, stack in zip(names, stacks):
        write_volume(served / f"{name}.nii.gz", stack, first.affine)
    middle, of_slice = slices // 2, f"{pair[0].patient}_cine_slice"
    write_volume(served / f"{of_slice}.nii.gz", np.stack([stack[..., middle] for stack in stacks], axis=2), first.affine)
    return Cine(of_slice, _in_plane(heart[..., middle : middle + 1], frames), names, _in_plane(heart, slices))


def _in_plane(heart: np.ndarray, depth: int) -> Box:
    """The box round ``heart`` (bool, X, Y, Z) in plane, over all of ``depth`` slices."""
    around = Box.around(heart) or Box.whole(heart.shape)
    return Box((*around.start[:2], 0), (*around.stop[:2], depth))
