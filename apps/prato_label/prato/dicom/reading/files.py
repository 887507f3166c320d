"""The files of a folder, a zip archive, a DICOMDIR or a single DICOM file, to be read one by one; nothing is unpacked onto the disk."""

from __future__ import annotations

import io
import os
import re
import stat
import zipfile
import zlib
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from typing import BinaryIO

import pydicom

#: The list of an archive's files is read whole before it can be counted: this many bytes a file, most of them its name.
_LISTED_BYTES = 512
#: What ISO 9660 adds to the name of a file on a disc.
_DISC_VERSION = re.compile(r";\d+$")
_DEFLATED = b"1.2.840.10008.1.2.1.99"
#: What reading a file that is damaged, missing or forbidden may raise.
UNREADABLE = (OSError, EOFError, zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError)


class DicomError(ValueError):
    """What is given cannot be imported; the message is one sentence."""


@dataclass(frozen=True)
class ArchiveLimits:
    """What an archive may unpack to, all together and one file, in bytes, and how many files it may hold."""

    total: int = 32 * 2**30
    file: int = 2 * 2**30
    files: int = 200_000


#: Of an archive that somebody imports on their own machine.
LIMITS = ArchiveLimits()


@dataclass(frozen=True)
class SourceFile:
    """A file that may be DICOM: its name for messages (relative to the source, "/" between folders), and how to open it."""

    name: str
    open: Callable[[], BinaryIO]


def file_length(file: SourceFile) -> int:
    """In bytes."""
    with file.open() as stream:
        return stream.seek(0, os.SEEK_END)


@contextmanager
def open_source(path: str | os.PathLike[str], limits: ArchiveLimits = LIMITS) -> Iterator[list[SourceFile]]:
    """All files of ``path``, sorted by name, for as long as the block lasts.

    A folder is walked to its end, links to folders left alone. Of a DICOMDIR, the files that it lists. Zip archives inside of others, or
    inside of a folder, are not opened.

    Raises:
        DicomError: there is no such file or folder; an archive that is damaged or encrypted, that is beyond ``limits``, or that, as a
            DICOMDIR may, names files outside of its folder.
    """
    path = Path(path)
    if path.is_dir():
        yield list(_walk(path))
    elif not path.is_file():
        raise DicomError(f"{path} does not exist: give a folder, a zip archive, a DICOMDIR or a DICOM file.")
    elif zipfile.is_zipfile(path):
        with _open_zip(path, limits) as archive:
            yield [_member(archive, info) for info in _check_members(path, archive, limits)]
    elif _is_dicomdir(path.name):
        yield list(_read_dicomdir(path))
    else:
        yield [SourceFile(path.name, lambda: path.open("rb"))]


def _walk(folder: Path) -> Iterator[SourceFile]:
    for parent, folders, names in os.walk(folder):
        folders.sort()
        for name in sorted(names):
            path = Path(parent, name)
            try:
                is_regular = stat.S_ISREG(path.stat().st_mode)  # a pipe would wait for ever
            except OSError:
                is_regular = False
            if is_regular and not _is_dicomdir(name):
                yield SourceFile(printable(path.relative_to(folder).as_posix()), lambda path=path: path.open("rb"))  # type: ignore[misc]


@contextmanager
def _open_zip(path: Path, limits: ArchiveLimits) -> Iterator[zipfile.ZipFile]:
    try:
        if _list_bytes(path) > limits.files * _LISTED_BYTES:
            raise DicomError(
                f"{path.name} lists more than the {limits.files} files that are accepted: give the folder, or fewer files at once."
            )
        archive = zipfile.ZipFile(path)
    except UNREADABLE as error:
        raise DicomError(f"{path.name} is a damaged zip archive: copy or export it again.") from error
    with archive:
        yield archive


def _list_bytes(path: Path) -> int:
    """How long the list of an archive's files is: what lies before the record that ends it, which is among the last 64 KiB."""
    size = path.stat().st_size
    with path.open("rb") as stream:
        stream.seek(max(size - 2**16 - 22, 0))
        tail = stream.read()
    end = tail.rfind(b"PK\x05\x06")
    length = int.from_bytes(tail[end + 12 : end + 16], "little") if end >= 0 else 0
    large = tail.rfind(b"PK\x06\x06", 0, max(end, 0))
    return int.from_bytes(tail[large + 40 : large + 48], "little") if length == 2**32 - 1 and large >= 0 else length


def _check_members(path: Path, archive: zipfile.ZipFile, limits: ArchiveLimits) -> list[zipfile.ZipInfo]:
    members = [info for info in archive.infolist() if not info.is_dir()]
    for info in members:
        # a name may hold either kind of slash, whichever system wrote it
        parts = PurePosixPath(info.filename.replace("\\", "/")).parts
        if ".." in parts or parts[:1] == ("/",) or (parts and parts[0].endswith(":")):
            raise DicomError(f"{path.name} names a file outside of its folder ({printable(info.filename)[:80]}): make the archive again.")
        if info.flag_bits & 1:
            raise DicomError(f"{path.name} is encrypted: unpack it first.")
    total, largest = sum(info.file_size for info in members), max((info.file_size for info in members), default=0)
    if len(members) > limits.files or total > limits.total or largest > limits.file:
        taken = f"{limits.files} files of {limits.total / 2**30:.3g} GiB, none over {limits.file / 2**30:.3g} GiB"
        raise DicomError(
            f"{path.name} would unpack to {len(members)} files of {total / 2**30:.1f} GiB, one of them {largest / 2**30:.1f} GiB, "
            f"but at most {taken}, are accepted: give the folder, or fewer files at once."
        )
    return sorted(members, key=lambda info: info.filename)


def _member(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> SourceFile:
    # whole, as a stream out of an archive cannot go back cheaply; zipfile reads no more than the size that was checked
    return SourceFile(printable(info.filename), lambda: io.BytesIO(archive.read(info)))


def check_inflated(stream: BinaryIO, head: bytes, limit: int) -> None:
    """Refuse a file whose deflated part would unpack to more than ``limit`` bytes: it is unpacked whole when it is read.

    Args:
        stream: at any place. head: how the file begins.

    Raises:
        DicomError: it would.
    """
    if _DEFLATED not in head[:2048]:
        return
    stream.seek(144 + int.from_bytes(head[140:144], "little"))  # behind the preamble, and the group whose length stands first in it
    unpacker, size = zlib.decompressobj(-zlib.MAX_WBITS), 0
    while (chunk := unpacker.unconsumed_tail or stream.read(2**16)) and not unpacker.eof:
        size += len(unpacker.decompress(chunk, 2**20))
        if size > limit:
            raise DicomError(f"unpacks to more than {limit // 2**20} MiB")


def _is_dicomdir(name: str) -> bool:
    return _plain(name) == "dicomdir"


def _read_dicomdir(path: Path) -> Iterator[SourceFile]:
    try:
        records = pydicom.dcmread(path).DirectoryRecordSequence
        listed = [record.ReferencedFileID for record in records if record.get("ReferencedFileID")]
    except Exception as error:  # pydicom raises whatever a damaged file leads it to
        raise DicomError(f"{path.name} is not a readable DICOMDIR: give the folder that it lies in.") from error
    root, folders = path.parent.resolve(), _Folders()
    for name in sorted("/".join([part] if isinstance(part, str) else part).replace("\0", "") for part in listed):
        parts = name.split("/")
        files = [] if ".." in parts else folders.find(root, parts)
        if ".." in parts or not all(file.resolve().is_relative_to(root) for file in (root / name, *files)):
            raise DicomError(f"{path.name} lists a file outside of its folder ({printable(name)[:80]}): give the folder itself.")
        for file in files or [root / name]:
            yield SourceFile(printable(file.relative_to(root).as_posix()), partial(_open_file, file))


def _open_file(path: Path) -> BinaryIO:
    if not stat.S_ISREG(path.stat().st_mode):  # a pipe would be waited for
        raise IsADirectoryError(path)
    return path.open("rb")


class _Folders:
    """Files by names whose letters may be large or small: a DICOMDIR has large ones, and whoever copied the disc may have made them small.
    Some systems keep the version that ISO 9660 adds (``;1``), or a dot at the end."""

    def __init__(self) -> None:
        self._names: dict[Path, dict[str, list[str]]] = {}

    def find(self, folder: Path, parts: Sequence[str]) -> list[Path]:
        """The one that is called exactly so, else all that may be meant: of two copies of an image the importer takes one."""
        if not parts:
            return [folder]
        exact = folder / parts[0]
        names = [parts[0]] if os.path.exists(exact) else self._listed(folder).get(_plain(parts[0]), [])
        return [path for name in names for path in self.find(folder / name, parts[1:])]

    def _listed(self, folder: Path) -> dict[str, list[str]]:
        if folder not in self._names:
            found: dict[str, list[str]] = defaultdict(list)
            for name in sorted(os.listdir(folder)) if folder.is_dir() else ():
                found[_plain(name)].append(name)
            self._names[folder] = found
        return self._names[folder]


def _plain(name: str) -> str:
    """``name`` of a file on a disc in small letters, without version and the dot of an empty ending."""
    return _DISC_VERSION.sub("", name).rstrip(".").casefold()


def printable(name: str) -> str:
    """``name`` with what no terminal can print, or what is no Unicode, replaced."""
    text = name.encode("utf-8", "replace").decode()
    return "".join(letter if letter.isprintable() else "?" for letter in text)
