"""MONAI Label's list of a studies folder (datastore_v2.json), which a crash, a full disk or a careless hand may damage at any time."""

from __future__ import annotations

import json
import logging
import os
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from fastapi import HTTPException
from filelock import FileLock
from monailabel.datastore.local import DataModel, ImageLabelModel, LocalDatastore, LocalDatastoreModel
from monailabel.interfaces.datastore import DefaultLabelTag

from prato.data.atomic import find_leftovers, is_disk_full, write_bytes
from prato.data.cine import read_cine_head
from prato.data.nifti_head import VolumeError
from prato.data.studies import ManifestError, find_files, load_manifest, split_name
from prato.labelling.files import SUFFIX, read_if_exists
from prato.labelling.records import UNKNOWN, UnknownVersionError, Version
from prato.labelling.restoring import convert_found_label
from prato.labelling.versions import LabelVersions

logger = logging.getLogger(__name__)


class DurableIndex(LocalDatastore):
    """MONAI Label's local datastore, whose list is written whole, and rebuilt from the files where it is lost or damaged.

    What it says of a label is what the record of the label's current version says. Several servers may serve one folder: whoever changes
    the list reads it first, and writes it before anybody else may (:meth:`changed_list`).
    """

    #: Of the list as it was last read or written; None before.
    _stamp: tuple[int, int, int] | None = None
    _shared_lock: FileLock | None = None

    def __init__(self, *arguments: Any, **options: Any) -> None:
        self._logged: set[str] = set()
        self._heads: dict[str, tuple[int, int, int]] = {}
        super().__init__(*arguments, **options)

    def _lock(self) -> FileLock:
        """The folder's lock, which other servers take, too; a thread that has it may take it again."""
        if self._shared_lock is None:
            self._shared_lock = FileLock(self._lock_file)
        return self._shared_lock

    @contextmanager
    def changed_list(self) -> Iterator[None]:
        """What the block changes of the list is a change of the list as it is on the disk now, where it stands at the end of the block.

        Raises:
            OSError: the list cannot be written.
        """
        with self._lock():
            self._init_from_datastore_file()
            yield
            self._update_datastore_file()

    def is_own_list(self) -> bool:
        """Whether the list on the disk is the one that was read or written last."""
        return self._stamp is not None and self._stamp == _stamp(Path(self._datastore_config_path))

    def _init_from_datastore_file(self, throw_exception: bool = False) -> None:
        """As the stock one, but it never fails: a list that cannot be read is set aside."""
        path = Path(self._datastore_config_path)
        with self._lock():
            if throw_exception:  # at start
                for temporary in find_leftovers(path.parent):
                    if temporary.name.startswith(f".{path.name}."):
                        temporary.unlink(missing_ok=True)
            try:
                if self.is_own_list():
                    return
                stamp, read = _stamp(path), LocalDatastoreModel.model_validate_json(path.read_bytes())
            except FileNotFoundError:
                if not self._stamp and not (throw_exception and any(path.parent.glob("labels/*/*"))):
                    return  # a folder that is new to the server, or that is being scanned
                logger.warning("%s is missing: the list of studies is rebuilt from the files.", path.name)
            except ValueError:
                damaged = path.with_suffix(".damaged")
                logger.warning("%s is damaged: it is set aside as %s and rebuilt from the files.", path.name, damaged.name)
                os.replace(path, damaged)
            else:
                read.base_path = self._datastore_path
                self._datastore, self._stamp = read, stamp
                return
            if not throw_exception:  # at start, the files have yet to be scanned
                self._update_datastore_file()

    def _update_datastore_file(self, lock: bool = True) -> None:
        """Write the list, unless it stands on the disk already: to whoever watches the folder, a write is news."""
        path = Path(self._datastore_config_path)
        with self._lock():
            text = json.dumps(self._datastore.model_dump(exclude={"base_path"}), indent=2, default=str).encode()
            if read_if_exists(path) != text:
                write_bytes(path, text)
            self._stamp = _stamp(path)

    def _to_id(self, file: str) -> tuple[str, str]:
        """The id and the ending of a file's name; the stock one takes the ending out wherever it stands."""
        return split_name(file) or super()._to_id(file)

    def _list_files(self, path: str, patterns: Iterable[str]) -> dict[str, str]:
        """The names of the images, or of the labels with one tag, by ``prato.data.studies.find_files``; what is left out is logged once."""
        found = find_files(path)
        for sentence in found.left_out.values():
            if sentence not in self._logged:
                self._logged.add(sentence)
                logger.warning("%s", sentence)
        return {file.name: file.name for file in found.files.values()}

    def _remove_non_existing(self) -> int:
        """As the stock one, but the list is replaced at once: the stock one empties it first, and a request meanwhile finds no study."""
        self._init_from_datastore_file()
        gone, there, images = 0, {}, self._list_files(self._datastore.image_path(), self._extensions)
        tags = {tag for study in list(self._datastore.objects.values()) for tag in study.labels}
        # a stock server lists labels in whatever format they were sent
        labels_of = {tag: self._list_files(self._datastore.label_path(tag), self._extensions) for tag in tags}
        for image_id, study in list(self._datastore.objects.items()):
            if self._filename(image_id, study.image.ext) not in images:
                gone += 1
                continue
            labels = {
                tag: label for tag, label in list(study.labels.items()) if self._filename(image_id, label.ext) in labels_of.get(tag, ())
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
        with _tolerate_full_disk(), self.changed_list():
            labels = self._get_study(study).labels  # not earlier: the list may have been reloaded since
            current = LabelVersions(self._datastore_path, study, tag).current()
            if current is None:
                labels.pop(tag, None)
            else:
                labels[tag] = DataModel(info=_label_info(current, f"{study}{SUFFIX}"), ext=SUFFIX)

    def _reconcile_datastore(self) -> None:
        with self._lock():  # from reading the list to writing it
            with _tolerate_full_disk():
                super()._reconcile_datastore()
            cines = [self._refresh_image_entry(*entry) for entry in list(self._datastore.objects.items())]
            labels = [(study, *label) for study, known in list(self._datastore.objects.items()) for label in list(known.labels.items())]
            changed = [self._refresh_label_entry(*label) for label in labels if label[1] != DefaultLabelTag.ORIGINAL.value]
            if any((*cines, *changed, self._mark_known_phases())):
                with _tolerate_full_disk():
                    self._update_datastore_file()

    def _refresh_image_entry(self, study: str, known: ImageLabelModel) -> bool:
        """Write into the list how many phases an image has, as its header says; True if its entry changed. Each file is looked at once."""
        path = Path(self._datastore_path) / f"{study}{known.image.ext}"
        stamp = _stamp(path)
        if stamp is None or self._heads.get(study) == stamp:
            return False
        self._heads[study] = stamp
        try:
            head = read_cine_head(path)
        except VolumeError:  # whoever reads it is told
            return False
        found, before = phases_info(head.phases, head.times_ms), dict(known.image.info)
        for name in ("phases", "times_ms"):
            known.image.info.pop(name, None)
        known.image.info.update(found)
        return bool(known.image.info != before)

    def _mark_known_phases(self) -> bool:
        """Write into the list which phases of a cine the folder's manifest says are ED and ES, where nobody has decided that; True if it
        changed."""
        cines = {
            study: known.image.info
            for study, known in list(self._datastore.objects.items())
            if "phases" in known.image.info and "marked" not in known.image.info
        }
        try:
            manifest = load_manifest(self._datastore_path) if cines else None
        except ManifestError:  # whoever needs it is told
            return False
        listed = {study: manifest.studies[study] for study in cines if study in manifest.studies} if manifest else {}
        marks = {study: {"ed": each.ed, "es": each.es} for study, each in listed.items() if None not in (each.ed, each.es)}
        for study, pair in marks.items():
            cines[study]["marked"] = {**pair, "annotator": manifest.source if manifest else UNKNOWN, "ts": int(time.time())}
        return bool(marks)

    def _refresh_label_entry(self, study: str, tag: str, label: DataModel) -> bool:
        """As ``_update_label_entry`` for a label that may have been put there by other means; True if its entry changed."""
        try:
            versions = LabelVersions(self._datastore_path, study, tag)
        except UnknownVersionError:  # a file may have a name that a submission may not
            return False
        number, checksum = label.info.get("version"), label.info.get("sha256")
        is_checked = isinstance(label.info.get("warnings"), list)
        if is_checked and isinstance(number, int) and isinstance(checksum, str) and versions.is_current(number, checksum):
            return False
        sent = {key: value for key, value in label.info.items() if key not in ("ts", "name", "voxels", "phases", "warnings")}
        if sent and not checksum:  # from before there were versions: the list alone knows where it comes from
            versions.adopt(sent)
        warnings: tuple[str, ...] = ()
        with _tolerate_full_disk():
            warnings = convert_found_label(versions, self.get_image_uri(study))
        current = versions.current()
        if current is not None:
            label.ext = SUFFIX if versions.current_path().name.endswith(SUFFIX) else ".nii"
            label.info = {**_label_info(current, f"{study}{label.ext}"), "warnings": [*warnings]}
            for warning in warnings:
                logger.warning("%s: %s", study, warning)
        return current is not None


def phases_info(phases: int, times_ms: np.ndarray | None) -> dict[str, Any]:
    """What the list says of an image with so many phases: nothing of a volume, as before there were cines."""
    if phases == 1:
        return {}
    return {"phases": phases, "times_ms": None if times_ms is None else [round(float(ms), 2) for ms in times_ms]}


def _stamp(path: Path) -> tuple[int, int, int] | None:
    """Changes whenever the file at ``path`` does; None where there is none."""
    try:
        stat = path.stat()
    except FileNotFoundError:
        return None
    return stat.st_mtime_ns, stat.st_ino, stat.st_size


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
    return {**version.params, **known, "sha256": version.sha256, "phases": version.phases_to_json(), "warnings": [*version.warnings]}
