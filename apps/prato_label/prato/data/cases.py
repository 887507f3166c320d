"""Labelled studies, loaded once and kept at the network's resolution for training."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from prato.data.nifti import Volume, VolumeError, read_volume
from prato.data.resampling import normalise, resample_in_plane, resampled_size
from prato.data.stack import slice_axis, to_stack, volume_to_stack
from prato.data.structures import NUM_CLASSES
from prato.data.studies import StudyFile


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
    """

    patient: str
    image: Tensor
    label: Tensor
    footprint: Tensor
    slices: tuple[int, int]
    pixel: tuple[float, float]


def read_label(path: str | os.PathLike[str], image: Volume) -> np.ndarray:
    """The label at ``path`` as uint8 (X, Y, Z), checked against its ``image``.

    Raises:
        VolumeError: unreadable, or as ``check_label_grid``.
    """
    return check_label_grid(image, read_volume(path), Path(path).name)


def check_label_grid(image: Volume, stored: Volume, name: str) -> np.ndarray:
    """The label ``stored`` as uint8 (X, Y, Z), checked against its ``image``; ``name`` is what messages call it.

    Raises:
        VolumeError: on another grid (shape, or a corner over a tenth of a voxel off), or with values that name no structure.
    """
    label, shape = stored.array, image.array.shape
    if label.shape != shape:
        raise VolumeError(f"The label {name} has shape {label.shape} but its image has {shape}: a label must lie on the image's own grid.")
    corners = np.array([(i, j, k, 1) for i in (0, shape[0]) for j in (0, shape[1]) for k in (0, shape[2])], dtype=float)
    if np.abs(corners @ (stored.affine - image.affine).T).max() > 0.1 * min(image.spacing):
        raise VolumeError(f"The label {name} lies elsewhere in space than its image (another affine): export it on the image's own grid.")
    if not np.isin(label, range(NUM_CLASSES)).all():
        raise VolumeError(f"The label {name} holds label values other than 0 to {NUM_CLASSES - 1}: map its structures by name first.")
    return label.astype(np.uint8)


def load_training_case(files: StudyFile, pixel: float) -> TrainingCase | None:
    """Read one study at ``pixel`` mm in plane; None where its label is empty.

    Raises:
        VolumeError: image or label cannot be used.
    """
    volume = read_volume(files.image)
    label = read_label(files.label, volume)
    if not label.any():
        return None
    axis = slice_axis(volume.spacing)
    volume, label = volume_to_stack(volume, axis), to_stack(label, axis)
    size = resampled_size(volume.array.shape, volume.spacing, pixel)
    image = resample_in_plane(torch.from_numpy(normalise(volume.array)).permute(2, 0, 1), size)
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
    )
