"""The files of a folder, a zip archive, a DICOMDIR or a single DICOM file, to be read one by one; nothing is unpacked onto the disk."""

from __future__ import annotations

import io
import os
import stat
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import BinaryIO

import pydicom

#: What an archive may unpack to, all together and one file, and how many files it may hold.
MAX_ARCHIVE_BYTES = 32 * 2**30
MAX_MEMBER_BYTES = 2 * 2**30
MAX_MEMBERS = 200_000
#: What reading a file that is damaged, missing or forbidden may raise.
UNREADABLE = (OSError, EOFError, zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError)


class DicomError(ValueError):
    """What is given cannot be imported; the message is one sentence."""


@dataclass(frozen=True)
class SourceFile:
    """A file that may be DICOM: its name for messages (relative to the source, "/" between folders), and how to open it."""

    name: str
    open: Callable[[], BinaryIO]


@contextmanager
def open_source(path: str | os.PathLike[str]) -> Iterator[list[SourceFile]]:
    """All files of ``path``, sorted by name, for as long as the block lasts.

    A folder is walked to its end, links to folders left alone. Of a DICOMDIR, the files that it lists. Zip archives inside of others, or
    inside of a folder, are not opened.

    Raises:
        DicomError: there is no such file or folder; an archive that is damaged or encrypted, that would unpack to more than
            ``MAX_ARCHIVE_BYTES``, or that, as a DICOMDIR may, names files outside of its folder.
    """
    path = Path(path)
    if path.is_dir():
        yield list(_walk(path))
    elif not path.is_file():
        raise DicomError(f"{path} does not exist: give a folder, a zip archive, a DICOMDIR or a DICOM file.")
    elif zipfile.is_zipfile(path):
        with _open_zip(path) as archive:
            yield [_member(archive, info) for info in _check_members(path, archive)]
    elif path.name.upper() == "DICOMDIR":
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
            if is_regular and name.upper() != "DICOMDIR":
                yield SourceFile(_printable(path.relative_to(folder).as_posix()), lambda path=path: path.open("rb"))  # type: ignore[misc]


@contextmanager
def _open_zip(path: Path) -> Iterator[zipfile.ZipFile]:
    try:
        archive = zipfile.ZipFile(path)
    except UNREADABLE as error:
        raise DicomError(f"{path.name} is a damaged zip archive: copy or export it again.") from error
    with archive:
        yield archive


def _check_members(path: Path, archive: zipfile.ZipFile) -> list[zipfile.ZipInfo]:
    members = [info for info in archive.infolist() if not info.is_dir()]
    for info in members:
        # a name may hold either kind of slash, whichever system wrote it
        parts = PurePosixPath(info.filename.replace("\\", "/")).parts
        if ".." in parts or parts[:1] == ("/",) or (parts and parts[0].endswith(":")):
            raise DicomError(f"{path.name} names a file outside of its folder ({_printable(info.filename)[:80]}): make the archive again.")
        if info.flag_bits & 1:
            raise DicomError(f"{path.name} is encrypted: unpack it, and give the folder.")
    total, largest = sum(info.file_size for info in members), max((info.file_size for info in members), default=0)
    if len(members) > MAX_MEMBERS or total > MAX_ARCHIVE_BYTES or largest > MAX_MEMBER_BYTES:
        taken = f"{MAX_MEMBERS} files of {MAX_ARCHIVE_BYTES / 2**30:.0f} GiB, none over {MAX_MEMBER_BYTES / 2**30:.0f} GiB"
        raise DicomError(
            f"{path.name} would unpack to {len(members)} files of {total / 2**30:.1f} GiB, one of them {largest / 2**30:.1f} GiB, "
            f"and no more than {taken}, is taken: unpack it, and give the folder."
        )
    return sorted(members, key=lambda info: info.filename)


def _member(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> SourceFile:
    # whole, as a stream out of an archive cannot go back cheaply; zipfile reads no more than the size that was checked
    return SourceFile(_printable(info.filename), lambda: io.BytesIO(archive.read(info)))


def _read_dicomdir(path: Path) -> Iterator[SourceFile]:
    try:
        records = pydicom.dcmread(path).DirectoryRecordSequence
        listed = [record.ReferencedFileID for record in records if record.get("ReferencedFileID")]
    except Exception as error:  # pydicom raises whatever a damaged file leads it to
        raise DicomError(f"{path.name} is no readable DICOMDIR: give the folder that it lies in.") from error
    root = path.parent.resolve()
    for parts in sorted([part] if isinstance(part, str) else list(part) for part in listed):
        file = root.joinpath(*parts)
        if ".." in parts or not file.resolve().is_relative_to(root):
            raise DicomError(
                f"{path.name} lists a file outside of its folder ({_printable('/'.join(parts))[:80]}): give the folder itself."
            )
        yield SourceFile(_printable("/".join(parts)), lambda file=file: file.open("rb"))  # type: ignore[misc]


def _printable(name: str) -> str:
    """``name`` with what no terminal can print, or what is no Unicode, replaced."""
    text = name.encode("utf-8", "replace").decode()
    return "".join(letter if letter.isprintable() else "?" for letter in text)
