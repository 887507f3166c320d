"""Four-dimensional NIfTI files, taken apart and put together: 3D Slicer before 5.13 reads the first volume of one alone.

Geometry, scaling and format of the first volume are left to Slicer's own reader: it gets that volume as a file of its own, and the others
follow it.
"""

from __future__ import annotations

import gzip
import zlib
from pathlib import Path
from typing import NamedTuple

import numpy as np

from PratoLabelLib.errors import UserError
from PratoLabelLib.translation import translator

_ = translator(__file__)

#: Type and offset of the fields of a NIfTI-1 header that are read here. Slicer reads no NIfTI-2.
_HEADER_BYTES = 348
_FIELDS = {"dim": ("8i2", 40), "datatype": ("i2", 70), "offset": ("f4", 108), "slope": ("f4", 112), "intercept": ("f4", 116)}
_TYPES = {2: "u1", 4: "i2", 8: "i4", 16: "f4", 64: "f8", 256: "i1", 512: "u2", 768: "u4", 1024: "i8", 1280: "u8"}


class Frames(NamedTuple):
    """A file of several volumes: the first as a file of its own, and all of them, (T, K, J, I), scaled as the file says."""

    first: Path
    arrays: np.ndarray


def split_frames(path: Path) -> Frames | None:
    """The volumes of the NIfTI-1 file ``path``, the first also as a file beside it; None where there is one alone, or it cannot be read.

    Raises:
        UserError: it is cut short, or holds something else than grey values.
        OSError: it cannot be read, or the first volume not be written.
    """
    try:
        content = gzip.decompress(path.read_bytes()) if path.name.endswith(".gz") else path.read_bytes()
    except (EOFError, zlib.error, gzip.BadGzipFile):
        return None  # Slicer's reader is to say so
    order = _byte_order(content)
    if order is None:
        return None
    dim = _field(content, "dim", order)
    shape = [max(int(n), 1) for n in dim[1 : dim[0] + 1]]
    if len(shape) < 4 or shape[3] == 1:
        return None
    code, start = int(_field(content, "datatype", order)), int(_field(content, "offset", order))
    if code not in _TYPES or any(n != 1 for n in shape[4:]):
        raise UserError(_("{name} does not contain grey values over x, y, z and time: export it again.").format(name=path.name))
    stored = np.dtype(order + _TYPES[code])
    count = int(np.prod(shape[:4]))
    if len(content) < start + count * stored.itemsize:
        raise UserError(_("{name} is incomplete: fetch it again.").format(name=path.name))
    arrays = np.frombuffer(content, stored, count, start).reshape(shape[3::-1])
    slope, intercept = float(_field(content, "slope", order)), float(_field(content, "intercept", order))
    if np.isfinite([slope, intercept]).all() and slope != 0 and (slope, intercept) != (1, 0):
        arrays = arrays * slope + intercept
    first = path.with_name(f"{path.name.split('.nii')[0]}_first.nii")
    size = stored.itemsize * count // shape[3]
    first.write_bytes(_with_dimensions(content[:start], order, shape[:3]) + content[start : start + size])
    return Frames(first, arrays.astype(arrays.dtype.newbyteorder("="), copy=False))


def join_frames(first: Path, arrays: np.ndarray, path: Path) -> None:
    """Write ``arrays`` (T, K, J, I) to the gzipped NIfTI file ``path``, with everything else as in the uncompressed file ``first``.

    Raises:
        UserError: ``first`` is no NIfTI-1 file.
        OSError: a file cannot be read or written.
    """
    content = first.read_bytes()
    order = _byte_order(content)
    if order is None:
        raise UserError(_("{name} is not a NIfTI-1 file: submit again.").format(name=first.name))
    start, code = int(_field(content, "offset", order)), int(_field(content, "datatype", order))
    stored = np.dtype(order + _TYPES[code])
    head = _with_dimensions(content[:start], order, [*arrays.shape[:0:-1], len(arrays)])
    path.write_bytes(gzip.compress(head + np.ascontiguousarray(arrays.astype(stored)).tobytes(), 1))


def _byte_order(content: bytes) -> str | None:
    """``<`` or ``>``; None where it is no NIfTI-1 file."""
    for order in "<>":
        if len(content) >= _HEADER_BYTES and np.frombuffer(content, f"{order}i4", 1)[0] == _HEADER_BYTES:
            return order
    return None


def _field(content: bytes, name: str, order: str) -> np.ndarray:
    kind, offset = _FIELDS[name]
    count = int(kind[0]) if kind[0].isdigit() else 1
    values = np.frombuffer(content, order + kind[-2:], count, offset).astype(kind[-2:])
    return values if count > 1 else values[0]


def _with_dimensions(head: bytes, order: str, shape: list[int]) -> bytes:
    _, offset = _FIELDS["dim"]
    dim = np.ones(8, f"{order}i2")
    dim[0], dim[1 : len(shape) + 1] = len(shape), shape
    return head[:offset] + dim.tobytes() + head[offset + dim.nbytes :]
