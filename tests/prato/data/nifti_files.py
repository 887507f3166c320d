"""NIfTI files with any header, as people have them: written byte by byte, because nibabel would repair what the tests are about."""

from __future__ import annotations

import gzip
import struct
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import SimpleITK as sitk
from hypothesis import strategies as st
from nibabel.quaternions import mat2quat, quat2mat

sitk.ProcessObject.SetGlobalWarningDisplay(False)
SPACING = (1.5, 1.25, 8.0)


def rigid(
    quaternion: tuple[float, ...] = (0.9, 0.2, -0.3, 0.1), spacing: tuple[float, ...] = SPACING, mirrored: bool = False
) -> np.ndarray:
    """A 4x4 affine: a rotation, perhaps with the last axis reversed, voxel sizes in mm and a position."""
    affine = np.eye(4)
    affine[:3, :3] = quat2mat(quaternion) * spacing * (1, 1, -1 if mirrored else 1)
    affine[:3, 3] = (-31.5, 12.25, 80.0)
    return affine


def nifti_file(
    array: np.ndarray,
    *,
    sform: np.ndarray | None = None,
    qform: np.ndarray | None = None,
    codes: tuple[int, int] = (1, 1),
    pixdim: tuple[float, ...] = SPACING,
    version: int = 1,
    endian: str = "<",
    extension: bytes = b"",
    **fields: Any,
) -> bytes:
    """The bytes of a ``.nii`` with ``array`` and exactly this header; ``codes`` of sform and qform. ``fields`` are set last."""
    header = (nib.Nifti1Header, nib.Nifti2Header)[version - 1](endianness=endian)
    header.set_data_dtype(array.dtype)
    header.set_data_shape(array.shape)
    header["sform_code"], header["qform_code"] = codes
    header["pixdim"][1:4] = pixdim
    header["xyzt_units"] = 2
    if sform is not None:
        for row, values in zip(("srow_x", "srow_y", "srow_z"), sform):
            header[row] = values
    if qform is not None:
        rotation = qform[:3, :3] / np.linalg.norm(qform[:3, :3], axis=0)
        header["pixdim"][0] = -1 if np.linalg.det(rotation) < 0 else 1
        _, *header_quaternion = mat2quat(rotation * (1, 1, header["pixdim"][0]))
        for part, value in zip("bcd", header_quaternion):
            header[f"quatern_{part}"] = value
        for axis, value in zip("xyz", qform[:3, 3]):
            header[f"qoffset_{axis}"] = value
    if extension:  # its size, a multiple of 16, and its kind: text
        extension += bytes(-(len(extension) + 8) % 16)
        extension = struct.pack(f"{endian}ii", len(extension) + 8, 6) + extension
    header["vox_offset"], header["magic"] = header.single_vox_offset + len(extension), header.single_magic
    for name, value in fields.items():
        header[name] = value
    marker = b"\1\0\0\0" if extension else bytes(4)
    return bytes(header.binaryblock) + marker + extension + array.astype(array.dtype.newbyteorder(endian)).tobytes(order="F")


def write_nifti(path: Path, *args: Any, **header: Any) -> Path:
    """``nifti_file`` at ``path``, gzipped where its name says so."""
    data = nifti_file(*args, **header)
    path.write_bytes(gzip.compress(data, 1) if path.name.endswith(".gz") else data)
    return path


def raw_header(data: bytes) -> nib.Nifti1Header:
    kind = nib.Nifti2Header if data[:4] in (b"\x1c\x02\0\0", b"\0\0\x02\x1c") else nib.Nifti1Header
    return kind(data[: kind.sizeof_hdr], check=False)


def itk_reading(path: Path) -> np.ndarray | None:
    """Where ITK lays the image at ``path``, as voxel -> RAS+ mm; None where it refuses to, or would not come back.

    With an sform of huge and infinite numbers, its singular value decomposition goes on for ever.
    """
    if path.suffix != ".nrrd":
        data = path.read_bytes()
        header = raw_header(gzip.decompress(data) if path.suffix == ".gz" else data)
        rows = np.array([header[f"srow_{axis}"] for axis in "xyz"], dtype=np.float64)
        if header["sform_code"] > 0 and not (np.abs(rows) < 1e6).all():
            return None
    reader = sitk.ImageFileReader()
    reader.SetFileName(str(path))
    try:
        reader.ReadImageInformation()
    except RuntimeError:
        return None
    affine = np.eye(4)
    affine[:3, :3] = np.array(reader.GetDirection()).reshape(3, 3) * np.array(reader.GetSpacing())
    affine[:3, 3] = reader.GetOrigin()
    return np.diag([-1.0, -1.0, 1.0, 1.0]) @ affine


# rounded: ITK's singular value decomposition is thrown off by parts of 1e-45, whose squares are 0
_PART = st.floats(-1, 1).map(lambda part: round(part, 4))
quaternions = st.tuples(_PART, _PART, _PART, _PART).filter(lambda q: sum(v * v for v in q) > 0.1)
spacings = st.tuples(*[st.sampled_from((0.7, 1.0, 1.25, 1.40625, 8.0, 10.0))] * 3)
rigids = st.builds(rigid, quaternions, spacings, st.booleans())
shapes = st.tuples(*[st.sampled_from((1, 2, 3, 5))] * 3)
dtypes = st.sampled_from(["i1", "u1", "i2", "u2", "i4", "u4", "f4", "f8"])
