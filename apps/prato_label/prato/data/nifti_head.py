"""What the header of a NIfTI file announces, checked before anything of that size is read."""

from __future__ import annotations

import io
import logging
import math
import stat
import tempfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, cast

import nibabel as nib
from isal import igzip, isal_zlib
from nibabel.filebasedimages import ImageFileError
from nibabel.spatialimages import HeaderDataError
from nibabel.wrapstruct import WrapStructError

from prato.runtime.cancel_token import CancelToken

#: Voxels of one volume, in bytes: 512 x 512 x 512 of 16 bits, many times a cardiac stack. A prediction takes several times as much memory.
MAX_VOXEL_BYTES = 2**28
#: Volumes of one file: cines have 20 to 40 phases, those in real time some hundred.
MAX_PHASES = 256
#: Bytes that may lie between a header and the voxels (extensions, such as a DICOM header in text), and behind the voxels.
MAX_EXTENSION_BYTES, SLACK = 2**24, 2**20
#: What stands at the beginning of a small text file in the place of one that git-annex (DataLad) or Git LFS would have to fetch.
_POINTERS = (b"/annex/objects/", b"version https://git-lfs.github.com/")
#: Other formats that viewers export images in, by what stands where in their files, and what to do instead.
_OTHERS = (
    (0, b"NRRD", "NRRD", "export it as .nii.gz"),
    (0, b"ObjectType", "MetaImage", "export it as .nii.gz"),
    (128, b"DICM", "DICOM", "import its examination, or convert its series into one .nii.gz"),
)
#: Bytes that are read at a time.
_CHUNK = 2**20
#: What nibabel, numpy, zlib and ISA-L raise for a file that they cannot read.
UNREADABLE: tuple[type[Exception], ...] = (
    *(OSError, EOFError, ValueError, OverflowError, MemoryError, zlib.error, cast("type[Exception]", isal_zlib.error)),
    *(ImageFileError, HeaderDataError, WrapStructError),
)
#: nibabel logs what it repairs in a header; here every fault is reported once, by this package.
_UNHEARD = logging.Logger("unheard")
_UNHEARD.addHandler(logging.NullHandler())


class _ReadInto(io.RawIOBase):
    """The rest of a stream that knows ``read`` alone, as an upload under Python 3.10: its SpooledTemporaryFile has no ``readinto``."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        chunk = self._stream.read(len(buffer))
        buffer[: len(chunk)] = chunk
        return len(chunk)


class VolumeError(ValueError):
    """A volume that cannot be used; the message is one sentence that says what is wrong and what would be right."""


class VolumeTooLargeError(VolumeError):
    """A volume of more than ``MAX_VOXEL_BYTES``, or more than ``MAX_PHASES`` of them."""


def check_size(stream: BinaryIO, name: str) -> None:
    """Check by the header alone that a file, open at its beginning and called ``name`` in messages, may be read; it is rewound after.

    Raises:
        VolumeTooLargeError: more than ``MAX_VOXEL_BYTES`` of voxels a phase, or more than ``MAX_PHASES``.
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


def read_head(path: Path) -> nib.Nifti1Header:
    """The header of the NIfTI file at ``path`` as it stands there, checked as :func:`check_size` does; no voxel is read.

    Raises:
        VolumeTooLargeError, VolumeError: as ``check_size``, or as :func:`open_nifti`.
    """
    with open_nifti(path) as stream:
        return read_header(stream, path.name)[0]


@contextmanager
def open_nifti(path: Path) -> Iterator[BinaryIO]:
    """The content of the file at ``path``, plain or gzipped, to be read in the block.

    Raises:
        VolumeError: there is none, it is no plain file, or it cannot be read in the block.
    """
    try:
        if not stat.S_ISREG(path.stat().st_mode):  # a pipe would be waited for
            raise VolumeError(f"{path.name} is not readable NIfTI (a folder or a device, not a file): choose a file.")
        with path.open("rb") as file:
            yield decompress(file)
    except VolumeError:
        raise
    except FileNotFoundError as error:
        raise VolumeError(f"{path.name} does not exist in {path.parent.absolute()}.") from error
    except UNREADABLE as error:
        raise unreadable(path.name, error) from error


def copy_voxels(stream: BinaryIO, head: bytes, wanted: int, token: CancelToken) -> tuple[BinaryIO, int]:
    """The first ``wanted`` bytes of a stream of which ``head`` was read, as a file of its own, and how many there were.

    Args:
        token: looked at now and then.
    """
    copy = cast(BinaryIO, tempfile.SpooledTemporaryFile(MAX_VOXEL_BYTES))  # noqa: SIM115 - it goes with the image
    copy.write(head)
    length = len(head)
    while length < wanted and (chunk := stream.read(min(_CHUNK, wanted - length))):
        length += copy.write(chunk)
        token.raise_if_cancelled()
    return copy, length


def unreadable(name: str, error: BaseException) -> VolumeError:
    """The error for a file that ``error`` kept from being read."""
    if isinstance(error, OSError) and error.strerror:  # the file system's own reason
        return VolumeError(f"{name} is not readable NIfTI ({error.strerror}): check the file and its permissions.")
    return VolumeError(f"{name} is not readable NIfTI (cut short, damaged, another format): copy or export it again.")


def may_pass(error: VolumeError) -> bool:
    """Whether the system kept the file from being read, as it may not the next time: nobody should remember ``error``."""
    return isinstance(error.__cause__, OSError) and bool(error.__cause__.strerror)


def decompress(stream: BinaryIO) -> BinaryIO:
    """``stream``, open at its beginning, or its decompressed content where it is gzip."""
    is_gzip = stream.read(2) == b"\x1f\x8b"
    stream.seek(0)
    if not is_gzip:
        return stream
    source = stream if hasattr(stream, "readinto") else _ReadInto(stream)
    return cast(BinaryIO, igzip.IGzipFile(fileobj=source, mode="rb"))


def read_header(stream: BinaryIO, name: str) -> tuple[nib.Nifti1Header, bytes, int, int]:
    """What the head of ``stream`` says of the rest: the header as it stands, the bytes read so far, where the voxels begin and how many
    bytes of them there are. Extensions between header and voxels are passed over."""
    head = stream.read(nib.Nifti2Header.sizeof_hdr)
    if any(start in head[:64] for start in _POINTERS):
        raise VolumeError(f"{name} is a pointer to a file that was not fetched: fetch it by git annex get, datalad get or git lfs pull.")
    for place, mark, other, instead in _OTHERS:
        if head[place:].startswith(mark):
            raise VolumeError(f"{name} is {other}, not NIfTI: {instead}.")
    kind = nib.Nifti2Header if head[:4] in (b"\x1c\x02\0\0", b"\0\0\x02\x1c") else nib.Nifti1Header
    header = kind(head[: kind.sizeof_hdr], check=False)
    if bytes(header["magic"]).rstrip(b"\0") in (b"ni1", b"ni2"):
        raise VolumeError(f"{name} is one half of a pair of .hdr and .img: convert the two into one .nii.gz.")
    repaired = repair_header(header)
    # plain integers: absurd sizes in a header must not wrap round
    shape = [int(n) for n in header.get_data_shape()]
    a_phase, phases = header.get_data_dtype().itemsize * math.prod(shape[:3]), math.prod(shape[3:])
    wanted = a_phase * phases
    offset = int(repaired.get_data_offset())
    by = "x".join(map(str, shape))
    if a_phase > MAX_VOXEL_BYTES:
        size = f"{by}, {a_phase / 2**20:.0f} MiB{' a phase' * (phases > 1)}"
        raise VolumeTooLargeError(f"{name} holds more voxels ({size}) than the {MAX_VOXEL_BYTES // 2**20} MiB accepted here: crop it.")
    if phases > MAX_PHASES:
        raise VolumeTooLargeError(f"{name} holds more phases ({by}) than the {MAX_PHASES} accepted here: keep those of one heartbeat.")
    if min(a_phase, phases) < 0 or not kind.sizeof_hdr <= offset <= MAX_EXTENSION_BYTES:
        raise VolumeError(f"{name} has a header that makes no sense: export it again.")
    return header, head, offset, wanted


def repair_header(header: nib.Nifti1Header) -> nib.Nifti1Header:
    """A copy of ``header`` that nibabel's own readers accept.

    Raises:
        HeaderDataError: there is none.
    """
    repaired = header.copy()
    if 0 <= repaired["vox_offset"] < repaired.single_vox_offset:  # every program takes it that the voxels follow the header
        repaired["vox_offset"] = repaired.single_vox_offset
    repaired.check_fix(_UNHEARD)
    return repaired
