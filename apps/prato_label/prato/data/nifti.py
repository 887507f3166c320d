"""NIfTI volumes in and out; every fault in one is reported here, in one sentence."""

from __future__ import annotations

import gzip
import io
import os
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import nibabel as nib
import numpy as np
from nibabel.arrayproxy import ArrayProxy

from prato.data.atomic import write_bytes
from prato.data.intensity import finite_voxels
from prato.data.nifti_head import SLACK, UNREADABLE, VolumeError, copy_voxels, open_nifti, read_header, repair_header
from prato.data.orientation import Orientation, check_affine, itk_affine, list_readings, read_orientation
from prato.runtime.cancel_token import NEVER_CANCELLED, CancelToken

#: What a mask takes over from the header of its image, bit for bit, so that every program lays the two on each other.
_CARRIED = (
    *("qform_code", "sform_code", "quatern_b", "quatern_c", "quatern_d", "qoffset_x", "qoffset_y", "qoffset_z"),
    *("srow_x", "srow_y", "srow_z", "pixdim", "xyzt_units"),
)


@dataclass(frozen=True)
class Volume:
    """A 3D image in the stored file's own index order, or a mask of all phases of a cine.

    Attributes:
        array: (X, Y, Z), of a cine's mask (X, Y, Z, T): the stored integer dtype, or float32 where the file holds floats or scaled values.
        affine: 4x4 float64, voxel index -> RAS+ millimetres.
        header: of the file that it was read from, as it stands there; None where it comes from no file.
        warnings: names of what was repaired as it was read, of ``ORIENTATION_WARNINGS`` and ``INTENSITY_WARNINGS``.
    """

    array: np.ndarray
    affine: np.ndarray
    header: nib.Nifti1Header | None = None
    warnings: tuple[str, ...] = ()

    @property
    def spacing(self) -> tuple[float, float, float]:
        """The voxel size in mm, one number an axis."""
        x, y, z = np.linalg.norm(self.affine[:3, :3], axis=0)
        return float(x), float(y), float(z)

    def with_array(self, array: np.ndarray) -> Volume:
        """A mask or label ``array`` on the grid of this image, of its shape.

        Raises:
            VolumeError: another shape.
        """
        if array.shape != self.array.shape:
            raise VolumeError(f"A mask of {_by(array.shape)} voxels cannot lie on the grid of an image of {_by(self.array.shape)}.")
        return replace(self, array=array, warnings=())

    @property
    def readings(self) -> list[np.ndarray]:
        """Every affine (voxel -> RAS+ mm) by which some program lays the image, the one that is used here first."""
        return [self.affine, *(list_readings(self.header, self.array.shape[:3]) if self.header is not None else [])]

    @property
    def itk_affine(self) -> np.ndarray:
        """Where ITK, and with it 3D Slicer, lays the image (voxel -> RAS+ mm): formats other than NIfTI have room for one orientation."""
        found = itk_affine(self.header) if self.header is not None else None
        return self.affine if found is None else found


def read_image(path: str | os.PathLike[str], phases: bool = True, token: CancelToken = NEVER_CANCELLED) -> nib.Nifti1Image:
    """The NIfTI file at ``path``, plain or gzipped, read to its last byte (a gzip cut short anywhere is noticed); nothing else is checked,
    and the header is as it stands in the file.

    The size in the header is checked before the voxels are read, so that a small gzip cannot unfold to any size. Those of many phases lie
    in a temporary file without a name, where they take more memory than one volume may.

    Args:
        phases: also one with axes beyond the third.
        token: looked at now and then.

    Raises:
        VolumeTooLargeError: more than ``MAX_VOXEL_BYTES`` of voxels a phase, or more than ``MAX_PHASES``.
        VolumeError: missing, cut short, damaged, or not NIfTI.
        CancelledError: ``token`` was cancelled.
    """
    path = Path(path)
    with open_nifti(path) as stream:
        header, head, offset, wanted = read_header(stream, path.name)
        if not phases:
            _require_volume(header.get_data_shape(), path.name)
        raw, length = copy_voxels(stream, head, offset + wanted, token)
        if len(stream.read(SLACK + 1)) > SLACK:
            raise VolumeError(f"{path.name} has much data after its voxels: export it again.")
        if length < offset + wanted:
            raise VolumeError(f"{path.name} is cut short ({length - offset} of {wanted} bytes of voxels): copy or export it again.")
        voxels = ArrayProxy(raw, (header.get_data_shape(), header.get_data_dtype(), offset, *_scaling(header)), mmap=False)
        return _image(header, voxels)


def read_volume(path: str | os.PathLike[str], any_orientation: bool = False) -> Volume:
    """Read and check the 3D volume at ``path`` (plain or gzipped NIfTI).

    Args:
        any_orientation: also one that no image can have, for a label: its image decides where it lies, and how large its voxels are.

    Raises:
        VolumeError: unreadable, not 3D, no plain numbers, none of them finite, or as ``prato.data.orientation.read_orientation``.
    """
    path = Path(path)
    image = read_image(path, phases=False)
    return volume_from_image(image, path.name, any_orientation)


def volume_from_image(image: nib.Nifti1Image, name: str, any_orientation: bool = False, phases: bool = False) -> Volume:
    """The checked ``Volume`` of a loaded image, as ``read_volume`` describes; ``name`` is what messages call it.

    Args:
        phases: also a 4D one, as a cine's mask is.
    """
    shape = _require_volume(image.shape, name, 4 if phases else 3)
    if min(shape) < 1:
        raise VolumeError(f"{name} holds no voxels ({_by(shape)}): export it again.")
    if image.get_data_dtype().kind not in "iuf":
        what = "colours" if image.get_data_dtype().fields else f"{image.get_data_dtype()} numbers"
        raise VolumeError(f"{name} holds {what}: export it with one grey value per voxel.")
    header = image.extra.get("header", image.header)
    try:
        orientation = read_orientation(header, shape[:3], name)
    except VolumeError:
        readings = list_readings(header, shape[:3]) if any_orientation else []
        if not readings:
            raise
        orientation = Orientation(readings[0])
    array, warnings = _voxels(image, name)
    return Volume(array.reshape(shape, order="F"), orientation.affine, header, (*orientation.warnings, *warnings))


def _require_volume(shape: tuple[int, ...], name: str, axes: int = 3) -> tuple[int, ...]:
    """``shape`` without axes of one voxel behind the third, if it has no others beyond ``axes``.

    Raises:
        VolumeError: it has, or fewer than three.
    """
    while len(shape) > 3 and shape[-1] == 1:
        shape = shape[:-1]
    if len(shape) > axes:
        raise VolumeError(
            f"{name} is {len(shape)}D ({_by(shape)}), not one 3D volume: pick a frame, or import it with --frames all, one file per frame."
        )
    if len(shape) < 3:
        raise VolumeError(f"{name} is {len(shape)}D ({_by(shape)}), not a 3D volume: export the whole stack of slices as one file.")
    return tuple(shape)


def nifti_bytes(array: np.ndarray, affine: np.ndarray) -> bytes:
    """The bytes of a ``.nii``: ``array`` (X, Y, Z), qform and sform both from ``affine`` (-> RAS+ mm), units mm; nothing in them varies.

    Raises:
        VolumeError: not 3D, a dtype that NIfTI readers stumble over (bool, 64-bit integers), or an unusable affine.
    """
    affine = np.asarray(affine, dtype=np.float64)
    check_affine(affine, "The volume to be written")
    _check_writable(array, (3,))
    image = nib.Nifti1Image(array, affine)
    image.set_qform(affine, code=1)
    image.set_sform(affine, code=1)
    image.header.set_xyzt_units("mm", "sec")
    return image.to_bytes()


def volume_bytes(volume: Volume) -> bytes:
    """The bytes of a ``.nii`` of ``volume``, as :func:`volume_chunks` has them."""
    return b"".join(volume_chunks(volume))


def volume_chunks(volume: Volume) -> Iterator[bytes]:
    """The bytes of a ``.nii`` of ``volume``, a mask or label on the grid of an image or cine that was read: the head, then each phase.

    Qform, sform, their codes, ``pixdim`` and units are those of the image's file, bit for bit, in its version of NIfTI: a program that lays
    the image in its own way lays the mask in the same. A volume that comes from no file is written as ``nifti_bytes`` does.

    Raises:
        VolumeError: as ``nifti_bytes``.
    """
    array = volume.array
    if volume.header is None:
        yield nifti_bytes(array, volume.affine)
        return
    _check_writable(array, (3, 4))
    header = type(volume.header)(endianness="<")
    header.set_data_dtype(array.dtype)
    header.set_data_shape(array.shape)
    for field in _CARRIED:
        header[field] = volume.header[field]
    header["vox_offset"], header["magic"] = header.single_vox_offset, header.single_magic
    yield bytes(header.binaryblock) + bytes(header.single_vox_offset - header.sizeof_hdr)
    for part in np.moveaxis(array, 3, 0) if array.ndim == 4 else [array]:
        yield part.astype(array.dtype.newbyteorder("<"), copy=False).tobytes(order="F")


def _check_writable(array: np.ndarray, axes: tuple[int, ...]) -> None:
    if array.ndim not in axes or array.dtype.kind not in "iuf" or array.dtype in (np.int64, np.uint64):
        raise VolumeError(f"A volume to be written must be 3D, floats or integers up to 32 bits, not {array.dtype} {_by(array.shape)}.")


def write_volume(path: str | os.PathLike[str], array: np.ndarray, affine: np.ndarray) -> None:
    """Write ``array`` (X, Y, Z) with ``affine`` (voxel -> RAS+ mm) to ``path`` (``.nii.gz``), whole or not at all.

    Raises:
        VolumeError: as ``nifti_bytes``.
        OSError: the folder does not exist or cannot be written to.
    """
    write_bytes(path, gzip_bytes(nifti_bytes(array, affine)))


def gzip_bytes(raw: bytes | Iterable[bytes], level: int = 6) -> bytes:
    """``raw``, or all its parts, as gzip without name or time in its header: the same volume is the same file, whenever it is written."""
    stream = io.BytesIO()
    with gzip.GzipFile(filename="", mode="wb", fileobj=stream, compresslevel=level, mtime=0) as out:
        for part in [raw] if isinstance(raw, bytes) else raw:
            out.write(part)
    return stream.getvalue()


def unzipped(path: Path) -> bytes | None:
    """What the file ``path`` holds, decompressed; None where it is not there, or is damaged, as a copy broken off leaves it."""
    try:
        raw = path.read_bytes()
        return gzip.decompress(raw) if path.name.endswith(".gz") else raw
    except (FileNotFoundError, gzip.BadGzipFile, EOFError, zlib.error):
        return None


def _scaling(header: nib.Nifti1Header) -> tuple[float, float]:
    """Slope and intercept of the stored values; 1 and 0 where the header has none that can be used, as other readers take them."""
    slope, intercept = float(header["scl_slope"]), float(header["scl_inter"])
    if not np.isfinite(slope) or slope == 0:
        return 1.0, 0.0
    return slope, intercept if np.isfinite(intercept) else 0.0


def _image(header: nib.Nifti1Header, voxels: ArrayProxy) -> nib.Nifti1Image:
    """The image of these two. nibabel repairs the header of every image: the one that stands in the file is ``extra["header"]``."""
    kind = nib.Nifti2Image if isinstance(header, nib.Nifti2Header) else nib.Nifti1Image
    repaired = repair_header(header)
    try:
        affine = repaired.get_best_affine()
    except UNREADABLE:
        affine = np.full((4, 4), np.nan)
    return kind(voxels, affine if np.isfinite(affine).all() else None, repaired, extra={"header": header})


def _voxels(image: nib.Nifti1Image, name: str) -> tuple[np.ndarray, list[str]]:
    """The values as ``Volume.array`` has them, and a warning where some of them were no numbers."""
    try:
        array = np.asanyarray(image.dataobj)
    except UNREADABLE as error:
        raise VolumeError(f"{name} is cut short or damaged: copy or export it again.") from error
    return finite_voxels(array, name)


def _by(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape))
