"""What the header of a NIfTI file announces, checked before anything of that size is read."""

from __future__ import annotations

import gzip
import logging
import math
import zlib
from typing import BinaryIO, cast

import nibabel as nib
from nibabel.filebasedimages import ImageFileError
from nibabel.spatialimages import HeaderDataError
from nibabel.wrapstruct import WrapStructError

#: Voxels of one file, in bytes: 512 x 512 x 512 of 16 bits, many times a cardiac stack. A prediction takes several times as much memory.
MAX_VOXEL_BYTES = 2**28
#: Bytes that may lie between a header and the voxels (extensions, such as a DICOM header in text), and behind the voxels.
MAX_EXTENSION_BYTES, SLACK = 2**24, 2**20
#: What nibabel, numpy and gzip raise for a file that they cannot read.
UNREADABLE = (OSError, EOFError, ValueError, OverflowError, MemoryError, zlib.error, ImageFileError, HeaderDataError, WrapStructError)
#: nibabel logs what it repairs in a header; here every fault is reported once, by this package.
_UNHEARD = logging.Logger("unheard")
_UNHEARD.addHandler(logging.NullHandler())


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
        raise unreadable(name, error) from error
    finally:
        stream.seek(0)


def unreadable(name: str, error: BaseException) -> VolumeError:
    """What is said of a file that ``error`` kept from being read."""
    if isinstance(error, OSError) and error.strerror:  # the file system's own reason
        return VolumeError(f"{name} is not readable NIfTI ({error.strerror}): check the file and who may read it.")
    return VolumeError(f"{name} is not readable NIfTI (cut short, damaged, another format): copy or export it again.")


def decompress(stream: BinaryIO) -> BinaryIO:
    """``stream``, open at its beginning, or its decompressed content where it is gzip."""
    is_gzip = stream.read(2) == b"\x1f\x8b"
    stream.seek(0)
    return cast(BinaryIO, gzip.GzipFile(fileobj=stream, mode="rb")) if is_gzip else stream


def read_header(stream: BinaryIO, name: str) -> tuple[nib.Nifti1Header, bytes, int, int]:
    """What the head of ``stream`` says of the rest: the header as it stands, the bytes read so far, where the voxels begin and how many
    bytes of them there are. Extensions between header and voxels are passed over."""
    head = stream.read(nib.Nifti2Header.sizeof_hdr)
    kind = nib.Nifti2Header if head[:4] in (b"\x1c\x02\0\0", b"\0\0\x02\x1c") else nib.Nifti1Header
    header = kind(head[: kind.sizeof_hdr], check=False)
    if bytes(header["magic"]).rstrip(b"\0") in (b"ni1", b"ni2"):
        raise VolumeError(f"{name} is one half of a pair of .hdr and .img: convert the two into one .nii.gz.")
    repair_header(header)
    # plain integers: absurd sizes in a header must not wrap round
    wanted = header.get_data_dtype().itemsize * math.prod(int(n) for n in header.get_data_shape())
    offset = int(header.get_data_offset())
    if wanted > MAX_VOXEL_BYTES:
        size = f"{'x'.join(map(str, header.get_data_shape()))}, {wanted / 2**20:.0f} MiB"
        raise VolumeTooLargeError(f"{name} holds more voxels ({size}) than the {MAX_VOXEL_BYTES // 2**20} MiB taken here: crop it.")
    if wanted < 0 or not kind.sizeof_hdr <= offset <= MAX_EXTENSION_BYTES:
        raise VolumeError(f"{name} has a header that makes no sense: export it again.")
    return header, head, offset, wanted


def repair_header(header: nib.Nifti1Header) -> nib.Nifti1Header:
    """A copy of ``header`` that nibabel's own readers accept.

    Raises:
        HeaderDataError: there is none.
    """
    repaired = header.copy()
    repaired.check_fix(_UNHEARD)
    return repaired
