"""Cines: the phases of one stack of slices over a heartbeat, in one 4D NIfTI file."""

from __future__ import annotations

import hashlib
import math
import os
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

import nibabel as nib
import numpy as np

from prato.data.atomic import write_bytes
from prato.data.nifti import Volume, VolumeError, check_affine, gzip_bytes, read_image, volume_from_image
from prato.data.nifti_head import MAX_VOXEL_BYTES, read_head
from prato.data.orientation import read_orientation
from prato.runtime.cancel_token import NEVER_CANCELLED, CancelToken

#: What a heartbeat lasts, in ms: 20 to 300 beats a minute.
_BEAT_MS = (200.0, 3000.0)
#: NIfTI's units of time, by their bits of ``xyzt_units``, in ms.
_MS, _TIME_BITS = {8: 1000.0, 16: 1.0, 24: 0.001}, 0x38

#: Neighbours along one axis, as 1 - r of their grey values, whatever their brightness: phases differ by .001 to .006 where they are most
#: alike, ACDC's end-diastole and end-systole by .025, and its slices by .07 and more (generated ones by .04 and more). What lies along the
#: fourth axis is no time where it always differs by more than this, and so many times as much as along another axis.
_UNLIKE, _TIMES = 0.05, 3.0
#: Fewer phases may differ as much as slices do.
_FEW_PHASES = 4
#: Pixels along an edge of the images that are compared: so coarse ones show no noise, neither a scanner's nor an interpolation's.
_COMPARED = 48


@dataclass(frozen=True, eq=False)
class Cine:
    """A 4D image in the stored file's own index order (X, Y, Z, T), whose phases are read one by one.

    Attributes:
        name: what messages call it.
        times_ms: float64 (T,), of each phase after the first one; None where the file does not say, or says what cannot be.
        warnings: what the file says that cannot be, a sentence each.
    """

    name: str
    image: nib.Nifti1Image
    times_ms: np.ndarray | None
    warnings: tuple[str, ...] = ()

    def __len__(self) -> int:
        return int(self.image.shape[3])

    def phase(self, t: int) -> Volume:
        """Phase ``t``, from 0.

        Raises:
            VolumeError: there is no such phase, or as ``prato.data.nifti.volume_from_image``.
        """
        self.require([t])
        # not by nibabel's slicer, which needs an affine that nibabel believes: the file's own header decides where a phase lies
        whole = type(self.image)(self.image.dataobj[..., t], self.image.affine, self.image.header, extra=self.image.extra)
        return volume_from_image(whole, f"Phase {t} of {self.name}" if len(self) > 1 else self.name)

    def require(self, phases: Iterable[int], what: str = "phases") -> None:
        """Check that there are these ``phases``, which a message says are those of ``what``.

        Raises:
            VolumeError: one of them there is not.
        """
        for t in phases:
            if not 0 <= t < len(self):
                there = f"the phases 0 to {len(self) - 1}" if len(self) > 1 else "one phase, 0"
                raise VolumeError(f"{self.name} has {there}: {what} cannot name {t}.")

    @property
    def nbytes(self) -> int:
        """Memory that it takes, at most; what is larger lies on a disk."""
        return min(math.prod(self.image.shape) * self.image.get_data_dtype().itemsize, MAX_VOXEL_BYTES)

    def grid(self) -> Volume:
        """Where the cine lies, for a mask of all its phases (``Volume.with_array``): (X, Y, Z, T), or (X, Y, Z) for one phase, all 0."""
        shape = self.image.shape if len(self) > 1 else self.image.shape[:3]
        return replace(self.phase(0), array=np.broadcast_to(np.uint8(0), shape))


def read_cine(path: str | os.PathLike[str], token: CancelToken = NEVER_CANCELLED) -> Cine:
    """Read the 4D image at ``path``; a 3D one is a cine of one phase.

    Args:
        token: looked at now and then.

    Raises:
        VolumeTooLargeError: more than ``MAX_VOXEL_BYTES`` of voxels a phase, or more than ``MAX_PHASES``.
        VolumeError: not readable, not (X, Y, Z, T), or its first phase is no volume that can be used.
        CancelledError: ``token`` was cancelled.
    """
    path = Path(path)
    shape = _cine_shape(read_head(path).get_data_shape(), path.name)
    image = read_image(path, token=token)
    if image.shape != shape:
        voxels = np.asanyarray(image.dataobj).reshape(shape, order="F")
        image = type(image)(voxels, image.affine, image.header, extra=image.extra)
    times, warnings = phase_times(image.header, image.shape[3], path.name)
    cine = Cine(path.name, image, times, warnings)
    _check_axes(cine)
    return cine


@dataclass(frozen=True, eq=False)
class CineHead:
    """The header of an image, of a volume or a cine.

    Attributes:
        name: what messages call the image.
        shape: (X, Y, Z, T); T is 1 for a volume.
        header: as it stands in the file.
        times_ms: as :class:`Cine` has them.
    """

    name: str
    shape: tuple[int, ...]
    header: nib.Nifti1Header
    times_ms: np.ndarray | None

    @property
    def phases(self) -> int:
        """How many there are, 1 for a volume."""
        return self.shape[3]

    @property
    def digest(self) -> str:
        """Hexadecimal digits that change with the header, and stay with a copy of the file."""
        return hashlib.sha256(bytes(self.header.binaryblock)).hexdigest()[:16]

    def grid(self) -> Volume:
        """As :meth:`Cine.grid`.

        Raises:
            VolumeError: as ``prato.data.orientation.read_orientation``.
        """
        found = read_orientation(self.header, self.shape[:3], self.name)
        shape = self.shape if self.phases > 1 else self.shape[:3]
        return Volume(np.broadcast_to(np.uint8(0), shape), found.affine, self.header, found.warnings)


def read_cine_head(path: str | os.PathLike[str]) -> CineHead:
    """Read the header of the image at ``path`` alone.

    Raises:
        VolumeError: it is no header of an image, or not of one with the axes x, y, z and time.
    """
    path = Path(path)
    header = read_head(path)
    shape = _cine_shape(header.get_data_shape(), path.name)
    return CineHead(path.name, shape, header, phase_times(header, shape[3], path.name)[0])


def _cine_shape(shape: tuple[int, ...], name: str) -> tuple[int, ...]:
    """``shape`` as (X, Y, Z, T)."""
    by = "x".join(map(str, shape))
    shape = tuple(int(n) for n in shape)
    while len(shape) > 4 and shape[-1] == 1:
        shape = shape[:-1]
    if len(shape) > 4:
        instead = "its time axis is the fifth" if len(shape) == 5 and shape[3] == 1 else "only one grey value per voxel can be read"
        raise VolumeError(f"{name} is {len(shape)}D ({by}), and {instead}: export it with the axes x, y, z and time.")
    if len(shape) < 3:
        raise VolumeError(f"{name} is {len(shape)}D ({by}), not a 3D volume or a cine: export the whole stack of slices as one file.")
    if min(shape) < 1:
        raise VolumeError(f"{name} holds no voxels ({by}): export it again.")
    return (*shape, 1)[:4]


def _check_axes(cine: Cine) -> None:
    """Check that the first phase can be used, and that phases lie along the fourth axis.

    Raises:
        VolumeError: one or the other.
    """
    count, first = len(cine), cine.phase(0).array
    if count < _FEW_PHASES:
        return
    first, voxels = _coarse(first), cine.image.dataobj
    pairs = [(_coarse(np.asanyarray(voxels[..., t])), _coarse(np.asanyarray(voxels[..., t + 1]))) for t in range(0, count - 1, count // 3)]
    phases = min(_unlikeness(one, other) for one, other in pairs)
    middles = [(axis, n // 2) for axis, n in enumerate(first.shape) if n >= _FEW_PHASES]
    within = min((_unlikeness(first.take(k - 1, axis), first.take(k, axis)) for axis, k in middles), default=phases)
    if phases > _UNLIKE and phases > _TIMES * within:
        by = "x".join(map(str, cine.image.shape))
        raise VolumeError(f"{cine.name} has slices, not phases, on its fourth axis ({by}): export it with the axes x, y, z and time.")


def _coarse(image: np.ndarray) -> np.ndarray:
    """float32, of at most about ``_COMPARED`` pixels along both first axes of ``image`` (X, Y, Z): each the mean of several."""
    image = np.nan_to_num(image.astype(np.float32), posinf=0.0, neginf=0.0)
    for axis in (0, 1):
        step = max(1, image.shape[axis] // _COMPARED)
        whole = image.take(np.arange(image.shape[axis] // step * step), axis)
        image = whole.reshape(*whole.shape[:axis], -1, step, *whole.shape[axis + 1 :]).mean(axis + 1)
    return image


def _unlikeness(one: np.ndarray, other: np.ndarray) -> float:
    """1 - r of their grey values; 0 where one of them is of a single one."""
    if one.min() == one.max() or other.min() == other.max():
        return 0.0
    return 1 - float(np.corrcoef(one.ravel(), other.ravel())[0, 1])


def phase_times(header: nib.Nifti1Header, count: int, name: str) -> tuple[np.ndarray | None, tuple[str, ...]]:
    """When each of ``count`` phases was acquired by ``header``, ms after the first (None: unknown), and what is wrong with that."""
    if count < 2:
        return None, ()
    step, unit = float(header["pixdim"][4]), int(header["xyzt_units"]) & _TIME_BITS
    beat = step * _MS.get(unit, 1000.0) * count
    if unit not in _MS or not np.isfinite(step) or step <= 0:
        return None, (f"{name} does not say how far apart in time its phases are: they are taken in the order in which they are stored.",)
    if not _BEAT_MS[0] <= beat <= _BEAT_MS[1]:
        return None, (f"{name} says that its {count} phases take {beat:.0f} ms, which cannot be one heartbeat: their times are ignored.",)
    return np.arange(count) * step * _MS[unit], ()


def cine_bytes(array: np.ndarray, affine: np.ndarray, step_ms: float | None) -> bytes:
    """The bytes of a 4D ``.nii``: ``array`` (X, Y, Z, T) with ``affine`` (voxel -> RAS+ mm).

    Args:
        step_ms: time between two phases; None where it is unknown.

    Raises:
        VolumeError: not 4D, or an unusable affine.
    """
    affine = np.asarray(affine, dtype=np.float64)
    check_affine(affine, "The cine to be written")
    if array.ndim != 4:
        raise VolumeError(f"A cine to be written must be 4D (x, y, z, phase), not {array.ndim}D.")
    image = nib.Nifti1Image(array, affine)
    image.set_qform(affine, code=1)
    image.set_sform(affine, code=1)
    image.header.set_xyzt_units("mm", "sec" if step_ms is not None else None)
    image.header["pixdim"][4] = 0 if step_ms is None else step_ms / 1000
    return image.to_bytes()


def write_cine(path: str | os.PathLike[str], array: np.ndarray, affine: np.ndarray, step_ms: float | None = None, level: int = 6) -> None:
    """Write what :func:`cine_bytes` makes to ``path`` (``.nii.gz``), whole or not at all.

    Raises:
        VolumeError: as ``cine_bytes``.
        OSError: the folder does not exist or cannot be written to.
    """
    write_bytes(path, gzip_bytes(cine_bytes(array, affine, step_ms), level))
