"""Tracks what labellers replace or remove while a round reads, trains and measures, which takes from seconds to days."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import suppress

from prato.data.file_identity import FileStamp, file_sha256, file_stamp
from prato.data.studies.folder import StudyFile


class FileChanges:
    """Looks after the images and labels of ``files`` from now on.

    A file whose time or number changes and whose content does not, as after a copy put back or on a share that was mounted anew, stays
    the same: a training of hours must not be lost for that.

    Args:
        on_study: called after every study; may raise.

    Attributes:
        files: those that are there. absent: why others are not, by study.
    """

    def __init__(self, files: Iterable[StudyFile], on_study: Callable[[], object]) -> None:
        self.files, self.absent = list(files), dict[str, str]()
        self._on_study = on_study
        self._stamps: dict[str, tuple[FileStamp | None, FileStamp | None]] = {}
        self._checksums: dict[str, tuple[str | None, str | None]] = {}
        self._look(self.files)

    def renew(self) -> list[StudyFile]:
        """Look after those of ``files`` that have changed as they are now; which of them are there, to be read again."""
        unchanged = {file.study for file in self.unchanged(self.files)}
        changed = [file for file in self.files if file.study not in unchanged]
        self._look(changed)
        return [file for file in changed if file.study not in self.absent]

    def _look(self, files: list[StudyFile]) -> None:
        stamps = {file.study: _stamps(file) for file in files}  # before the content: what is replaced between the two is seen
        self._stamps |= stamps
        gone = [study for study, found in stamps.items() if None in found]
        self.absent |= {study: f"{study} or its label was removed before it was read." for study in gone}
        self.files = [file for file in self.files if file.study not in gone]
        for file in files:
            if stamps.pop(file.study, None) and file.study not in gone:
                self._checksums[file.study] = _checksums(file)
                self._on_study()

    def unchanged(self, files: Iterable[StudyFile]) -> list[StudyFile]:
        """Those of ``files``, studies or phases of some that are looked after, whose image and label are still what they were."""
        now: dict[str, bool] = {}
        every = list(files)
        for file in every:
            if file.study not in now:
                now[file.study] = self._is_unchanged(file)
        return [file for file in every if now[file.study]]

    def label_checksum(self, file: StudyFile) -> str | None:
        """The SHA-256 of the label file of ``file``, as it was at first; None where it could not be read."""
        return self._checksums[file.study][1]

    def _is_unchanged(self, file: StudyFile) -> bool:
        before, now = self._checksums.get(file.study, (None, None)), _stamps(file)
        return None not in before and (now == self._stamps[file.study] or _checksums(file) == before)


def _stamps(file: StudyFile) -> tuple[FileStamp | None, FileStamp | None]:
    with suppress(OSError):  # what may not be looked at is away
        return file_stamp(file.image), file_stamp(file.label)
    return None, None


def _checksums(file: StudyFile) -> tuple[str | None, str | None]:
    return file_sha256(file.image), file_sha256(file.label)
