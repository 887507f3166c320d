"""The one check of a label, submitted or found: it lies on its image's grid, and each of its values is a known structure."""

from __future__ import annotations

from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from prato.data.labels.names import LabelError, MisplacedLabelError, structure_numbers
from prato.data.nifti import Volume, VolumeError, read_image, volume_from_image
from prato.data.structures import BACKGROUND

#: How far a corner voxel of the label may lie from the image's, in smallest voxel edges: float32 headers round far below this.
_CORNER_TOLERANCE = 0.1
#: How far a value may lie from a whole number: labels that were stored as scaled or floating-point numbers.
_ROUNDING = 1e-3
#: Whole numbers of a smaller range are counted.
_COUNTED = 2**16


def check_label(image: Volume, label: Volume, name: str, label_info: Any = None) -> np.ndarray:
    """``label`` as uint8, (X, Y, Z) or of a cine (X, Y, Z, T), in the index order of ``image``, with the values of our ``STRUCTURES``.

    Args:
        image: its grid counts alone, that of a cine with all its phases (``prato.data.cine.Cine.grid``).
        label: its voxels may be stored along other axes, or in reverse, where its affine says so: 3D Slicer stores left-handed images so.
        name: what messages call the label.
        label_info: as ``structure_numbers`` reads it: names decide what values mean, where there are names.

    Raises:
        MisplacedLabelError: on another grid than the image, or of another number of phases.
        LabelError: its values are no numbers, no whole ones or no known structure.
    """
    # in an image they would count as the darkest, in a label as the structure of the smallest number
    if "voxels_not_finite" in label.warnings or (label.array.dtype.kind == "f" and not np.isfinite(label.array).all()):
        raise LabelError(f"{name} holds NaN or infinite values: give each voxel its structure's whole number, or 0.")
    array = match_grid(name, label, image)
    values = np.unique(np.concatenate([_values(part) for part in np.moveaxis(array, -1, 0)]))  # part by part: a cine is large
    whole = np.rint(values)
    soft = values[np.abs(values - whole) > _ROUNDING]
    if soft.size:
        raise LabelError(
            f"{name} holds the value {soft[0]:g}, as a probability map or an interpolated mask does: "
            "give each voxel its structure's whole number."
        )
    numbers = structure_numbers(name, label_info, whole)
    mask = np.zeros(array.shape, dtype=np.uint8)
    for value in values:
        number = numbers.get(int(np.rint(value)), BACKGROUND)
        if number != BACKGROUND:
            mask[array == value] = number
    return mask


def _values(part: np.ndarray) -> np.ndarray:
    """The values in ``part``: whole numbers are counted, which takes a fraction of the time of sorting them."""
    if part.dtype.kind in "iu" and np.can_cast(part.dtype, np.int64):
        low, high = int(part.min(initial=0)), int(part.max(initial=0))
        if high - low < _COUNTED:
            return np.flatnonzero(np.bincount(part.ravel().astype(np.int64) - low)) + low
    return np.unique(part)


def read_label_volume(path: Path, name: str) -> Volume:
    """The label file at ``path``, of a volume or of all phases of a cine, called ``name`` in messages.

    Raises:
        LabelError: unreadable, or neither 3D nor 4D.
    """
    try:
        return volume_from_image(read_image(path), path.name, any_orientation=True, phases=True)
    except VolumeError as error:
        sentence = str(error).replace(path.name, name)
        if "D (" in sentence and "pick a frame" in sentence:  # one channel a structure, as networks give them
            sentence = f"{sentence.split(', not one 3D volume')[0]}, not one mask: merge channels into one whole number per voxel."
        raise LabelError(sentence) from error


def match_grid(name: str, label: Volume, image: Volume) -> np.ndarray:
    """The voxels of ``label`` in the index order of ``image``, of all phases; ``name`` is what messages call the label.

    Programs read one header in several ways: it is enough that one of them lays the two on each other.

    Raises:
        MisplacedLabelError: none does, or they are of another number of phases.
    """
    _require_phases(name, label, image)
    for ours, theirs in product(image.readings, label.readings):
        found = _turn(label.array, theirs, ours, image)
        if found is not None:
            return found
    if label.array.shape[:3] != image.array.shape[:3]:
        theirs_by, ours_by = ("x".join(map(str, v.array.shape[:3])) for v in (label, image))
        raise MisplacedLabelError(f"{name} has {theirs_by} voxels and its image {ours_by}: export it on the image's own grid.")
    if label.header is not None and max(int(label.header[code]) for code in ("sform_code", "qform_code")) <= 0:
        raise MisplacedLabelError(
            f"{name} does not say where it lies (its header has neither sform nor qform): save it with its image's affine."
        )
    raise MisplacedLabelError(
        f"{name} lies {_corner_distance(label.affine, image.affine, image.array.shape[:3]):.1f} mm off its image (another affine): "
        "export it on the image's own grid, untransformed."
    )


def _require_phases(name: str, label: Volume, image: Volume) -> None:
    """Raises MisplacedLabelError: the label is of another number of phases than its image."""
    theirs, ours = (v.array.shape[3] if v.array.ndim == 4 else 1 for v in (label, image))
    if ours == 1 < theirs:
        by = "x".join(map(str, label.array.shape))
        wanted = "merge channels into one whole number per voxel, and give each frame a file of its own."
        raise MisplacedLabelError(f"{name} is 4D ({by}), not one 3D volume: {wanted}")
    if ours != theirs:
        wanted = 'send one mask of all phases, or a volume for one phase, named in params as {"phases": 12}.'
        raise MisplacedLabelError(f"{name} has {f'{theirs} phases' if theirs > 1 else 'one phase'} and its image {ours} phases: {wanted}")


def _turn(array: np.ndarray, theirs: np.ndarray, ours: np.ndarray, image: Volume) -> np.ndarray | None:
    """``array``, which the affine ``theirs`` lays in space, in the index order of ``image``, which ``ours`` lays there; None where it does
    not lie on it."""
    directions = [affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0) for affine in (theirs, ours)]
    cosines = directions[0].T @ directions[1]  # label axes x image axes
    axes = [int(axis) for axis in np.abs(cosines).argmax(axis=0)]
    steps = [1 if cosines[axis, a] > 0 else -1 for a, axis in enumerate(axes)]
    if sorted(axes) != [0, 1, 2] or tuple(array.shape[axis] for axis in axes) != image.array.shape[:3]:
        return None
    turn = np.zeros((4, 4))  # from indices of the image to indices of the label
    turn[3, 3] = 1
    for a, (axis, step) in enumerate(zip(axes, steps)):
        turn[axis, a], turn[axis, 3] = step, 0 if step > 0 else array.shape[axis] - 1
    if _corner_distance(theirs @ turn, ours, image.array.shape[:3]) > _CORNER_TOLERANCE * min(image.spacing):
        return None
    return array.transpose([*axes, *range(3, array.ndim)])[tuple(slice(None, None, step) for step in steps)]


def _corner_distance(one: np.ndarray, other: np.ndarray, shape: tuple[int, ...]) -> float:
    """Largest distance (mm) between matching corner voxels of an image of ``shape`` under two affines."""
    corners = np.array([(*corner, 1) for corner in product(*((0, n - 1) for n in shape))], dtype=float).T
    return float(np.linalg.norm(((one - other) @ corners)[:3], axis=0).max())
