"""Notices what other programs change in the studies folder, and does nothing else: an idle server stays idle."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from pathlib import Path
from threading import Event, Thread

from fastapi import HTTPException
from watchdog.events import (
    FileClosedEvent,
    FileCreatedEvent,
    FileDeletedEvent,
    FileModifiedEvent,
    FileMovedEvent,
    FileSystemEvent,
    FileSystemEventHandler,
)

from prato.data.studies.folder import ENDINGS
from prato.data.studies.label_records import LIST_NAME

logger = logging.getLogger(__name__)
#: Not that files are opened, or closed after reading: the server reads every version of a label when one is submitted, and the watcher,
#: notified of these reads, would fill the memory with events faster than it can handle them.
CHANGES = [FileClosedEvent, FileCreatedEvent, FileDeletedEvent, FileModifiedEvent, FileMovedEvent]
#: File systems of other machines, whose changes the kernel does not report: these folders have to be scanned again and again.
_REMOTE = {"nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "afs", "ceph", "lustre", "glusterfs", "vboxsf", "fuse.sshfs", "fuse.s3fs"}


class FolderEvents(FileSystemEventHandler):
    """Calls ``refresh`` where an image, a label or MONAI Label's list has come, changed or gone, unless the list is as we wrote it.

    Paths are compared part by part, as the folder's name may hold anything, patterns' characters too.

    Args:
        folder: of the studies.
        is_own_list: whether the list on the disk is the one that this server wrote or read last.
    """

    def __init__(self, folder: Path, is_own_list: Callable[[], bool], refresh: Callable[[FileSystemEvent], None]) -> None:
        self._folder, self._is_own_list, self._refresh = folder, is_own_list, refresh

    def on_any_event(self, event: FileSystemEvent) -> None:
        paths = [Path(os.fsdecode(path)) for path in (event.src_path, event.dest_path) if path]
        kinds = {self._kind(path) for path in paths}
        is_news = "study" in kinds and event.event_type != "modified"  # half a file is no news; that it was closed is
        if is_news or ("list" in kinds and not self._is_own_list()):
            self._refresh(event)

    def _kind(self, path: Path) -> str:
        """What lies at ``path``: "study" for an image or a label, "list" for the list, nothing for all else."""
        try:
            *folders, name = path.relative_to(self._folder).parts
        except ValueError:  # the folder itself, or outside it
            return ""
        if not folders and name == LIST_NAME:
            return "list"
        is_place = not folders or (len(folders) == 2 and folders[0] == "labels")
        return "study" if is_place and name.endswith(ENDINGS) else ""


class Refresher:
    """Called with an event, runs ``refresh`` soon; one run covers all events before it began."""

    def __init__(self, refresh: Callable[[], None]) -> None:
        self._refresh, self._due = refresh, Event()
        Thread(target=self._work, name="refresh", daemon=True).start()

    def __call__(self, event: FileSystemEvent) -> None:
        self._due.set()

    def _work(self) -> None:
        while self._due.wait():
            self._due.clear()
            try:
                self._refresh()
            except HTTPException as error:
                logger.warning("%s", error.detail)
            except Exception:  # the next change must still be seen
                logger.exception("the studies folder cannot be scanned")


def is_remote(folder: str | os.PathLike[str]) -> bool:
    """Whether ``folder`` lies on another machine's file system; where that cannot be known, whether it lies on a mount of its own."""
    path = os.path.realpath(folder)
    try:
        entries = [line.split()[1:3] for line in Path("/proc/mounts").read_text(encoding="utf-8", errors="surrogateescape").splitlines()]
    except OSError:
        return any(os.path.ismount(parent) for parent in (path, *map(str, Path(path).parents)) if parent != "/")
    found = {where.replace("\\040", " "): kind for where, kind in entries}
    return next((found[parent] in _REMOTE for parent in (path, *map(str, Path(path).parents)) if parent in found), False)
