"""Where things lie in this repository."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

ROOT = Path(__file__).resolve().parents[2]
#: The app that a server runs, and its shipped weights.
APP = ROOT / "apps" / "prato_label"
MODELS = APP / "model"
DOCS = ROOT / "docs"
RESULTS, IMAGES = DOCS / "results", DOCS / "images"
#: Which patients of ACDC the shipped models were trained on, and which they were validated on.
ACDC_SPLIT = RESULTS / "acdc_split.json"
#: The network behind a click; it serves every model.
REFINER = APP / "refiner" / "click_refiner.safetensors"


def check_writable(path: Path, is_folder: bool) -> None:
    """Say so before hours of work, rather than after them, if ``path`` cannot be written. Makes nothing.

    Raises:
        ValueError: ``path`` cannot become a file, or a folder of files.
    """
    there = next(place for place in (path.absolute(), *path.absolute().parents) if place.exists())
    is_fit = there.is_dir() if is_folder or there != path.absolute() else there.is_file()
    if not is_fit or not os.access(there, os.W_OK):
        wanted = "a folder, or a place for one," if is_folder else "a file in a folder"
        raise ValueError(f"{path} cannot be written: name {wanted} that is writable.")


@contextmanager
def folder_held(out: Path) -> Iterator[None]:
    """Make the folder, and let no other training write to it meanwhile.

    Raises:
        ValueError: one does already.
    """
    out.mkdir(parents=True, exist_ok=True)
    lock = FileLock(out / ".lock")
    try:
        lock.acquire(blocking=False)
    except Timeout:
        raise ValueError(f"Another process is training into {out}: wait for it, or choose another --out.") from None
    try:
        yield
    finally:
        lock.release()
