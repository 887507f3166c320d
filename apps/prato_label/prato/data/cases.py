"""Labelled studies, loaded once and kept at the network's resolution for training."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from prato.data.cine import Cine, read_cine
from prato.data.intensity import find_stack_range, normalise
from prato.data.labels.anatomy import describe_lack, judge_anatomy
from prato.data.labels.check import check_label, read_label_volume
from prato.data.labels.names import ContradictedLabelError
from prato.data.nifti import Volume, VolumeError, read_volume
from prato.data.resampling import resample_in_plane, resampled_size
from prato.data.stack import blank_slices, slice_axis
from prato.data.structures import NUM_CLASSES
from prato.data.studies.folder import StudyFile
from prato.data.studies.label_records import recorded_label_info
from prato.data.view import network_view


@dataclass(frozen=True)
class TrainingCase:
    """A study at the network's in-plane resolution.

    Attributes:
        patient: whose heart it is.
        image: float16 (Z, X', Y') in [-1, 1].
        label: uint8 (Z, X', Y').
        footprint: int64 (N, 2), the pixels that hold a structure on any slice: what a tight box of the volume encloses in plane.
        slices: first and one past the last slice that holds a structure.
        pixel: mm per pixel along X' and Y' (the requested resolution, up to rounding to whole pixels).
        source: of what the label's values mean, as ``CheckedLabel`` has it.
        lack: what the label as it is stored was left without, a sentence, "" for nothing. A label is judged so wherever it is, whatever
            pixels a network looks at.
    """

    patient: str
    image: Tensor
    label: Tensor
    footprint: Tensor
    slices: tuple[int, int]
    pixel: tuple[float, float]
    source: Literal["names", "anatomy", "guess"] = "names"
    lack: str = ""


def read_label(path: str | os.PathLike[str], image: Volume) -> np.ndarray:
    """The label at ``path`` as uint8 (X, Y, Z), as ``read_label_file`` checks it."""
    return read_label_file(path, image).mask


@dataclass(frozen=True)
class CheckedLabel:
    """A label's ``mask``, uint8 (X, Y, Z), and how we know what its values are.

    ``source`` is "names" where they were given or the app itself has stored the label, "anatomy" where the LV cavity lies in the myocardium
    as the values have it, and "guess" where they are no more than the usual ones.
    """

    mask: np.ndarray
    source: Literal["names", "anatomy", "guess"]


def read_label_file(path: str | os.PathLike[str], image: Volume) -> CheckedLabel:
    """The label at ``path``, checked against its ``image``, with the names that are recorded of it.

    Raises:
        LabelError: unreadable, or as ``check_label``. ContradictedLabelError: its structures cannot be what it says.
    """
    name, names = f"The label {Path(path).name}", recorded_label_info(Path(path))
    mask = check_label(image, read_label_volume(Path(path), name), name, names)
    return _judge(name, mask, "names" if names else "guess", image)


class StudyReader:
    """Reads images with their labels. The phases of a cine that come one after another take one reading."""

    def __init__(self) -> None:
        self._cine: Cine | None = None
        self._label = CheckedLabel(np.zeros(()), "guess")
        self._paths: tuple[Path, Path] | None = None

    def read(self, files: StudyFile) -> tuple[Volume, CheckedLabel]:
        """The image of ``files``, or the one phase of it that is meant, and its label.

        Raises:
            VolumeError: image or label cannot be used, or has no such phase.
        """
        if files.phase is None:
            volume = read_volume(files.image)
            return volume, read_label_file(files.label, volume)
        if self._cine is None or self._paths != (files.image, files.label):
            self._paths = None
            self._cine = read_cine(files.image)
            self._label = _read_cine_label(files.label, self._cine)
            self._paths = files.image, files.label
        volume = self._cine.phase(files.phase)
        return volume, _judge(f"The label for {files.name}", self._label.mask[..., files.phase], self._label.source, volume)


def _read_cine_label(path: Path, cine: Cine) -> CheckedLabel:
    """The label of all phases of ``cine`` (two at least), (X, Y, Z, T), whose anatomy is yet to be judged."""
    name, names = f"The label {path.name}", recorded_label_info(path)
    return CheckedLabel(check_label(cine.grid(), read_label_volume(path, name), name, names), "names" if names else "guess")


def _judge(name: str, mask: np.ndarray, source: Literal["names", "anatomy", "guess"], image: Volume) -> CheckedLabel:
    """The label ``mask``, (X, Y, Z), of ``image``, if its structures can be what it says; "names" tell more than they do."""
    anatomy = judge_anatomy(mask, slice_axis(image.array.shape, image.spacing))
    if anatomy.verdict == "contradicted":
        raise ContradictedLabelError(f"{name} cannot be right: {anatomy.sentence}")
    return CheckedLabel(mask, "anatomy" if source == "guess" and anatomy.verdict == "confirmed" else source)


def load_training_case(files: StudyFile, pixel: float, reader: StudyReader | None = None) -> TrainingCase | None:
    """Read one study, or one phase, at ``pixel`` mm in plane; None where its label is empty.

    Raises:
        VolumeError: image or label cannot be used.
    """
    volume, checked = (reader or StudyReader()).read(files)
    label = checked.mask
    if not label.any():
        return None
    view = network_view(volume)
    volume, label = view.apply_to(volume), np.ascontiguousarray(view.apply(label))
    size = resampled_size(volume.array.shape, volume.spacing, pixel)
    limits = find_stack_range(volume.array, blank_slices(volume.array))  # as networks are shown it later on
    image = resample_in_plane(torch.from_numpy(normalise(volume.array, limits)).permute(2, 0, 1), size)
    one_hot = F.one_hot(torch.from_numpy(label).permute(2, 0, 1).long(), NUM_CLASSES).permute(0, 3, 1, 2).float()
    resized = F.interpolate(one_hot, size=size, mode="bilinear", align_corners=False, antialias=True).argmax(1).to(torch.uint8)
    filled = (resized > 0).flatten(1).any(1).nonzero()
    if len(filled) == 0:
        return None
    return TrainingCase(
        patient=files.patient,
        image=image.half(),
        label=resized,
        footprint=(resized > 0).any(0).nonzero(),
        slices=(int(filled[0]), int(filled[-1]) + 1),
        pixel=(volume.array.shape[0] * volume.spacing[0] / size[0], volume.array.shape[1] * volume.spacing[1] / size[1]),
        source=checked.source,
        lack=describe_lack(label, axis=2),
    )


class ReadCases(NamedTuple):
    """``loaded`` studies and phases; by name, why others are ``left_out``; whether any is ``contradicted`` by what it shows."""

    loaded: list[tuple[StudyFile, TrainingCase]]
    left_out: dict[str, str]
    contradicted: bool

    def usable(self) -> tuple[list[tuple[StudyFile, TrainingCase]], dict[str, str]]:
        """Those of ``loaded`` whose numbering is no guess, and why all others are left out.

        Nobody said what the values of a label are that lies in the folder without names. Most labels show it themselves, and one that does
        not is taken to be numbered like the others; but where no other shows it, or one shows another numbering, that would be a guess.
        """
        left_out = self.left_out | untold_numbering({file.name: case.source for file, case in self.loaded}, self.contradicted)
        return [(file, case) for file, case in self.loaded if file.name not in left_out], left_out


def read_training_cases(files: Iterable[StudyFile], pixel: float, on_study: Callable[[], object] = lambda: None) -> ReadCases:
    """Read ``files`` at ``pixel`` mm in plane; ``on_study`` is called after every study and may raise."""
    loaded, left_out, reader = [], {}, StudyReader()
    contradicted = False
    for file in files:
        try:
            case = load_training_case(file, pixel, reader)
        except VolumeError as error:
            left_out[file.name] = str(error)
            contradicted |= isinstance(error, ContradictedLabelError)
        else:
            if case is None:
                left_out[file.name] = f"The label for {file.name} is empty."
            elif case.lack:
                left_out[file.name] = f"The label for {file.name} cannot be learned from: {case.lack}"
            else:
                loaded.append((file, case))
        on_study()
    return ReadCases(loaded, left_out, contradicted)


def load_training_cases(files: Iterable[StudyFile], pixel: float) -> tuple[list[tuple[StudyFile, TrainingCase]], dict[str, str]]:
    """As :meth:`ReadCases.usable`, of ``files`` at ``pixel`` mm in plane."""
    return read_training_cases(files, pixel).usable()


def untold_numbering(sources: Mapping[str, str], contradicted: bool) -> dict[str, str]:
    """The labels whose values nobody can interpret, by study, with the reason.

    Args:
        sources: of each usable label, as ``CheckedLabel.source``. contradicted: whether another label shows another numbering.
    """
    if not contradicted and "anatomy" in sources.values():
        return {}
    return {
        study: f"Nothing says which value of the label for {study} is which structure: "
        "bring it in with scripts/labels.py import, which stores the names of the values."
        for study, source in sources.items()
        if source == "guess"
    }
