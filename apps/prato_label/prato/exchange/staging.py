"""Whole folders or nothing: files are made in a hidden folder within their target, and moved into place when all of them are there."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from prato.data.atomic import find_leftovers, make_folder, remove_abandoned, remove_if_abandoned, sync_folder, temporary_folder

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

    Raises:
        OSError: one of them is there, or cannot be moved; those moved before are taken back.
    """
    moved: list[tuple[Path, Path]] = []
    try:
        for name in names:
            source, place = staged / name, target / name
            make_folder(place.parent)
            if os.path.lexists(place):
                raise FileExistsError(17, "a file of that name has appeared meanwhile", name)
            os.rename(source, place)
            moved.append((source, place))
    except BaseException:
        for source, place in reversed(moved):
            os.rename(place, source)
        raise
    for folder in {place.parent for _, place in moved}:
        sync_folder(folder)
