"""The official ACDC folder (Bernard et al., TMI 2018), read and checked: which patients and frames it holds, and whether they are complete.

``patientNNN/`` holds ``Info.cfg`` (ED and ES frame, counted from 1), ``patientNNN_frameMM.nii.gz`` with its expert label
``patientNNN_frameMM_gt.nii.gz`` for those two frames, and the cine ``patientNNN_4d.nii.gz``.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import nibabel as nib
import numpy as np

from prato.data.cine import cine_bytes, read_cine
from prato.data.nifti import Volume, VolumeError, nifti_bytes, read_image, volume_from_image
from prato.data.structures import NUM_CLASSES
from prato.data.studies.folder import Study

Frames = Literal["ed,es", "all", "cine"]
_PATIENT = re.compile(r"patient\d+")
_PLACES = (".", "training", "testing", "database/training", "database/testing")


class AcdcError(ValueError):
    """An ACDC folder that cannot be imported; ``faults`` holds one sentence for each bad thing found."""

    def __init__(self, faults: list[str]) -> None:
        super().__init__("\n".join(faults))
        self.faults = faults


@dataclass(frozen=True)
class Info:
    """``Info.cfg``: end-diastolic and end-systolic frame (from 1), number of frames, diagnosis group, height in cm, weight in kg."""

    ed: int
    es: int
    frames: int
    group: str | None
    height_cm: float | None
    weight_kg: float | None


@dataclass(frozen=True)
class Frame:
    """One future study: ``image`` is (X, Y, Z), or a whole cine (X, Y, Z, T), with its corrected affine, ``label`` uint8 of the same shape
    or None, and ``step_ms`` the time between two phases where it is known."""

    id: str
    study: Study
    image: Volume
    label: np.ndarray | None
    step_ms: float | None = None

    def files(self) -> tuple[bytes, bytes | None]:
        """The uncompressed files of image and label."""
        return self._bytes(self.image.array), None if self.label is None else self._bytes(self.label)

    def _bytes(self, array: np.ndarray) -> bytes:
        if array.ndim == 4:
            return cine_bytes(array, self.image.affine, self.step_ms)
        return nifti_bytes(array, self.image.affine)


def find_patients(source: Path) -> list[Path]:
    """The ``patientNNN`` folders of ``source``: itself, its children, or those in ``training`` and ``testing`` below.

    Raises:
        AcdcError: there are none, or one patient is there twice.
    """
    if not source.is_dir():
        raise AcdcError([f"{source} is not a folder: give the ACDC folder that holds patient001, patient002, ..."])
    source = source.resolve()
    if _PATIENT.fullmatch(source.name):
        return [source]
    places = [source / place for place in _PLACES if (source / place).is_dir()]
    found = [p for place in places for p in place.iterdir() if p.is_dir() and _PATIENT.fullmatch(p.name)]
    if not found:
        raise AcdcError([f"{source} holds no patientNNN folder, nor training/ or testing/ with one: give the official ACDC folder."])
    names = [p.name for p in found]
    twice = sorted({n for n in names if names.count(n) > 1})
    if twice:
        raise AcdcError([f"{name} exists twice below {source}: keep only one of the two." for name in twice])
    return sorted(found, key=lambda p: p.name)


def read_info(folder: Path) -> Info:
    """``Info.cfg`` of the patient ``folder``. A height or weight of zero or less counts as not known.

    Raises:
        AcdcError: missing, not text, a line that is not ``key: value``, or ED, ES or NbFrame missing or not a frame number.
    """
    path = folder / "Info.cfg"
    name = f"{folder.name}/Info.cfg"
    again = "copy it again from the official set."
    try:
        lines = [line.strip() for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    except FileNotFoundError:
        raise AcdcError([f"{name} is missing: {again}"]) from None
    except (OSError, UnicodeDecodeError) as error:
        raise AcdcError([f"{name} cannot be read as text: {again}"]) from error
    values: dict[str, str] = {}
    for line in lines:
        key, colon, value = (part.strip() for part in line.partition(":"))
        if not (key and colon and value):
            raise AcdcError([f"{name} has the line {line[:40]!r} where 'key: value' belongs: {again}"])
        values[key] = value
    try:
        ed, es, frames = (int(values[key]) for key in ("ED", "ES", "NbFrame"))
        height, weight = (_positive(values.get(key)) for key in ("Height", "Weight"))
    except KeyError as error:
        raise AcdcError([f"{name} has no line for {error.args[0]}: {again}"]) from None
    except ValueError as error:
        raise AcdcError([f"{name} holds something that is not a number ({error}): {again}"]) from None
    if not (1 <= ed <= frames and 1 <= es <= frames and ed != es):
        raise AcdcError([f"{name} says ED {ed}, ES {es} of {frames} frames, but they must be two different frames counted from 1: {again}"])
    return Info(ed, es, frames, values.get("Group"), height, weight)


def read_patient(folder: Path, frames: Frames) -> Iterator[Frame]:
    """The frames of one patient, checked, in order of time: the two with an expert label, or with ``"all"`` those of the 4D cine too
    (where ED and ES still come from their own files), or with ``"cine"`` the whole cine, where the patient has one.

    Raises:
        AcdcError: with every fault of the patient that was found; what was yielded before it is sound.
    """
    info = read_info(folder)
    if frames == "cine" and (folder / f"{folder.name}_4d.nii.gz").exists():
        yield _read_whole_cine(folder, info)
    else:
        yield from _read_frames(folder, info, frames)


def _read_frames(folder: Path, info: Info, frames: Frames) -> Iterator[Frame]:
    faults: list[str] = []
    cine = None
    if frames == "all":
        try:
            cine = _read_cine(folder, info)
        except VolumeError as error:
            faults.append(str(error))
    grids = set()
    for number in sorted({info.ed, info.es} | set(range(1, cine.shape[3] + 1) if cine is not None else ())):
        id = f"{folder.name}_frame{number:02d}"
        phase: Literal["ED", "ES"] | None = "ED" if number == info.ed else "ES" if number == info.es else None
        study = Study(patient=folder.name, frame=number, phase=phase, group=info.group, height_cm=info.height_cm, weight_kg=info.weight_kg)
        image, label = None, None
        try:
            if phase is not None:
                image = volume_from_image(read_image(folder / f"{id}.nii.gz"), f"{id}.nii.gz")
            elif cine is not None:
                image = volume_from_image(cine.slicer[..., number - 1], f"{folder.name}_4d.nii.gz")
        except VolumeError as error:
            faults.append(str(error))
        try:
            label = _read_label(folder / f"{id}_gt.nii.gz", image) if phase is not None else None
        except VolumeError as error:
            faults.append(str(error))
        if image is not None:
            grids.add(image.array.shape)
            if not faults:
                yield Frame(id, study, image, label)
    if len(grids) > 1:
        sizes = " and ".join("x".join(map(str, g)) for g in sorted(grids))
        faults.append(f"{folder.name} has frames of different sizes ({sizes} voxels): copy the patient again from the official set.")
    if faults:
        raise AcdcError(faults)


def _read_cine(folder: Path, info: Info) -> nib.Nifti1Image:
    name = f"{folder.name}_4d.nii.gz"
    if not (folder / name).exists():
        raise VolumeError(f"{name} does not exist in {folder}: copy it, or import the two labelled frames alone with --frames ed,es.")
    cine = read_image(folder / name)
    if len(cine.shape) != 4:
        raise VolumeError(f"{name} is {len(cine.shape)}D, not a 4D cine: copy it again from the official set.")
    if cine.shape[3] < max(info.ed, info.es):
        raise VolumeError(f"{name} has {cine.shape[3]} frames, but Info.cfg names frame {max(info.ed, info.es)}: copy both again.")
    return cine


def _read_whole_cine(folder: Path, info: Info) -> Frame:
    """The cine of a patient as one study, its label with the two phases that experts contoured."""
    try:
        _read_cine(folder, info)
        cine = read_cine(folder / f"{folder.name}_4d.nii.gz")
        phases = [cine.phase(t) for t in range(len(cine))]
        array = np.stack([phase.array for phase in phases], axis=3)
        label = np.zeros(array.shape, np.uint8)
        for number in (info.ed, info.es):
            label[..., number - 1] = _read_label(folder / f"{folder.name}_frame{number:02d}_gt.nii.gz", phases[number - 1])
    except VolumeError as error:
        raise AcdcError([str(error)]) from error
    about = {"group": info.group, "height_cm": info.height_cm, "weight_kg": info.weight_kg}
    study = Study.model_validate({"patient": folder.name, "ed": info.ed - 1, "es": info.es - 1, **about})
    step = None if cine.times_ms is None else float(cine.times_ms[1])
    return Frame(f"{folder.name}_4d", study, replace(phases[0], array=array), label, step)


def _read_label(path: Path, image: Volume | None) -> np.ndarray:
    stored = read_image(path)
    label = volume_from_image(stored, path.name)
    if image is not None:
        if label.array.shape != image.array.shape:
            theirs, ours = ("x".join(map(str, v.array.shape)) for v in (label, image))
            raise VolumeError(f"{path.name} has {theirs} voxels and its image {ours}: copy both again from the official set.")
        if not np.allclose(label.spacing, image.spacing, rtol=1e-3):
            raise VolumeError(f"{path.name} has voxels of {label.spacing} mm and its image of {image.spacing} mm: copy both again.")
    unknown = np.setdiff1d(label.array, np.arange(NUM_CLASSES))
    if unknown.size:
        few = ", ".join(f"{v:g}" for v in unknown[:5])
        raise VolumeError(f"{path.name} holds the label value {few}, but ACDC knows only 0 to {NUM_CLASSES - 1}: copy it again.")
    return label.array.astype(np.uint8)


def _positive(text: str | None) -> float | None:
    value = float(text) if text is not None else 0.0
    return value if math.isfinite(value) and value > 0 else None
