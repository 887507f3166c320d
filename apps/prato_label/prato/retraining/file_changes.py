"""What labellers replace or remove while a round reads, trains and measures, which takes from seconds to days."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from prato.data.studies import StudyFile

_Stamp = tuple[int, int, int]


class FileChanges:
    """Looks after the images and labels of ``files`` from now on.

    Attributes:
        files: those that are there. absent: why others are not, by study.
    """

    def __init__(self, files: Iterable[StudyFile]) -> None:
        every = list(files)
        self._stamps = {file.study: _stamps(file) for file in every}
        self.files = [file for file in every if None not in self._stamps[file.study]]
        there = {file.study for file in self.files}
        self.absent = {f.study: f"{f.study} or its label was removed before it could be read." for f in every if f.study not in there}

    def unchanged(self, files: Iterable[StudyFile]) -> list[StudyFile]:
        """Those of ``files``, studies or phases of some that are looked after, whose image and label are still the same files."""
        now: dict[str, bool] = {}
        every = list(files)
        for file in every:
            if file.study not in now:
                now[file.study] = _stamps(file) == self._stamps[file.study]
        return [file for file in every if now[file.study]]


def _stamps(file: StudyFile) -> tuple[_Stamp | None, _Stamp | None]:
    return _stamp(file.image), _stamp(file.label)


def _stamp(path: Path) -> _Stamp | None:
    """Changes whenever the file at ``path`` does; None where there is none."""
    try:
        stat = path.stat()
    except OSError:
        return None
    return stat.st_mtime_ns, stat.st_ino, stat.st_size
