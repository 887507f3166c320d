"""Where the versions of a label lie, and the files of which they consist.

- ``labels/<tag>/<study>.nii.gz``: the current label, which MONAI Label and training read
- ``label_history/<tag>/<study>/0001.nii.gz``: version 1
- ``label_history/<tag>/<study>/0001.json``: its record, a ``Version``
"""

from __future__ import annotations

import hashlib
import logging
import os
import re
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

from filelock import FileLock
from pydantic import ValidationError

from prato.data.atomic import make_folder, stage_bytes
from prato.data.file_identity import FileStamp, file_stamp
from prato.data.nifti import gzip_bytes
from prato.data.studies.folder import find_files, is_study_id
from prato.data.studies.label_records import HISTORY
from prato.labelling.records import LabelVersionError, UnknownVersionError, Version

SUFFIX = ".nii.gz"
_NUMBERED = re.compile(r"(\d{4,})\.(json|nii\.gz)")
logger = logging.getLogger(__name__)


class LabelFiles:
    """The files of one study's label with one tag.

    Attributes:
        path: of the current label. uncompressed_path: of the same where it was put into the folder uncompressed.
        folder: of the history. studies: that all of them are in.

    Raises:
        UnknownVersionError: ``study`` or ``tag`` is not a plain file name.
    """

    def __init__(self, studies: str | os.PathLike[str], study: str, tag: str) -> None:
        for name in (study, tag):
            if not is_study_id(name):
                raise UnknownVersionError(f"There are no labels under the name {name!r:.80}: give a study's name as the server lists it.")
        self.studies = Path(studies)
        self.path = Path(studies) / "labels" / tag / f"{study}{SUFFIX}"
        self.uncompressed_path = self.path.with_name(f"{study}.nii")
        self.folder = Path(studies) / HISTORY / tag / study

    def version_path(self, number: int) -> Path:
        return self.folder / f"{number:04d}{SUFFIX}"

    def record_path(self, number: int) -> Path:
        return self.folder / f"{number:04d}.json"

    def numbers(self) -> list[int]:
        """The numbers of all versions with a file or a record, in order."""
        names = os.listdir(self.folder) if self.folder.is_dir() else []
        return sorted({int(found[1]) for found in map(_NUMBERED.fullmatch, names) if found})

    def read_record(self, number: int) -> Version | None:
        """The record of a version; None where there is none, or none that can be read."""
        try:
            return Version.model_validate_json(self.record_path(number).read_bytes())
        except FileNotFoundError:
            return None
        except ValidationError:
            logger.warning("%s is damaged: the origin of that version is no longer known.", self.record_path(number))
            return None

    def write_record(self, version: Version) -> None:
        with self.stage_record(version):
            pass

    def stage_record(self, version: Version) -> AbstractContextManager[None]:
        """Stage a version's record, as ``prato.data.atomic.stage_bytes`` does."""
        return stage_bytes(self.record_path(version.version), (version.model_dump_json(indent=1) + "\n").encode())

    def is_pending_removal(self, temporary: Path) -> bool:
        """Whether ``temporary`` was to become the record of the last version, with one removal more than that record has."""
        try:
            pending = Version.model_validate_json(temporary.read_bytes())
        except ValueError:  # another file, or not all of it
            return False
        record = self.read_record(pending.version)
        return [pending.version] == self.numbers()[-1:] and len(pending.removals) > (len(record.removals) if record else 0)

    def read_current(self) -> bytes | None:
        """The current label as a ``.nii.gz`` file; None where there is none."""
        data = read_if_exists(self.path)
        if data is None:
            data = read_if_exists(self.uncompressed_path)
            data = None if data is None else gzip_bytes(data)
        return data

    def current_path(self) -> Path:
        """Where the current label lies, or would lie."""
        return self.path if self.path.exists() or not self.uncompressed_path.exists() else self.uncompressed_path

    def stamp(self) -> list[FileStamp | None]:
        """Changes whenever the current label is replaced or removed."""
        return [file_stamp(self.path), file_stamp(self.uncompressed_path)]

    def require_inside(self) -> None:
        """Refuse to write where a link leads out of the studies folder: what lies there is somebody else's.

        Raises:
            LabelVersionError: naming the link.
        """
        inside = self.studies.resolve()
        for place in (self.path.parent, self.folder):
            if not place.resolve().is_relative_to(inside):
                where = place.relative_to(self.studies)
                raise LabelVersionError(
                    f"{where} leads out of the studies folder: replace the link by a folder that holds links to the files."
                )

    @contextmanager
    def lock(self) -> Iterator[None]:
        """One writer at a time, in whichever process.

        Raises:
            LabelVersionError: a link leads out of the studies folder.
        """
        self.require_inside()
        make_folder(self.folder)
        with FileLock(self.folder / ".lock"):
            yield


def read_if_exists(path: Path) -> bytes | None:
    """The file's bytes; None where there is no such file."""
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None


def sha256(data: bytes) -> str:
    """The SHA-256 of ``data`` in hexadecimal digits."""
    return hashlib.sha256(data).hexdigest()


def list_labelled_studies(studies: str | os.PathLike[str], tag: str = "final") -> list[str]:
    """The studies that have, or once had, a label with ``tag``, sorted."""
    kept = (name for name in file_names(Path(studies) / HISTORY / tag) if name[0] != ".")
    return sorted({*find_files(Path(studies) / "labels" / tag).files, *kept})


def file_names(folder: Path) -> list[str]:
    """The names in ``folder``, sorted; none where there is no such folder."""
    return sorted(os.listdir(folder)) if folder.is_dir() else []
