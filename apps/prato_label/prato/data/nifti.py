"""NIfTI volumes in and out; every fault in one is reported here, in one sentence."""

from __future__ import annotations

import gzip
import io
import os
from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np

from prato.data.atomic import write_bytes
from prato.data.nifti_head import SLACK, UNREADABLE, VolumeError, decompress, read_header

#: Largest cosine between two voxel axes that still counts as a right angle: float32 rounding of an oblique affine stays below 1e-6,
#: and readers built on ITK refuse what is visibly sheared.
_MAX_COSINE = 1e-4
#: Voxel edges in mm between which an image is believed; beyond, metres or micrometres were taken for millimetres.
_EDGE_MM = (0.02, 30.0)


@dataclass(frozen=True)
class Volume:
    """A 3D image in the stored file's own index order.

    ``array`` is (X, Y, Z): the stored integer dtype, or float32 where the file holds floats or scaled values. ``affine`` is 4x4 float64,
    voxel index -> RAS+ millimetres. ``spacing`` is the voxel size in mm, one number an axis.
    """

    array: np.ndarray
    affine: np.ndarray

    @property
    def spacing(self) -> tuple[float, float, float]:
        x, y, z = np.linalg.norm(self.affine[:3, :3], axis=0)
        return float(x), float(y), float(z)


def read_image(path: str | os.PathLike[str]) -> nib.Nifti1Image:
    """The NIfTI file at ``path``, plain or gzipped, read to its last byte (a gzip cut short anywhere is noticed); nothing else is checked.

    The size in the header is checked before the voxels are read, so that a small gzip cannot unfold to any size.

    Raises:
        VolumeTooLargeError: more than ``MAX_VOXEL_BYTES`` of voxels.
        VolumeError: missing, cut short, damaged, or not NIfTI.
    """
    path = Path(path)
    try:
        with path.open("rb") as file:
            stream = decompress(file)
            klass, head, offset, wanted = read_header(stream, path.name)
            raw = head + stream.read(max(offset + wanted - len(head), 0))
            more = stream.read(SLACK + 1)
        if len(more) > SLACK:
            raise VolumeError(f"{path.name} goes on long after its voxels: export it again.")
        image = klass.from_bytes(raw)
    except VolumeError:
        raise
    except FileNotFoundError as error:
        raise VolumeError(f"{path.name} does not exist in {path.parent}.") from error
    except UNREADABLE as error:
        raise VolumeError(f"{path.name} is not readable NIfTI (cut short, damaged, another format): copy or export it again.") from error
    if len(raw) < offset + wanted:
        raise VolumeError(f"{path.name} is cut short ({len(raw) - offset} of {wanted} bytes of voxels): copy or export it again.")
    return image


def read_volume(path: str | os.PathLike[str]) -> Volume:
    """Read and check the 3D volume at ``path`` (plain or gzipped NIfTI).

    An affine of unit columns beside another voxel size in ``pixdim`` (all of ACDC) is a placeholder and is corrected, so that the spacing
    here is the one that ITK and 3D Slicer show.

    Raises:
        VolumeError: unreadable, not 3D, no plain numbers, NaN or infinite voxels, or an affine that is singular, not finite or sheared.
    """
    path = Path(path)
    image = read_image(path)
    return volume_from_image(image, path.name)


def volume_from_image(image: nib.Nifti1Image, name: str) -> Volume:
    """The checked ``Volume`` of a loaded image, as ``read_volume`` describes; ``name`` is what messages call it."""
    shape = tuple(image.shape)
    while len(shape) > 3 and shape[-1] == 1:
        shape = shape[:-1]
    if len(shape) > 3:
        raise VolumeError(
            f"{name} is {len(shape)}D ({_by(shape)}), not one 3D volume: pick a frame, or import it with --frames all, one file a frame."
        )
    if len(shape) < 3:
        raise VolumeError(f"{name} is {len(shape)}D ({_by(shape)}), not a 3D volume: export the whole stack of slices as one file.")
    if min(shape) < 1:
        raise VolumeError(f"{name} holds no voxels ({_by(shape)}): export it again.")
    if image.get_data_dtype().kind not in "iuf":
        raise VolumeError(f"{name} holds {image.get_data_dtype()} voxels: export it as one grey value a voxel.")
    affine = np.array(image.affine, dtype=np.float64)
    if np.array_equal(np.linalg.norm(affine[:3, :3], axis=0), np.ones(3)):
        affine = affine_from_pixdim(image, name)
    check_affine(affine, name)
    return Volume(_voxels(image, name).reshape(shape, order="F"), affine)


def affine_from_pixdim(image: nib.Nifti1Image, name: str = "the image") -> np.ndarray:
    """The 4x4 affine (RAS+ mm) with its columns rescaled to the header's ``pixdim``; directions and origin stay.

    ACDC's files carry a correct ``pixdim`` and an sform that says 1 x 1 x 1 mm.

    Raises:
        VolumeError: ``pixdim`` or the affine is not finite, or one of their lengths is zero.
    """
    affine = np.array(image.affine, dtype=np.float64)
    # nibabel's zooms are float32: through their shortest decimal text, 1.5625 stays 1.5625 and 1.4 does not become 1.39999998
    pixdim = np.array([float(str(v)) for v in image.header.get_zooms()[:3]])
    lengths = np.linalg.norm(affine[:3, :3], axis=0)
    if pixdim.shape != (3,) or not (np.isfinite(pixdim) & (pixdim > 0) & np.isfinite(lengths) & (lengths > 0)).all():
        raise VolumeError(f"{name} has no usable voxel size (pixdim {pixdim.tolist()}): export it again with its spacing in mm.")
    affine[:3, :3] *= pixdim / lengths
    return affine + 0.0  # no minus zeros


def check_affine(affine: np.ndarray, name: str) -> None:
    """Refuse an affine (4x4) that is not finite, is singular or is sheared.

    Raises:
        VolumeError: naming the fault.
    """
    if affine.shape != (4, 4) or not np.isfinite(affine).all():
        raise VolumeError(f"{name} has an affine with values that are not finite: export it again with its orientation.")
    lengths = np.linalg.norm(affine[:3, :3], axis=0)
    if (lengths < 1e-6).any():
        raise VolumeError(f"{name} has an affine without a voxel size on some axis (singular): export it again with its spacing in mm.")
    if not ((lengths > _EDGE_MM[0]) & (lengths < _EDGE_MM[1])).all():
        edges = " x ".join(f"{mm:.3g}" for mm in lengths)
        raise VolumeError(f"{name} has voxels of {edges} mm, which no scanner makes: export it again with its spacing in mm.")
    axes = affine[:3, :3] / lengths
    if np.abs(axes.T @ axes - np.eye(3)).max() > _MAX_COSINE:
        raise VolumeError(f"{name} has a sheared (non-orthonormal) affine: resample it to a grid with right angles and load that.")


def nifti_bytes(array: np.ndarray, affine: np.ndarray) -> bytes:
    """The bytes of a ``.nii``: ``array`` (X, Y, Z), qform and sform both from ``affine`` (-> RAS+ mm), units mm; nothing in them varies.

    Raises:
        VolumeError: not 3D, a dtype that NIfTI readers stumble over (bool, 64-bit integers), or an unusable affine.
    """
    affine = np.asarray(affine, dtype=np.float64)
    check_affine(affine, "The volume to be written")
    if array.ndim != 3 or array.dtype.kind not in "iuf" or array.dtype in (np.int64, np.uint64):
        raise VolumeError(f"A volume to be written must be 3D, floats or integers up to 32 bits, not {array.dtype} {_by(array.shape)}.")
    image = nib.Nifti1Image(array, affine)
    image.set_qform(affine, code=1)
    image.set_sform(affine, code=1)
    image.header.set_xyzt_units("mm", "sec")
    return image.to_bytes()


def write_volume(path: str | os.PathLike[str], array: np.ndarray, affine: np.ndarray, level: int = 6) -> None:
    """Write ``array`` (X, Y, Z) with ``affine`` (voxel -> RAS+ mm) to ``path`` (``.nii.gz``, gzip ``level`` 1..9), whole or not at all.

    Raises:
        VolumeError: as ``nifti_bytes``.
        OSError: the folder does not exist or cannot be written to.
    """
    write_bytes(path, gzip_bytes(nifti_bytes(array, affine), level))


def gzip_bytes(raw: bytes, level: int = 6) -> bytes:
    """``raw`` as gzip without name or time in its header: the same volume is the same file, whenever it is written."""
    stream = io.BytesIO()
    with gzip.GzipFile(filename="", mode="wb", fileobj=stream, compresslevel=level, mtime=0) as out:
        out.write(raw)
    return stream.getvalue()


def _voxels(image: nib.Nifti1Image, name: str) -> np.ndarray:
    try:
        array = np.asanyarray(image.dataobj)
    except UNREADABLE as error:
        raise VolumeError(f"{name} is cut short or damaged: copy or export it again.") from error
    if array.dtype.kind == "f":
        if not np.isfinite(array).all():
            raise VolumeError(f"{name} holds voxels that are NaN or infinite: replace them by numbers and load it again.")
        return array.astype(np.float32, copy=False)
    return array.astype(array.dtype.newbyteorder("="), copy=False)


def _by(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape))
