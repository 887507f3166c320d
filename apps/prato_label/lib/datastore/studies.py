"""The studies folder, guarded: what does not fit is refused before anything changes, and each submitted label is kept."""

from __future__ import annotations

import logging
import time
from contextlib import suppress
from copy import deepcopy
from pathlib import Path
from typing import Any, Literal

from fastapi import HTTPException
from monailabel.config import settings
from monailabel.datastore.local import DataModel, ImageLabelModel
from monailabel.interfaces.datastore import DefaultLabelTag

from lib.datastore.client_names import require_image_name, require_tag
from lib.datastore.entries import check_proposal, phases_info
from lib.datastore.index import DurableIndex
from lib.datastore.label_check import http_errors, merge_proposals, read_submitted_label
from lib.datastore.plain_json import require_plain_json
from lib.datastore.watcher import CHANGES, FolderEvents, Refresher, is_remote
from prato.data.atomic import make_folder, stage_bytes
from prato.data.cine import read_cine
from prato.data.labels.names import LABEL_INFO, LabelError
from prato.data.nifti import VolumeError, gzip_bytes, volume_bytes
from prato.data.structures import voxel_counts
from prato.data.studies.folder import ENDINGS, split_name
from prato.dicom.origin.sidecar import remove_sidecar
from prato.exchange.staging import remove_abandoned_files
from prato.labelling.files import SUFFIX, LabelFiles, read_if_exists, sha256
from prato.labelling.records import UNKNOWN, Version
from prato.labelling.restoring import restore
from prato.labelling.versions import LabelVersions, SavedVersion, recover_labels
from prato_server.settings import load_settings

logger = logging.getLogger(__name__)


class StudiesDatastore(DurableIndex):
    """MONAI Label's local datastore for NIfTI studies.

    Refusals are ``fastapi.HTTPException`` with one sentence (400 unfit, 404 unknown, 409 taken); nothing on disk has changed then.
    Labels are stored as uint8 with exactly the image's affine. Labels other than the model's own proposals (tag "original") are never
    lost: see ``prato.labelling.versions``.
    """

    def __init__(self, studies: str) -> None:
        recover_labels(studies)
        remove_abandoned_files(Path(studies))
        super().__init__(
            studies,
            extensions=tuple(f"*{ending}" for ending in ENDINGS),
            auto_reload=settings.MONAI_LABEL_DATASTORE_AUTO_RELOAD,
        )
        if not self._datastore.objects and self.pacs_state() is None:
            logger.warning("%s holds no image yet: put NIfTI files (%s) into it, or upload them.", studies, ", ".join(ENDINGS))
        if self._auto_reload:
            # the stock handler sees no file that arrives whole, by a rename, nor any in a folder whose name reads as a pattern
            self._handler = FolderEvents(self.folder, self.is_own_list, Refresher(self.refresh))
            self._observer.unschedule_all()
            try:
                self._observer.schedule(self._handler, self._datastore_path, recursive=True, event_filter=CHANGES)
            except OSError as error:
                logger.warning("Changes to %s by other programs are noticed only at the next start: %s.", studies, error.strerror)

    def _is_on_mount(self, path: str) -> bool:
        """Whether changes of ``path`` have to be looked for: the kernel reports those of every local disk."""
        return is_remote(path)

    @property
    def folder(self) -> Path:
        """The studies folder."""
        return Path(self._datastore_path)

    def close(self) -> None:
        """End the work in the background, if there is any."""

    def pacs_state(self) -> dict[str, Any] | None:
        """For the status page: the state of the PACS that the studies come from; None where they do not."""
        return None

    def add_image(self, image_id: str, image_filename: str, image_info: dict[str, Any]) -> str:
        """Add a study; the same image under the same name again is no error.

        Raises:
            HTTPException: 400 for a bad name or an image that no model can use, 409 for another image under a name that is taken.
        """
        image_id = (split_name(image_id) or (image_id, ""))[0] or self._to_id(Path(image_filename).name)[0]
        require_image_name(image_id)
        if split_name(image_id.lower()):
            raise HTTPException(400, f"An image's name must not end in .nii or .nii.gz: send {image_id!r:.60} without that ending.")
        try:
            cine = read_cine(image_filename)
        except VolumeError as error:
            raise HTTPException(400, str(error).replace(Path(image_filename).name, f"The image {image_id}")) from error
        data = Path(image_filename).read_bytes()
        data = data if data[:2] == b"\x1f\x8b" else gzip_bytes(data)
        path = Path(self._datastore.image_path()) / f"{image_id}{SUFFIX}"
        with self._lock():
            self._init_from_datastore_file()
            if image_id in self._datastore.objects or path.exists():
                taken = Path(self.get_image_uri(image_id)) if image_id in self._datastore.objects else path
                if read_if_exists(taken) == data:
                    return image_id
                raise HTTPException(409, f"There is already another image called {image_id}: send this one under another name.")
            said = {**self._decisions().read().get(image_id, {}), **(image_info or {})}  # where it was here before, under that name
            info = {**said, "ts": int(time.time()), "name": path.name, **phases_info(len(cine), cine.times_ms)}
            with self._decisions().staged({image_id: info}), stage_bytes(path, data), self.changed_list():
                self._datastore.objects[image_id] = ImageLabelModel(image=DataModel(info=info, ext=SUFFIX))
        return image_id

    def remove_image(self, image_id: str, annotator: str = UNKNOWN) -> None:
        """Remove a study, with what the import of DICOM wrote about it; the versions of its labels stay, with who removed them."""
        tags = list(self._get_study(image_id).labels)
        for tag in tags:
            self.remove_label(image_id, tag, annotator)
        image = Path(self.get_image_uri(image_id))
        image.unlink(missing_ok=True)  # a link, and not what it leads to
        self.refresh()
        for tag in {*tags, DefaultLabelTag.FINAL.value} - {DefaultLabelTag.ORIGINAL.value}:
            with suppress(HTTPException):  # what was submitted meanwhile would be the label of the next image of that name
                self.versions(image_id, tag).remove(annotator)
        with self._lock():
            self._decisions().forget(image_id)
        remove_sidecar(image)  # if that fails, the study is gone all the same

    def datalist(self, full_path: bool = True) -> list[dict[str, Any]]:
        """The studies with a final label: where image and label lie in the folder, whatever a link there leads to."""
        tag = DefaultLabelTag.FINAL.value
        labelled = [study for study, known in list(self._datastore.objects.items()) if tag in known.labels]
        return [{"image": self.get_image_uri(study), "label": self.get_label_uri(study, tag)} for study in labelled]

    def label_warnings(self) -> list[str]:
        """Doubts about final labels, most of which training leaves out: one sentence each, after the study's id."""
        tag = DefaultLabelTag.FINAL.value
        labels = {study: known.labels[tag] for study, known in list(self._datastore.objects.items()) if tag in known.labels}
        return [f"{study}: {warning}" for study in sorted(labels) for warning in labels[study].info.get("warnings") or ()]

    def get_image_uri(self, image_id: str) -> str:
        """Where the image of a known study lies in the folder: its name there is its identity, also where it is a link."""
        return self._image_path(image_id, self._get_study(image_id).image.ext)

    def get_image_info(self, image_id: str) -> dict[str, Any]:
        """What is known of a study, and its ``path``; empty for an unknown one."""
        known = self._datastore.objects.get(image_id)
        # not the stock one, which asks the disk where links lead: a page and a strategy want to know about thousands
        return {} if known is None else {**deepcopy(known.image.info), "path": self._image_path(image_id, known.image.ext)}

    def get_label_uri(self, label_id: str, label_tag: str) -> str:
        """Where a label that exists lies in the folder."""
        tag = str(getattr(label_tag, "value", label_tag))
        label = self._get_study(label_id).labels.get(tag)
        if label is None:
            raise HTTPException(404, f"{label_id} has no label with the tag {tag!r:.60}.")
        return str(self.folder / "labels" / tag / f"{label_id}{label.ext}")

    def save_label(self, image_id: str, label_filename: str, label_tag: str, label_info: dict[str, Any]) -> str:
        """As ``submit_label``; returns the label's id, which is the image's."""
        self.submit_label(image_id, label_filename, label_tag, label_info)
        return image_id

    def submit_label(self, image_id: str, label_filename: str, label_tag: str, label_info: dict[str, Any]) -> SavedVersion | None:
        """Check and store a label, or phases of one; see ``check_submission`` for what is refused. A "final" one must hold a structure.

        Returns:
            The new version; None for a proposal of the model's, of which only the last is kept, of each phase.
        """
        self._get_study(image_id)
        self.require_folder()
        tag = str(getattr(label_tag, "value", label_tag))
        require_tag(tag)
        info, image = _check_params(label_info), Path(self.get_image_uri(image_id))
        with http_errors():
            label = read_submitted_label(image_id, image, Path(label_filename), info)
            if tag == DefaultLabelTag.FINAL.value and label.array.ndim == 3 and not label.array.any():
                raise LabelError(f"The label for {image_id} is empty: draw at least one structure before submitting it.")
            if info.get("label_info"):
                info["label_info"] = LABEL_INFO  # of the values as they are stored from now on
            if tag != DefaultLabelTag.ORIGINAL.value:
                versions = LabelVersions(self._datastore_path, image_id, tag)
                return self._listed(versions, tag, versions.save(label, info))
            files = LabelFiles(self._datastore_path, image_id, tag)
            files.require_inside()
        path = files.path
        with self._lock(), http_errors():
            label = merge_proposals(label, files.current_path(), info)
            data = gzip_bytes(volume_bytes(label))
            make_folder(path.parent)  # somebody may have removed all labels
            info |= {"ts": int(time.time()), "name": path.name, "voxels": voxel_counts(label.array), "sha256": sha256(data)}
            info.setdefault("image_sha256", sha256(image.read_bytes()))
            with stage_bytes(path, data), self.changed_list():
                self._get_study(image_id).labels[tag] = DataModel(info=check_proposal(image_id, info, image), ext=SUFFIX)
        return None

    def versions(self, image_id: str, label_tag: str) -> LabelVersions:
        """The versions of a label, of a study that is or was here."""
        require_tag(label_tag)
        self.require_folder()
        if label_tag == DefaultLabelTag.ORIGINAL.value:
            raise HTTPException(400, "The models' own proposals (tag original) have no versions: use the tag final.")
        with http_errors():
            versions = LabelVersions(self._datastore_path, image_id, label_tag)
            if image_id not in self._datastore.objects and not versions.all():
                self._get_study(image_id)
        return versions

    def restore_label(self, image_id: str, label_tag: str, version: int, params: dict[str, Any]) -> SavedVersion:
        """Make a copy of an older version the current label."""
        versions, params = self.versions(image_id, label_tag), _check_params(params)
        with http_errors():
            versions.find(version)
            if image_id not in self._datastore.objects:
                raise HTTPException(409, f"The image of {image_id} was removed: add it again under that name, then restore its label.")
            return self._listed(versions, label_tag, restore(versions, version, self.get_image_uri(image_id), params))

    def _listed(self, versions: LabelVersions, tag: str, saved: SavedVersion) -> SavedVersion:
        """``saved``, entered in the list of studies; a label whose image was removed meanwhile goes the way of the image's other labels."""
        try:
            self._update_label_entry(versions.study, tag)
        except HTTPException as error:
            if error.status_code != 404:
                raise
            versions.remove()
            gone = f"The image of {versions.study} was removed meanwhile (the label is kept as version {saved.version.version})"
            raise HTTPException(409, f"{gone}: add it again under that name, then restore its label.") from error
        return saved

    def review_label(self, image_id: str, label_tag: str, decision: Literal["approved", "sent back"], params: dict[str, Any]) -> Version:
        """Approve phases of a label, or send them back; see ``LabelVersions.review``."""
        versions, params = self.versions(image_id, label_tag), _check_params(params)
        with http_errors():
            version = versions.review(decision, params, load_settings().approve_own)
        self._update_label_entry(image_id, label_tag)
        return version

    def remove_label(self, label_id: str, label_tag: str, annotator: str = UNKNOWN) -> None:
        """Remove a label; it stays among the versions, with who removed it."""
        self.get_label_uri(label_id, label_tag)
        if label_tag == DefaultLabelTag.ORIGINAL.value:
            super().remove_label(label_id, label_tag)
        else:
            self.versions(label_id, label_tag).remove(annotator)
        self.refresh()

    def update_label_info(self, label_id: str, label_tag: str, info: dict[str, Any]) -> None:
        """Merge ``info`` into what is known of a label, except who is responsible for it."""
        self.get_label_uri(label_id, label_tag)
        if label_tag == DefaultLabelTag.ORIGINAL.value:
            with self.changed_list():
                self._get_study(label_id).labels[label_tag].info.update(info)
            return
        if "annotator" in info:
            raise HTTPException(400, "The annotator of a stored label cannot be changed: submit it again under the other name.")
        self.versions(label_id, label_tag).update_params(_check_params(info))
        self._update_label_entry(label_id, label_tag)

    def update_image_info(self, image_id: str, info: dict[str, Any]) -> None:
        """Merge ``info`` into what is known of a study."""
        with self._lock():
            self._init_from_datastore_file()
            said = {image_id: {**self._get_study(image_id).image.info, **info}}
            with self._decisions().staged(said), self.changed_list():
                self._get_study(image_id).image.info.update(info)


def _check_params(params: Any) -> dict[str, Any]:
    """``params``, if they can be stored and sent as they are."""
    if not isinstance(params or {}, dict):
        raise HTTPException(400, f"params must be a JSON object, not {params!r:.60}.")
    return dict(require_plain_json(params or {}))
