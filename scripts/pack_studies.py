"""Copy labelled studies as training sees them: resampled in plane, cut about the middle, in 8 bits; small enough to carry elsewhere."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from torch import Tensor
from tqdm import tqdm

from prato.data.cases import TrainingCase, load_training_case
from prato.data.nifti import VolumeError, read_volume, write_volume
from prato.data.studies.folder import StudyFile, find_files, find_labelled_studies, load_manifest, save_manifest
from prato.data.studies.label_records import HISTORY
from prato.data.view import network_view
from prato.data.wording import counted
from prato.function.hearts import LABELS
from prato.labelling.trusted import find_trusted_phases
from prato.models.registry import PIXEL
from scripts.common.paths import check_writable
from scripts.common.refusals import refuses_in_one_sentence


@refuses_in_one_sentence
def main(
    studies: Annotated[Path, typer.Option(help="Studies folder with labels/final.")],
    out: Annotated[Path, typer.Option(help="The folder to make; it is a studies folder, too.")],
    edge: Annotated[int, typer.Option(min=32, help="Maximum number of pixels along each side of a slice.")] = 208,
) -> None:
    """Write every labelled study, under its own name, at the networks' resolution, so that loading it for training resamples nothing.

    Grey values keep steps of a 255th of the range between the percentiles that training clips at. Studies that are there already stay,
    unless their image or label has changed since, or cannot be used any more, and nobody has labelled them there. Exit code 1: some were
    left out.
    """
    if out.resolve() == studies.resolve():
        raise ValueError("--out must be another folder than --studies.")
    check_writable(out, is_folder=True)
    files = find_labelled_studies(studies)
    if not files:
        raise ValueError(f"{studies} has no labelled studies: labels belong in its folder labels/final.")
    (out / LABELS).mkdir(parents=True, exist_ok=True)
    manifest = load_manifest(studies)
    if manifest:
        save_manifest(out, manifest)
    usable, left_out = find_trusted_phases(files)
    left_out |= {file.study: "it is a cine: import it as single phases." for file in usable if file.phase is not None}
    new = 0
    for file in tqdm([file for file in usable if file.phase is None and not _is_packed(out, file)], unit="study"):
        times = _times(file.image, file.label)  # before they are read: what changes meanwhile is packed again
        try:
            case = load_training_case(file, PIXEL)
        except VolumeError as error:
            left_out[file.study] = str(error)
            continue
        if case is None:
            left_out[file.study] = "its label is empty."
            continue
        packed = _packed(file, case, edge)
        for path, array, time in zip(_copies(out, file.study), (packed.image, packed.label), times):  # a study with a label is whole
            write_volume(path, array, packed.affine)
            os.utime(path, ns=(time, time))
        new += 1
    for study, reason in left_out.items():
        typer.echo(f"{study} is left out: {reason}", err=True)
    # a copy of what was sent back, emptied or removed since must not be trained on, either
    for study in {*left_out, *find_files(studies).files} - {file.study for file in files if file.study not in left_out}:
        if not _is_labelled_here(out, study):
            _copies(out, study)[1].unlink(missing_ok=True)
    there = sum((out / LABELS / f"{file.study}.nii.gz").exists() for file in files)
    typer.echo(f"{there} of {counted(len(files), 'study is', 'studies are')} in {out}, {new} of them new.")
    if left_out:
        raise typer.Exit(1)


def _is_packed(out: Path, file: StudyFile) -> bool:
    """Whether ``out`` holds ``file`` as it is now, or with a label that somebody has drawn there."""
    copies = _copies(out, file.study)
    if _is_labelled_here(out, file.study) and copies[1].exists():
        return True
    return all(path.exists() for path in copies) and _times(*copies) == _times(file.image, file.label)


def _copies(out: Path, study: str) -> tuple[Path, Path]:
    """Of a study's image and label, both as old as what they were made of."""
    return out / f"{study}.nii.gz", out / LABELS / f"{study}.nii.gz"


def _times(*paths: Path) -> list[int]:
    return [path.stat().st_mtime_ns for path in paths]


def _is_labelled_here(out: Path, study: str) -> bool:
    return (out / HISTORY / LABELS.name / study).exists()


@dataclass(frozen=True)
class _Packed:
    """uint8 (X, Y, Z) image and label, and the affine from their voxels to mm."""

    image: np.ndarray
    label: np.ndarray
    affine: np.ndarray


def _packed(file: StudyFile, case: TrainingCase, edge: int) -> _Packed:
    image = read_volume(file.image)
    # as networks see it, with the slices last: at the coarser pixels, thin slices that lie along another axis would not be found any more
    seen = network_view(image).apply_to(image)
    # as many pixels go on both sides, so that the middle stays the middle
    sizes = [min(n, edge - (n - edge) % 2) for n in case.image.shape[1:]]
    starts = [(n - size) // 2 for n, size in zip(case.image.shape[1:], sizes)]
    step, first = np.ones(3), np.zeros(3)  # in voxels as seen: between the centres of pixels, and that of the first of them
    for a, (pixels, start, size) in enumerate(zip(case.image.shape[1:], starts, sizes)):
        # within what is rounded to as many pixels when it is loaded
        rounded = PIXEL / seen.spacing[a] * (1 + np.array((-0.499, 0.499)) / size)
        step[a] = np.clip(seen.array.shape[a] / pixels, *rounded)
        first[a] = (start + 0.5) * step[a] - 0.5
    affine = seen.affine @ np.vstack([np.column_stack([np.diag(step), first]), (0, 0, 0, 1)])
    parts = [slice(start, start + size) for start, size in zip(starts, sizes)]

    def stored(slices: Tensor) -> np.ndarray:
        return np.ascontiguousarray(slices[:, parts[0], parts[1]].permute(1, 2, 0).numpy())

    return _Packed(_grey(stored(case.image.float())), stored(case.label), affine)


def _grey(image: np.ndarray) -> np.ndarray:
    """uint8 of values in [-1, 1]; so many become 0 and 255 that these are the percentiles at which loading clips."""
    tail = int(np.ceil(0.005 * image.size)) + 1
    low, high = np.partition(image.ravel(), (tail, image.size - 1 - tail))[[tail, image.size - 1 - tail]]
    grey = np.rint((image + 1) * 127.5)
    return np.where(image <= low, 0, np.where(image >= high, 255, grey)).astype(np.uint8)


if __name__ == "__main__":
    typer.run(main)
