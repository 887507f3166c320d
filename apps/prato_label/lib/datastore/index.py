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
    """MONAI Label's local datastore, whose list is written whole, and rebuilt from the files where it is lost or damaged.

    What it says of a label is what the record of the label's current version says.
    """

    _config_ts: float

    def _init_from_datastore_file(self, throw_exception: bool = False) -> None:
        """As the stock one, but it never fails: a list that cannot be read is set aside."""
        path = Path(self._datastore_config_path)
        with FileLock(self._lock_file):
            if throw_exception:  # at start
                for temporary in find_leftovers(path.parent):
                    if temporary.name.startswith(f".{path.name}."):
                        temporary.unlink(missing_ok=True)
            try:
                changed = path.stat().st_mtime
                if changed == self._config_ts and not throw_exception:  # a file dated 1970 is no file that was read
                    return
                read = LocalDatastoreModel.model_validate_json(path.read_bytes())
            except FileNotFoundError:
                if not self._config_ts and not (throw_exception and any(path.parent.glob("labels/*/*"))):
                    return  # a folder that is new to the server, or that is being scanned
                logger.warning("%s is missing: the list of studies is rebuilt from the files.", path.name)
            except ValueError:
                damaged = path.with_suffix(".damaged")
                logger.warning("%s is damaged: it is set aside as %s and rebuilt from the files.", path.name, damaged.name)
                os.replace(path, damaged)
            else:
                read.base_path = self._datastore_path
                self._datastore, self._config_ts = read, changed
                return
            if not throw_exception:  # at start, the files have yet to be scanned
                self._update_datastore_file(lock=False)

    def _update_datastore_file(self, lock: bool = True) -> None:
        with FileLock(self._lock_file) if lock else nullcontext():
            text = json.dumps(self._datastore.model_dump(exclude={"base_path"}), indent=2, default=str)
            write_bytes(self._datastore_config_path, text.encode())
            self._config_ts = Path(self._datastore_config_path).stat().st_mtime

    def _remove_non_existing(self) -> int:
        """As the stock one, but the list is replaced at once: the stock one empties it first, and a request meanwhile finds no study."""
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

    def _get_study(self, image_id: str) -> ImageLabelModel:
        study = self._datastore.objects.get(image_id)
        if study is None:
            raise HTTPException(404, f"There is no study called {image_id!r:.80} here: GET /datastore/?output=all lists them.")
        return study

    def _update_label_entry(self, study: str, tag: str) -> None:
        """Write into the list of studies what the record of a label's current version says."""
        with FileLock(self._lock_file):
            labels = self._get_study(study).labels  # not earlier: the watcher may have reloaded the list since
            current = LabelVersions(self._datastore_path, study, tag).current()
            if current is None:
                labels.pop(tag, None)
            else:
                labels[tag] = DataModel(info=_label_info(current, f"{study}{SUFFIX}"), ext=SUFFIX)
            with _tolerate_full_disk():
                self._update_datastore_file(lock=False)

    def _reconcile_datastore(self) -> None:
        with _tolerate_full_disk():
            super()._reconcile_datastore()
        labels = [(study, *label) for study, known in list(self._datastore.objects.items()) for label in list(known.labels.items())]
        with FileLock(self._lock_file):
            changed = [self._refresh_label_entry(*label) for label in labels if label[1] != DefaultLabelTag.ORIGINAL.value]
            if any(changed):
                with _tolerate_full_disk():
                    self._update_datastore_file(lock=False)

    def _refresh_label_entry(self, study: str, tag: str, label: DataModel) -> bool:
        """As ``_update_label_entry`` for a label that may have been put there by other means; True if its entry changed."""
        try:
            versions = LabelVersions(self._datastore_path, study, tag)
        except UnknownVersionError:  # a file may have a name that a submission may not
            return False
        number, checksum = label.info.get("version"), label.info.get("sha256")
        if isinstance(number, int) and isinstance(checksum, str) and versions.is_current(number, checksum):
            return False
        sent = {key: value for key, value in label.info.items() if key not in ("ts", "name", "voxels")}
        if sent and not checksum:  # from before there were versions: the list alone knows where it comes from
            versions.adopt(sent)
        current = versions.current()
        if current is not None:
            label.info = _label_info(current, f"{study}{label.ext}")
        return current is not None


@contextmanager
def _tolerate_full_disk() -> Iterator[None]:
    """Tolerate a full disk where only the list is written, which can be rebuilt: a stored label stays stored, and the watcher goes on."""
    try:
        yield
    except OSError as error:
        if not is_disk_full(error):
            raise
        logger.warning("the list of studies cannot be written now (%s); it will be with the next change", error.strerror)


def _label_info(version: Version, name: str) -> dict[str, Any]:
    """The entry of a label in the list of studies: all that its client sent, and what the server knows."""
    known = {"ts": int(version.created.timestamp()), "name": name, "voxels": version.voxels, "version": version.version}
    return {**version.params, **known, "sha256": version.sha256}


#: Not the opening or closing of files: the server reads every version of a label when one is submitted, and the watcher, notified of these
#: reads, would fill the memory with events faster than it can handle them.
CHANGES = [FileCreatedEvent, FileDeletedEvent, FileModifiedEvent, FileMovedEvent]


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
            except Exception:  # the next change must still be seen
                logger.exception("the studies folder cannot be scanned")
