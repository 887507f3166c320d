"""MONAI Label's list of a studies folder (datastore_v2.json), which a crash, a full disk or a careless edit may damage at any time."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from fastapi import HTTPException
from filelock import FileLock
from monailabel.datastore.local import DataModel, ImageLabelModel, LocalDatastore, LocalDatastoreModel
from tqdm import tqdm

from lib.datastore.decisions import Decisions
from lib.datastore.entries import (
    Head,
    describe_label,
    file_entry,
    image_entry,
    label_entry,
    mark_known_phases,
    phases_info,
    tolerate_full_disk,
)
from prato.data.atomic import write_bytes
from prato.data.cine import CineHead, read_cine_head
from prato.data.file_identity import FileStamp, file_stamp
from prato.data.nifti_head import VolumeError, may_pass
from prato.data.studies.folder import find_files, split_name, why_of_no_study
from prato.labelling.files import read_if_exists
from prato.labelling.versions import LabelVersions

logger = logging.getLogger(__name__)


class DurableIndex(LocalDatastore):
    """MONAI Label's local datastore, whose list is written whole, and rebuilt from the files where it is lost or damaged.

    What it says of a label is what the record of the label's current version says. Several servers may serve one folder: whoever changes
    the list reads it first, and writes it before anybody else may (:meth:`changed_list`).
    """

    #: Of the list as it was last read or written; None before.
    _stamp: FileStamp | None = None
    #: Whether the list was changed and could not be written since.
    _is_unwritten = False
    _shared_lock: FileLock | None = None
    #: Whether the folder was seen: an empty one is away from then on, and not new.
    _is_known = False

    def __init__(self, *arguments: Any, **options: Any) -> None:
        self._logged: set[str] = set()
        self._heads: dict[str, tuple[FileStamp, CineHead | str]] = {}
        super().__init__(*arguments, **options)
        self._is_known = True

    def require_folder(self) -> None:
        """Refuse to work where the folder was moved, or is not mounted: what is written there now would be lost, or be in the way.

        Raises:
            HTTPException: 503.
        """
        if self._is_known and not _has_files(self._datastore_path):  # where it was mounted there may be an empty one
            raise HTTPException(503, "The studies folder is missing (moved, or not mounted): send the request again once it is back.")

    def _lock(self) -> FileLock:
        """The folder's lock, which other servers take, too; a thread that has it may take it again. HTTPException as ``require_folder``."""
        self.require_folder()
        if self._shared_lock is None:
            self._shared_lock = FileLock(self._lock_file)
        return self._shared_lock

    @contextmanager
    def changed_list(self) -> Iterator[None]:
        """What the block changes of the list is a change of the list as it is on the disk now, where it stands at the end of the block.

        Raises:
            OSError: the list cannot be written; it is as it was, here, too.
        """
        with self._lock():
            self._init_from_datastore_file()
            yield
            try:
                self._update_datastore_file()
            except OSError:
                self._stamp = None  # what was refused must not be shown, nor written later: the list is read again
                self._reconcile_datastore()
                raise

    def is_own_list(self) -> bool:
        """Whether the list on the disk is the one that was read or written last."""
        return self._stamp is not None and self._stamp == file_stamp(Path(self._datastore_config_path))

    def handed_out(self) -> dict[str, Any]:
        """By study, what the list says of when each strategy handed it out last, and to whom; None where none did."""
        return {study: known.image.info.get("strategy") for study, known in list(self._datastore.objects.items())}

    def _init_from_datastore_file(self, throw_exception: bool = False) -> None:
        """As the stock one, but it never fails: a list that cannot be read is set aside."""
        path = Path(self._datastore_config_path)
        with self._lock():
            try:
                if self.is_own_list():
                    return
                stamp, read = file_stamp(path), LocalDatastoreModel.model_validate_json(path.read_bytes())
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
            self._is_unwritten = True
            if read_if_exists(path) != text:
                write_bytes(path, text)
            self._stamp, self._is_unwritten = file_stamp(path), False

    def _to_id(self, file: str) -> tuple[str, str]:
        """The id and the ending of a file's name; the stock one takes the ending out wherever it stands."""
        return split_name(file) or super()._to_id(file)

    def _list_files(self, path: str, patterns: Iterable[str]) -> dict[str, str]:
        """The names of the images, or of the labels with one tag, as ``find_files`` finds them; what is left out is logged once."""
        found = find_files(path)
        for sentence in found.left_out.values():
            self._warn_once(sentence)
        return {file.name: file.name for file in found.files.values()}

    def _warn_once(self, sentence: str) -> None:
        if sentence not in self._logged:
            self._logged.add(sentence)
            logger.warning("%s", sentence)

    def _get_study(self, image_id: str) -> ImageLabelModel:
        study = self._datastore.objects.get(image_id)
        if study is None:
            raise HTTPException(404, f"There is no study called {image_id!r:.80} here: GET /datastore/?output=all lists them.")
        return study

    def _update_label_entry(self, study: str, tag: str) -> None:
        """Write into the list of studies what the record of a label's current version says."""
        with tolerate_full_disk(), self.changed_list():
            labels = self._get_study(study).labels  # not earlier: the list may have been reloaded since
            described = self.describe_label(study, tag)
            if described is None:
                labels.pop(tag, None)
            else:
                labels[tag] = described

    def describe_label(self, study: str, tag: str) -> DataModel | None:
        """What the list should say of a label now, whatever changed since the folder was last looked at; None where there is no label."""
        known = self._get_study(study)
        listed = known.labels.get(tag)
        head = self._read_head(study, known.image.ext)
        return describe_label(LabelVersions(self._datastore_path, study, tag), listed.info if listed else {}, head)

    def _reconcile_datastore(self) -> None:
        """Take over what lies in the folder, at once: no request meets a list without studies, or an entry of which a part is missing."""
        with self._lock():  # from reading the list to writing it
            with tolerate_full_disk():
                self._init_from_datastore_file()
            try:
                self._decisions().keep({study: known.image.info for study, known in self._datastore.objects.items()})
            except OSError as error:
                self._warn_once(f"Reviews and marked phases cannot be saved beside the list of studies now ({error.strerror}).")
            found = mark_known_phases(self._find_studies(), self._datastore_path)
            if found != self._datastore.objects or self._is_unwritten:
                self._datastore.objects = found
                with tolerate_full_disk():
                    self._update_datastore_file()

    def _find_studies(self) -> dict[str, ImageLabelModel]:
        """The list as it should be: known studies that are still there, and those that are new; entries that changed are new objects."""
        known, images = self._datastore.objects, self._list_endings(self._datastore.image_path())
        of_labels = self._datastore.label_path(None)
        places = [Path(of_labels, tag) for tag in (os.listdir(of_labels) if os.path.isdir(of_labels) else ())]
        labels = {place.name: self._list_endings(str(place)) for place in places if os.path.isdir(place)}
        for tag, of_tag in labels.items():
            for study in of_tag.keys() - images.keys():
                self._warn_once(f"labels/{tag}/{study}{of_tag[study]} belongs to no study: {why_of_no_study(study, images)}.")
        found, said = {}, self._read_decisions() if images.keys() - known.keys() else {}
        studies = [*(study for study in known if study in images), *(study for study in images if study not in known)]
        for study in tqdm(studies, "Scanning the studies folder", unit="study", delay=5, mininterval=5):  # the first time, files are opened
            endings = {tag: of_tag[study] for tag, of_tag in labels.items() if study in of_tag}
            found[study] = self._find_study(study, images[study], endings, known.get(study), said.get(study, {}))
        return found

    def _decisions(self) -> Decisions:
        return Decisions(Path(self._datastore_path))

    def _read_decisions(self) -> dict[str, dict[str, Any]]:
        try:
            return self._decisions().read()
        except OSError as error:
            self._warn_once(f"Reviews and marked phases cannot be read now ({error.strerror}).")
            return {}

    def _list_endings(self, folder: str) -> dict[str, str]:
        """The ending of each image's, or label's, file by its id; of two files of an id, the first counts."""
        endings: dict[str, str] = {}
        for name in self._list_files(folder, self._extensions):
            endings.setdefault(*self._to_id(name))
        return endings

    def _find_study(
        self, study: str, ending: str, labels: dict[str, str], known: ImageLabelModel | None, said: dict[str, Any]
    ) -> ImageLabelModel:
        """``known``: its entry so far. ``said``: what was said about one that has none, when it was here before."""
        entry = file_entry(study, ending, known.image if known else None)
        if known is None or entry is not known.image:  # of another ending, it is still the same study
            entry = DataModel(info={**(known.image.info if known else said), **entry.info}, ext=ending)
        image = image_entry(entry, self._find_phases(study, ending))
        files = {tag: file_entry(study, label, known.labels.get(tag) if known else None) for tag, label in labels.items()}
        return ImageLabelModel(image=image, labels={tag: self._find_label(study, tag, label, ending) for tag, label in files.items()})

    def _find_label(self, study: str, tag: str, label: DataModel, ending: str) -> DataModel:
        path, head = partial(self._image_path, study, ending), partial(self._read_head, study, ending)
        try:
            return label_entry(self._datastore_path, study, tag, label, path, head)
        except Exception as error:  # whatever is wrong with one label: everything else must still be listed
            reason = error.detail if isinstance(error, HTTPException) else error
            self._warn_once(f"{study}: its label with the tag {tag} cannot be checked, and its entry may be out of date ({reason}).")
            return label

    def _image_path(self, study: str, ending: str) -> str:
        """Where the image of a study lies that may not be listed yet."""
        return os.path.join(self._datastore_path, f"{study}{ending}")

    def _find_phases(self, study: str, ending: str) -> dict[str, Any] | None:
        """How many phases an image has, as its header says; None where it says nothing."""
        head = self._read_head(study, ending)
        return phases_info(head.phases, head.times_ms) if isinstance(head, CineHead) else None

    def _read_head(self, study: str, ending: str) -> Head:
        """The header of an image that is here, or why it cannot be read. Each file is read once, unless the system refuses it."""
        path = Path(self._datastore_path) / f"{study}{ending}"
        if (stamp := file_stamp(path)) is None:
            return None
        if self._heads.get(study, (None,))[0] != stamp:
            try:
                self._heads[study] = stamp, read_cine_head(path)
            except VolumeError as error:
                if may_pass(error):
                    return str(error)
                self._heads[study] = stamp, str(error)
        return self._heads[study][1]


def _has_files(folder: str) -> bool:
    try:
        with os.scandir(folder) as there:
            return next(there, None) is not None
    except OSError:
        return False
