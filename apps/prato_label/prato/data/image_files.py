"""One image or mask of any supported format: NIfTI, or NRRD and MetaImage by SimpleITK; voxels stay as they are stored."""

from __future__ import annotations

import os
import re
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from prato.data.atomic import write_bytes
from prato.data.nifti import Volume, VolumeError, gzip_bytes, nifti_bytes, read_image, volume_from_image
from prato.data.nifti_head import MAX_VOXEL_BYTES, VolumeTooLargeError
from prato.data.orientation import LPS_TO_RAS, check_affine, check_field_of_view
from prato.data.studies.folder import ENDINGS as NIFTI_ENDINGS

#: The longest first. Headers whose voxels lie in a file of their own (.mhd, .nhdr, .hdr) are not taken: they may name any file.
ITK_ENDINGS = (".seg.nrrd", ".nrrd", ".mha")
ENDINGS = (*NIFTI_ENDINGS, *ITK_ENDINGS)
#: The line of a header that names the voxels' own file.
_DETACHED = re.compile(rb"(?im)^(data ?file\s*:|ElementDataFile\s*=(?!\s*LOCAL\s*$))")
#: Where the header ends and the voxels begin.
_HEADER_END = re.compile(rb"(?im)\r?\n\r?\n|^ElementDataFile[^\n]*\n")
_HEAD_BYTES = 2**16


def split_ending(name: str) -> tuple[str, str] | None:
    """``name`` without its ending, and the ending, one of ``ENDINGS``; None where it has none of them."""
    return next(((name.removesuffix(ending), ending) for ending in ENDINGS if name.endswith(ending) and len(name) > len(ending)), None)


def read_exact(path: Path, any_orientation: bool = False) -> Volume:
    """The 3D volume at ``path``: as ``prato.data.nifti.read_volume``, but ``array`` holds the stored values, not rounded to float32.

    Args:
        any_orientation: also one that no image can have, for a label of its image's shape.

    Raises:
        VolumeError: not one of ``ENDINGS``, unreadable, not 3D, no grey values, or without a usable orientation.
    """
    name = path.name
    if name.endswith(NIFTI_ENDINGS):
        image = read_image(path)
        volume = volume_from_image(image, name, any_orientation)
        return replace(volume, array=_native(np.asanyarray(image.dataobj).reshape(volume.array.shape, order="F")))
    if split_ending(name) is None:
        raise VolumeError(f"{name} is in no supported format: use {', '.join(ENDINGS)}.")
    return _read_itk(path)[0]


def read_mask(path: Path) -> tuple[Volume, Any]:
    """A mask, and the names of its values where the file itself has them, as 3D Slicer's ``.seg.nrrd`` does, else None.

    Raises:
        VolumeError: as ``read_exact``.
    """
    if not path.name.endswith(".seg.nrrd"):
        return read_exact(path, any_orientation=True), None
    volume, about = _read_itk(path)
    segments = []
    for n in range(len(about)):
        if (name := about.get(f"Segment{n}_Name")) is None:
            break
        value = about.get(f"Segment{n}_LabelValue", "")
        segments.append({"name": name, "idx": int(value) if value.isdecimal() else n + 1})
    return volume, segments or None


def write_exact(path: Path, array: np.ndarray, affine: np.ndarray) -> None:
    """Write ``array`` (X, Y, Z) with ``affine`` (voxel -> RAS+ mm) in the format of ``path``'s ending, whole or not at all; read again, it
    holds the same values.

    Raises:
        VolumeError: as ``prato.data.nifti.nifti_bytes``.
        OSError: the folder does not exist or cannot be written to.
    """
    if path.name.endswith(ITK_ENDINGS):
        write_bytes(path, _itk_bytes(array, affine, path.name))
    else:
        raw = nifti_bytes(writable(array), affine)
        write_bytes(path, gzip_bytes(raw) if path.name.endswith(".gz") else raw)


def writable(array: np.ndarray) -> np.ndarray:
    """``array`` in a type that every reader takes, with the same values: no 64-bit integers, half or long numbers."""
    if array.dtype in (np.int64, np.uint64):
        low, high = (int(array.min()), int(array.max())) if array.size else (0, 0)
        fits = [kind for kind in (np.int32, np.uint32) if np.iinfo(kind).min <= low and high <= np.iinfo(kind).max]
        return array.astype(fits[0] if fits else np.float64)
    if array.dtype.kind == "f" and array.dtype not in (np.float32, np.float64):
        return array.astype(np.float32 if array.dtype.itemsize < 4 else np.float64)
    return array


def _native(array: np.ndarray) -> np.ndarray:
    return array.astype(array.dtype.newbyteorder("="), copy=False)


def _read_itk(path: Path) -> tuple[Volume, dict[str, str]]:
    """The volume, and what else the header says."""
    import SimpleITK

    name = path.name
    if path.exists() and not path.is_file():  # a pipe would be waited for
        raise VolumeError(f"{name} is not readable (a folder or a device, not a file): choose a file.")
    try:
        with path.open("rb") as file:
            head = file.read(_HEAD_BYTES)
    except OSError as error:
        raise VolumeError(f"{name} cannot be read ({error.strerror}): check the file and its permissions.") from error
    if not (head.startswith(b"NRRD000") if name.endswith(".nrrd") else b"NDims" in head):
        raise VolumeError(f"{name} is not readable (cut short, damaged, another format): copy or export it again.")
    end = _HEADER_END.search(head)
    if _DETACHED.search(head[: end.end()] if end else head):
        raise VolumeError(f"{name} keeps its voxels in another file: save it as one file, such as {name.split('.')[0]}.nii.gz.")
    reader = SimpleITK.ImageFileReader()
    reader.SetFileName(os.fspath(path))
    try:
        reader.SetImageIO("NrrdImageIO" if name.endswith(".nrrd") else "MetaImageIO")
        reader.ReadImageInformation()
        _check_itk(reader, name)
        image = reader.Execute()
    except RuntimeError as error:
        raise VolumeError(f"{name} is not readable (cut short, damaged, or without right angles): export it again.") from error
    affine = np.eye(4)
    affine[:3, :3] = np.reshape(image.GetDirection(), (3, 3)) * image.GetSpacing()
    affine[:3, 3] = image.GetOrigin()
    affine = LPS_TO_RAS @ affine + 0.0
    check_affine(affine, name)
    check_field_of_view(affine, image.GetSize(), name)
    # in ITK's memory the first index runs fastest
    array = SimpleITK.GetArrayFromImage(image).transpose(2, 1, 0)
    if array.dtype.kind == "f" and not np.isfinite(array).any():
        raise VolumeError(f"{name} holds no finite value, only NaN or infinite ones: export it again.")
    about = {key: image.GetMetaData(key) for key in image.GetMetaDataKeys()}
    is_placed = not name.endswith(".nrrd") or "NRRD_space" in about
    return Volume(array, affine, warnings=() if is_placed else ("orientation_unknown",)), about


def _check_itk(reader: Any, name: str) -> None:
    """What the header announces, before anything of that size is read."""
    import SimpleITK

    size = reader.GetSize()
    by = "x".join(map(str, size))
    if reader.GetDimension() != 3:
        raise VolumeError(f"{name} is {reader.GetDimension()}D ({by}), not one 3D volume: export each phase as a file of its own.")
    if reader.GetNumberOfComponents() != 1:
        raise VolumeError(f"{name} holds {reader.GetNumberOfComponents()} values per voxel: export it with one grey value per voxel.")
    kind = SimpleITK.GetPixelIDValueAsString(reader.GetPixelID())
    bits = re.search(r"(\d+)-bit (?:unsigned|signed|float)", kind)
    if bits is None or "vector" in kind or "complex" in kind:
        raise VolumeError(f"{name} holds {kind}: export it with one grey value per voxel.")
    wanted = int(np.prod(size, dtype=object)) * int(bits[1]) // 8
    if wanted > MAX_VOXEL_BYTES:
        raise VolumeTooLargeError(f"{name} holds more voxels ({by}) than the {MAX_VOXEL_BYTES // 2**20} MiB accepted here: crop it.")
    if wanted == 0:
        raise VolumeError(f"{name} holds no voxels ({by}): export it again.")


def _itk_bytes(array: np.ndarray, affine: np.ndarray, name: str) -> bytes:
    import SimpleITK

    check_affine(affine, name)
    lps = LPS_TO_RAS @ affine
    spacing = np.linalg.norm(lps[:3, :3], axis=0)
    image = SimpleITK.GetImageFromArray(np.ascontiguousarray(writable(array).transpose(2, 1, 0)))
    image.SetSpacing(spacing.tolist())
    image.SetDirection((lps[:3, :3] / spacing).ravel().tolist())
    image.SetOrigin(lps[:3, 3].tolist())
    with tempfile.TemporaryDirectory() as folder:  # SimpleITK writes to a file alone
        path = Path(folder) / f"volume{(split_ending(name) or ('', '.nrrd'))[1]}"
        SimpleITK.WriteImage(image, os.fspath(path), useCompression=True)
        return path.read_bytes()
