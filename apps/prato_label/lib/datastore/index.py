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
from prato.labelling.records import UnknownVersionError, Version
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
        self._heads: dict[str, tuple[tuple[int, int, int], dict[str, Any]]] = {}
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
        """Take over what lies in the folder, at once: no request meets a list without studies, or an entry of which a part is missing."""
        with self._lock():  # from reading the list to writing it
            self._init_from_datastore_file()
            found = self._mark_known_phases(self._find_studies())
            if found != self._datastore.objects:
                self._datastore.objects = found
                with _tolerate_full_disk():
                    self._update_datastore_file()

    def _find_studies(self) -> dict[str, ImageLabelModel]:
        """The list as it should be: known studies that are still there, and those that are new; entries that changed are new objects."""
        known, images = self._datastore.objects, self._list_endings(self._datastore.image_path())
        folders = (entry for entry in os.scandir(self._datastore.label_path(None)) if entry.is_dir())
        labels = {folder.name: self._list_endings(folder.path) for folder in folders}
        found = {}
        for study in [*(study for study in known if study in images), *(study for study in images if study not in known)]:
            endings = {tag: of_tag[study] for tag, of_tag in labels.items() if study in of_tag}
            found[study] = self._find_study(study, images[study], endings, known.get(study))
        return found

    def _list_endings(self, folder: str) -> dict[str, str]:
        """The ending of each image's, or label's, file by its id."""
        return dict(self._to_id(name) for name in self._list_files(folder, self._extensions))

    def _find_study(self, study: str, ending: str, labels: dict[str, str], known: ImageLabelModel | None) -> ImageLabelModel:
        image = _entry(study, ending, known.image if known else None)
        phases = self._find_phases(study, ending)
        if phases is not None:
            others = {name: value for name, value in image.info.items() if name not in ("phases", "times_ms")}
            image = DataModel(info={**others, **phases}, ext=ending)
        entries = {tag: _entry(study, label, known.labels.get(tag) if known else None) for tag, label in labels.items()}
        path = f"{self._datastore_path}/{study}{ending}"
        return ImageLabelModel(image=image, labels={tag: self._find_label(study, tag, label, path) for tag, label in entries.items()})

    def _find_phases(self, study: str, ending: str) -> dict[str, Any] | None:
        """How many phases an image has, as its header says; None where it says nothing. Each file is read once."""
        path = Path(self._datastore_path) / f"{study}{ending}"
        stamp = _stamp(path)
        if stamp is None:
            return None
        if self._heads.get(study, (None,))[0] != stamp:
            try:
                head = read_cine_head(path)
            except VolumeError:  # whoever reads it is told
                return None
            self._heads[study] = stamp, phases_info(head.phases, head.times_ms)
        return self._heads[study][1]

    def _mark_known_phases(self, found: dict[str, ImageLabelModel]) -> dict[str, ImageLabelModel]:
        """``found`` with the phases of its cines marked that the folder's manifest says are ED and ES, where nobody has decided that."""
        cines = [study for study, entry in found.items() if "phases" in entry.image.info and "marked" not in entry.image.info]
        try:
            manifest = load_manifest(self._datastore_path) if cines else None
        except ManifestError:  # whoever needs it is told
            manifest = None
        if manifest is None:
            return found
        marked = dict(found)
        for study in cines:
            listed, entry = manifest.studies.get(study), found[study]
            if listed and None not in (listed.ed, listed.es):
                mark = {"ed": listed.ed, "es": listed.es, "annotator": manifest.source, "ts": int(time.time())}
                image = DataModel(info={**entry.image.info, "marked": mark}, ext=entry.image.ext)
                marked[study] = ImageLabelModel(image=image, labels=entry.labels)
        return marked

    def _find_label(self, study: str, tag: str, label: DataModel, image: str) -> DataModel:
        """As ``_update_label_entry`` for a label that may have been put there by other means; ``label`` itself where nothing changed."""
        if tag == DefaultLabelTag.ORIGINAL.value:
            return label
        try:
            versions = LabelVersions(self._datastore_path, study, tag)
        except UnknownVersionError:  # a file may have a name that a submission may not
            return label
        number, checksum = label.info.get("version"), label.info.get("sha256")
        is_checked = isinstance(label.info.get("warnings"), list)
        if is_checked and isinstance(number, int) and isinstance(checksum, str) and versions.is_current(number, checksum):
            return label
        sent = {key: value for key, value in label.info.items() if key not in ("ts", "name", "voxels", "phases", "warnings")}
        if sent and not checksum:  # from before there were versions: the list alone knows where it comes from
            versions.adopt(sent)
        warnings: tuple[str, ...] = ()
        with _tolerate_full_disk():
            warnings = convert_found_label(versions, image)
        current = versions.current()
        if current is None:
            return label
        for warning in warnings:
            logger.warning("%s: %s", study, warning)
        ending = SUFFIX if versions.current_path().name.endswith(SUFFIX) else ".nii"
        return DataModel(info={**_label_info(current, f"{study}{ending}"), "warnings": [*warnings]}, ext=ending)


def _entry(study: str, ending: str, known: DataModel | None) -> DataModel:
    """What the list says of a file: what is known of it, unless it is new."""
    if known is not None and known.ext == ending:
        return known
    return DataModel(info={"ts": int(time.time()), "name": f"{study}{ending}"}, ext=ending)


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
