"""Whole folders or nothing: files are made in a hidden folder within their target, and moved into place when all of them are there."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from prato.data.atomic import make_folder, sync_folder

_PREFIX = ".import-"


@contextmanager
def staging_folder(target: Path) -> Iterator[Path]:
    """An empty folder in ``target`` (which is made where it is missing), for as long as the block lasts; a block that fails leaves nothing.

    Raises:
        OSError: ``target`` cannot be written to.
    """
    missing = [place for place in (target, *target.parents) if not place.exists()]
    make_folder(target)
    staged = Path(tempfile.mkdtemp(prefix=_PREFIX, suffix=".tmp", dir=target))
    try:
        yield staged
    except BaseException:
        shutil.rmtree(staged, ignore_errors=True)
        with suppress(OSError):  # somebody else has put a file there meanwhile
            for place in missing:
                place.rmdir()
        raise
    shutil.rmtree(staged, ignore_errors=True)


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
