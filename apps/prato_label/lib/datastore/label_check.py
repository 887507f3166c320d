"""Whether a submitted label fits its image and names known structures, checked before anything stored is touched."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from fastapi import HTTPException

from prato.data.nifti import Volume, VolumeError, read_volume
from prato.data.structures import BACKGROUND, STRUCTURES
from prato.labelling.records import DamagedVersionError, LabelVersionError, UnknownVersionError

#: How far a corner voxel of the label may lie from the image's, in smallest voxel edges: float32 headers round far below this.
_CORNER_TOLERANCE = 0.1
_VALUES = ", ".join(f"{value} {name}" for name, value in {"background": BACKGROUND, **STRUCTURES}.items())


class LabelError(ValueError):
    """A label that is not taken; the message is one sentence that says what is wrong and what would be right."""


def check_label(study: str, image: Path, label: Path, label_info: Any = None) -> Volume:
    """The label at ``label``, as it is to be stored for ``study``: uint8 (X, Y, Z), values of ``prato.data.structures``, with the image's
    affine.

    Args:
        label_info: the stock 3D Slicer module's list of segments, ``[{"name": ..., "idx": ...}]``. It numbers segments in the order in
            which they stand in the scene, so where the list is given, names decide and values are renumbered.

    Raises:
        LabelError: unreadable, on another grid than the image, or with values or names of no known structure.
    """
    grid = _read(image, f"The image {study}")
    found = _read(label, f"The label for {study}")
    array = _match_grid(study, found, grid)
    values = np.unique(array)
    numbers = _structure_numbers(study, label_info, values) if label_info else {value: value for value in STRUCTURES.values()}
    unknown = [v for v in values if v != BACKGROUND and v not in numbers]
    if unknown:
        raise LabelError(f"The label for {study} holds the value {unknown[0]:g}, which names no structure: the values are {_VALUES}.")
    mask = np.zeros(array.shape, dtype=np.uint8)
    for value, number in numbers.items():
        mask[array == value] = number
    return Volume(mask, grid.affine)


@contextmanager
def http_errors() -> Iterator[None]:
    """Turn errors about a label or a version into HTTP errors: 400, 404 for an unknown version, 503 for a damaged one."""
    try:
        yield
    except UnknownVersionError as error:
        raise HTTPException(404, str(error)) from error
    except DamagedVersionError as error:
        raise HTTPException(503, str(error)) from error
    except (LabelError, LabelVersionError, VolumeError) as error:
        raise HTTPException(400, str(error)) from error


def _read(path: Path, name: str) -> Volume:
    try:
        return read_volume(path)
    except VolumeError as error:
        raise LabelError(str(error).replace(path.name, name)) from error


def _match_grid(study: str, label: Volume, image: Volume) -> np.ndarray:
    """The label's voxels in the image's index order. 3D Slicer stores an axis in reverse where an image is left-handed."""
    if label.array.shape != image.array.shape:
        theirs, ours = ("x".join(map(str, v.array.shape)) for v in (label, image))
        raise LabelError(f"The label for {study} has {theirs} voxels and its image {ours}: export it on the image's own grid.")
    for steps in product((1, -1), repeat=3):
        reverse = np.diag([*map(float, steps), 1.0])
        reverse[:3, 3] = [n - 1 if step < 0 else 0 for step, n in zip(steps, label.array.shape)]
        if _corner_distance(label.affine @ reverse, image) <= _CORNER_TOLERANCE * min(image.spacing):
            return label.array[tuple(slice(None, None, step) for step in steps)]
    raise LabelError(
        f"The label for {study} lies {_corner_distance(label.affine, image):.1f} mm off its image (another affine): "
        "export it on the image's own grid, untransformed."
    )


def _corner_distance(affine: np.ndarray, image: Volume) -> float:
    """Largest distance (mm) between matching corner voxels of ``image`` and of the same voxels under ``affine``."""
    corners = np.array([(*corner, 1) for corner in product(*((0, n - 1) for n in image.array.shape))], dtype=float).T
    return float(np.linalg.norm(((affine - image.affine) @ corners)[:3], axis=0).max())


def _structure_numbers(study: str, label_info: Any, values: Sequence[float] | np.ndarray) -> dict[int, int]:
    """Value in the file -> number of the structure, from the segments' names.

    The stock module counts ``idx`` over all segments of the scene, but the file over those that are sent (a hidden background shifts
    them), so both readings are tried on the values that the file holds.
    """
    segments = []
    for entry in label_info if isinstance(label_info, list) else [None]:
        if not isinstance(entry, dict) or not isinstance(entry.get("name"), str) or type(entry.get("idx")) is not int:
            raise LabelError(f'label_info must be a list like [{{"name": "{next(iter(STRUCTURES))}", "idx": 1}}], not {entry!r:.60}.')
        if entry["name"] != "background":
            segments.append((entry["name"], entry["idx"]))
    names = [name for name, _ in segments]
    for name in names:
        if name not in STRUCTURES:
            raise LabelError(f"The label for {study} names the segment {name!r:.60}: the structures are {', '.join(STRUCTURES)}.")
        if names.count(name) > 1:
            raise LabelError(f"The label for {study} names {name} twice: merge the two segments.")
    readings = [{idx: STRUCTURES[name] for name, idx in segments}, {n: STRUCTURES[name] for n, name in enumerate(names, 1)}]
    present = {float(v) for v in values} - {float(BACKGROUND)}
    fitting = [r for r in readings if present <= {float(v) for v in r}]
    if not fitting:
        raise LabelError(f"The label for {study} holds values that its label_info does not name: give each segment its value as idx.")
    if any(r != fitting[0] for r in fitting):
        # our own numbers in one of the two readings settle it
        fitting = [r for r in fitting if all(value == number for value, number in r.items())]
        if len(fitting) != 1:
            raise LabelError(f"The label for {study} does not say which value is which structure: number the segments {_VALUES}.")
    return fitting[0]
