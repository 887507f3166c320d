"""MONAI Label's list of a studies folder (datastore_v2.json), which a crash, a full disk or a careless hand may damage at any time."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from threading import Event, Thread
from typing import Any

from fastapi import HTTPException
from filelock import FileLock
from monailabel.datastore.local import DataModel, ImageLabelModel, LocalDatastore, LocalDatastoreModel
from monailabel.interfaces.datastore import DefaultLabelTag
from watchdog.events import FileCreatedEvent, FileDeletedEvent, FileModifiedEvent, FileMovedEvent, FileSystemEvent

from prato.data.atomic import find_leftovers, is_disk_full, write_bytes
from prato.labelling.files import SUFFIX
from prato.labelling.records import UnknownVersionError, Version
from prato.labelling.versions import LabelVersions

logger = logging.getLogger(__name__)


class DurableIndex(LocalDatastore):
    """MONAI Label's local datastore, whose list is written whole, and made anew from the files where it is lost or damaged.

    What it says of a label is what the record of the label's current version says.
    """

    def _init_from_datastore_file(self, throw_exception: bool = False) -> None:
        """As the stock one, but no reason to fail: what cannot be read is set aside."""
        path = Path(self._datastore_config_path)
        with FileLock(self._lock_file):
            if throw_exception:  # the first time
                for torn in find_leftovers(path.parent):
                    if torn.name.startswith(f".{path.name}."):
                        torn.unlink(missing_ok=True)
            try:
                changed = path.stat().st_mtime
                if changed == self._config_ts and not throw_exception:  # a file dated 1970 is no file that was read
                    return
                read = LocalDatastoreModel.model_validate_json(path.read_bytes())
            except FileNotFoundError:
                if not self._config_ts and not (throw_exception and any(path.parent.glob("labels/*/*"))):
                    return  # a folder that is new to the server, or that is being looked through
                logger.warning("%s is missing: the list of studies is made anew from the files.", path.name)
            except ValueError:
                damaged = path.with_suffix(".damaged")
                logger.warning("%s is damaged: it is set aside as %s and made anew from the files.", path.name, damaged.name)
                os.replace(path, damaged)
            else:
                read.base_path = self._datastore_path
                self._datastore, self._config_ts = read, changed
                return
            if not throw_exception:  # at first, the files have yet to be looked through
                self._update_datastore_file(lock=False)

    def _update_datastore_file(self, lock: bool = True) -> None:
        with FileLock(self._lock_file) if lock else nullcontext():
            text = json.dumps(self._datastore.model_dump(exclude={"base_path"}), indent=2, default=str)
            write_bytes(self._datastore_config_path, text.encode())
            self._config_ts = Path(self._datastore_config_path).stat().st_mtime

    def _remove_non_existing(self) -> int:
        """As the stock one, but the list is replaced in one go: it empties it first, and a request meanwhile finds no study."""
        self._init_from_datastore_file()
        gone, there = 0, {}
        for image_id, study in list(self._datastore.objects.items()):
            if not (Path(self._datastore.image_path()) / self._filename(image_id, study.image.ext)).exists():
                gone += 1
                continue
            labels = {
                tag: label
                for tag, label in list(study.labels.items())
                if (Path(self._datastore.label_path(tag)) / self._filename(image_id, label.ext)).exists()
            }
            gone += len(study.labels) - len(labels)
            there[image_id] = study if len(labels) == len(study.labels) else study.model_copy(update={"labels": labels})
        self._datastore.objects = there
        return gone

    def _known(self, image_id: str) -> ImageLabelModel:
        study = self._datastore.objects.get(image_id)
        if study is None:
            raise HTTPException(404, f"There is no study called {image_id!r:.80} here: GET /datastore/?output=all lists them.")
        return study

    def _list(self, study: str, tag: str) -> None:
        """Let the list of studies say of a label what the record of its current version says."""
        with FileLock(self._lock_file):
            labels = self._known(study).labels  # not sooner: the watcher may have read the list anew since
            current = LabelVersions(self._datastore_path, study, tag).current()
            if current is None:
                labels.pop(tag, None)
            else:
                labels[tag] = DataModel(info=_info(current, f"{study}{SUFFIX}"), ext=SUFFIX)
            with _later():
                self._update_datastore_file(lock=False)

    def _reconcile_datastore(self) -> None:
        with _later():
            super()._reconcile_datastore()
        labels = [(study, *label) for study, known in list(self._datastore.objects.items()) for label in list(known.labels.items())]
        with FileLock(self._lock_file):
            changed = [self._describe(*label) for label in labels if label[1] != DefaultLabelTag.ORIGINAL.value]
            if any(changed):
                with _later():
                    self._update_datastore_file(lock=False)

    def _describe(self, study: str, tag: str, label: DataModel) -> bool:
        """As ``_list`` for a label that may have come by another way; True if something else was said of it."""
        try:
            versions = LabelVersions(self._datastore_path, study, tag)
        except UnknownVersionError:  # a name that a file may have and a submission may not
            return False
        number, checksum = label.info.get("version"), label.info.get("sha256")
        if isinstance(number, int) and isinstance(checksum, str) and versions.is_current(number, checksum):
            return False
        sent = {key: value for key, value in label.info.items() if key not in ("ts", "name", "voxels")}
        if sent and not checksum:  # from before there were versions: the list alone knows where it comes from
            versions.adopt(sent)
        current = versions.current()
        if current is not None:
            label.info = _info(current, f"{study}{label.ext}")
        return current is not None


@contextmanager
def _later() -> Iterator[None]:
    """Let a full disk not stop what the list can be made anew from: a label that is stored is stored, and the watcher goes on."""
    try:
        yield
    except OSError as error:
        if not is_disk_full(error):
            raise
        logger.warning("the list of studies cannot be written now (%s); it will be with the next change", error.strerror)


def _info(version: Version, name: str) -> dict[str, Any]:
    """What the list of studies says of a label: all that its client sent, and what the server knows."""
    known = {"ts": int(version.created.timestamp()), "name": name, "voxels": version.voxels, "version": version.version}
    return {**version.params, **known, "sha256": version.sha256}


#: Not that a file is opened or closed: the server reads every version of a label when one is submitted, and the watcher, looking at its own
#: reading, would fill the memory with events faster than it can deal with them.
CHANGES = [FileCreatedEvent, FileDeletedEvent, FileModifiedEvent, FileMovedEvent]


class Refresher:
    """Called with an event, has ``refresh`` run soon; one run answers all events that came before it began."""

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
            except Exception:  # the next change must be seen all the same
                logger.exception("the studies folder cannot be looked through")
