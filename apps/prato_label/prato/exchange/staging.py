"""Whole folders or nothing: files are made in a hidden folder within their target, and moved into place when all of them are there."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock

from prato.data.atomic import find_leftovers, make_folder, remove_abandoned, remove_if_abandoned, sync_folder, temporary_folder
from prato.data.studies.label_records import LOCK_NAME

_PREFIX = ".import-"


@contextmanager
def staging_folder(target: Path) -> Iterator[Path]:
    """An empty folder in ``target`` (which is made where it is missing), for as long as the block lasts; a block that fails leaves nothing.

    What killed processes have left there of theirs goes.

    Raises:
        OSError: ``target`` cannot be written to.
    """
    missing = [place for place in (target, *target.parents) if not place.exists()]
    make_folder(target)
    remove_abandoned_files(target)
    try:
        with temporary_folder(target, _PREFIX) as staged:
            yield staged
    except BaseException:
        with suppress(OSError):  # somebody else has put a file there meanwhile
            for place in missing:
                place.rmdir()
        raise


def remove_abandoned_files(target: Path) -> None:
    """Remove what processes that were killed have left half-written in ``target``, a studies folder or one that they were to fill."""
    for folder in (target, target / "labels" / "original"):
        remove_abandoned(folder)
    for staged in find_leftovers(target):
        if staged.name.startswith(_PREFIX) and staged.is_dir():
            remove_if_abandoned(staged)


def move_into_place(staged: Path, target: Path, names: list[str]) -> None:
    """Move ``names``, files and folders below ``staged``, to the same places below ``target``, where none of them is yet: all, or none.

    Somebody may be working in ``target``: what appears there meanwhile is not overwritten, and what was replaced or added to since it was
    moved, such as the history of a label that a labeller has corrected, is not taken back.

    Raises:
        OSError: one of them is there, or cannot be moved; those moved before are taken back.
    """
    moves = [_Move(staged / name, target / name) for name in names]
    try:
        for move in moves:
            make_folder(move.place.parent)
            move.make()
    except BaseException:
        for move in reversed(moves):
            with suppress(OSError):  # somebody has removed it, and the others are still to be taken back
                move.take_back()
        raise
    for folder in {move.place.parent for move in moves}:
        sync_folder(folder)


class _Move:
    """One file or folder on its way from ``source`` to ``place``."""

    def __init__(self, source: Path, place: Path) -> None:
        self.source, self.place = source, place
        self._content = _content(source)

    def make(self) -> None:
        """Raises FileExistsError where there is something already."""
        if not self.source.is_dir():
            try:
                os.link(self.source, self.place)  # unlike a rename, it takes the place of nothing; the other name goes with its folder
            except FileExistsError:
                raise self._is_taken() from None
            except OSError:  # as of a file system without hard links
                pass
            else:
                return
        if os.path.lexists(self.place):
            raise self._is_taken()
        os.rename(self.source, self.place)  # of two folders, one that holds something is not replaced either

    def take_back(self) -> None:
        """Remove from its place what was moved there, if it is as it was."""
        if not self.place.is_dir():
            if _content(self.place) == self._content:
                self.place.unlink()
        elif not self.source.is_dir():
            with FileLock(self.place / LOCK_NAME):  # as of the history of a label, whose next version may be stored just now
                if _content(self.place) == self._content:
                    os.rename(self.place, self.source)

    def _is_taken(self) -> FileExistsError:
        return FileExistsError(errno.EEXIST, "a file of that name has appeared meanwhile", self.place.name)


def _content(path: Path) -> object:
    """Changes when the file ``path``, or a file in the folder ``path``, is replaced, or when one is added to the folder."""
    if not path.is_dir():
        stat = path.lstat()
        return stat.st_dev, stat.st_ino
    with os.scandir(path) as files:
        return {file.name: file.inode() for file in files if file.name != LOCK_NAME}
