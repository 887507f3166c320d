"""The size that a NIfTI file's header announces, checked before anything of that size is read."""

from __future__ import annotations

import gzip
import io
import math
import zlib
from typing import BinaryIO, cast

import nibabel as nib
from nibabel.filebasedimages import ImageFileError
from nibabel.spatialimages import HeaderDataError
from nibabel.wrapstruct import WrapStructError

#: Voxels of one file, in bytes: 512 x 512 x 512 of 16 bits, many times a cardiac stack. A prediction takes several times as much memory.
MAX_VOXEL_BYTES = 2**28
#: Bytes that may lie between a header and the voxels (extensions), and behind the voxels.
SLACK = 2**20
#: What nibabel, numpy and gzip raise for a file that they cannot read.
UNREADABLE = (OSError, EOFError, ValueError, OverflowError, MemoryError, zlib.error, ImageFileError, HeaderDataError, WrapStructError)


class VolumeError(ValueError):
    """A volume that cannot be used; the message is one sentence that says what is wrong and what would be right."""


class VolumeTooLargeError(VolumeError):
    """A volume of more than ``MAX_VOXEL_BYTES``."""


def check_size(stream: BinaryIO, name: str) -> None:
    """Check by the header alone that a file, open at its beginning and called ``name`` in messages, may be read; it is rewound after.

    Raises:
        VolumeTooLargeError: more than ``MAX_VOXEL_BYTES`` of voxels.
        VolumeError: the header is not that of a NIfTI file.
    """
    try:
        read_header(decompress(stream), name)
    except VolumeError:
        raise
    except UNREADABLE as error:
        raise VolumeError(f"{name} is not readable NIfTI (cut short, damaged, another format): copy or export it again.") from error
    finally:
        stream.seek(0)


def decompress(stream: BinaryIO) -> BinaryIO:
    """``stream``, open at its beginning, or its decompressed content where it is gzip."""
    is_gzip = stream.read(2) == b"\x1f\x8b"
    stream.seek(0)
    return cast(BinaryIO, gzip.GzipFile(fileobj=stream, mode="rb")) if is_gzip else stream


def read_header(stream: BinaryIO, name: str) -> tuple[type[nib.Nifti1Image], bytes, int, int]:
    """What the head of ``stream`` says of the rest: the image's class, the bytes read so far, where the voxels begin and how many bytes."""
    head = stream.read(nib.Nifti2Header.sizeof_hdr)
    klass = nib.Nifti2Image if head[:4] in (b"\x1c\x02\0\0", b"\0\0\x02\x1c") else nib.Nifti1Image
    header = klass.header_class.from_fileobj(io.BytesIO(head))
    # plain integers: absurd sizes in a header must not wrap round
    wanted = header.get_data_dtype().itemsize * math.prod(int(n) for n in header.get_data_shape())
    offset = int(header.get_data_offset())
    if wanted > MAX_VOXEL_BYTES:
        size = f"{'x'.join(map(str, header.get_data_shape()))}, {wanted / 2**20:.0f} MiB"
        raise VolumeTooLargeError(f"{name} holds more voxels ({size}) than the {MAX_VOXEL_BYTES // 2**20} MiB taken here: crop it.")
    if wanted < 0 or not 0 <= offset <= SLACK:
        raise VolumeError(f"{name} has a header that makes no sense: export it again.")
    return klass, head, offset, wanted
