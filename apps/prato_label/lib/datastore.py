"""The studies folder, guarded: what does not fit is refused before anything changes, what is replaced is kept, and writes are whole."""

from __future__ import annotations

import json
import re
import time
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from fastapi import HTTPException
from filelock import FileLock
from monailabel.config import settings
from monailabel.datastore.local import DataModel, ImageLabelModel, LocalDatastore
from monailabel.interfaces.datastore import DefaultLabelTag

from lib.labels import LabelError, checked_label, voxel_counts
from prato.data.atomic import write_bytes
from prato.data.nifti import VolumeError, read_volume, write_volume, zipped

#: Replaced and removed labels, as <tag>/<study>/<n>.nii.gz. Not below "labels", where MONAI Label takes each folder for a tag.
HISTORY = "label_history"
_NAME = re.compile(r"\w[\w .+-]*")
_SUFFIX = ".nii.gz"


class StudiesDatastore(LocalDatastore):
    """MONAI Label's local datastore for NIfTI studies.

    Refusals are ``fastapi.HTTPException`` with one sentence (400 unfit, 404 unknown, 409 taken); nothing on disk has changed then.
    Labels are stored as uint8 with exactly the image's affine. Labels other than the model's own proposals (tag "original") are never
    lost: before one is replaced or removed it goes to the history.
    """

    def __init__(self, studies: str) -> None:
        super().__init__(
            studies,
            extensions=(f"*{_SUFFIX}", "*.nii"),
            auto_reload=settings.MONAI_LABEL_DATASTORE_AUTO_RELOAD,
            read_only=settings.MONAI_LABEL_DATASTORE_READ_ONLY,
        )
        if self._auto_reload:
            # files that are written whole arrive by a rename, which the stock datastore does not watch
            self._handler.on_moved = self._on_any_event

    def add_image(self, image_id: str, image_filename: str, image_info: dict[str, Any]) -> str:
        """Add a study; the same image under the same name again is no error.

        Raises:
            HTTPException: 400 for a bad name or an image that no model can use, 409 for another image under a name that is taken.
        """
        image_id = _name(image_id or self._to_id(Path(image_filename).name)[0], "An image's name")
        try:
            read_volume(image_filename)
        except VolumeError as error:
            raise HTTPException(400, str(error).replace(Path(image_filename).name, f"The image {image_id}")) from error
        data = Path(image_filename).read_bytes()
        data = data if data[:2] == b"\x1f\x8b" else zipped(data)
        path = Path(self._datastore.image_path()) / f"{image_id}{_SUFFIX}"
        with FileLock(self._lock_file):
            if image_id in self._datastore.objects or path.exists():
                taken = Path(super().get_image_uri(image_id) or path)
                if taken.read_bytes() == data:
                    return image_id
                raise HTTPException(409, f"There is another image called {image_id} already: send this one under another name.")
            write_bytes(path, data)
            info = {**(image_info or {}), "ts": int(time.time()), "name": path.name}
            self._datastore.objects[image_id] = ImageLabelModel(image=DataModel(info=info, ext=_SUFFIX))
            self._update_datastore_file(lock=False)
        return image_id

    def remove_image(self, image_id: str) -> None:
        """Remove a study; its labels go to the history."""
        self._known(image_id)
        super().remove_image(image_id)
        self.refresh()

    def get_image_uri(self, image_id: str) -> str:
        """Where the image of a known study lies."""
        self._known(image_id)
        return str(super().get_image_uri(image_id))

    def get_label_uri(self, label_id: str, label_tag: str) -> str:
        """Where a label that exists lies."""
        if label_tag not in self._known(label_id).labels:
            raise HTTPException(404, f"{label_id} has no label with the tag {label_tag!r:.60}.")
        return str(super().get_label_uri(label_id, label_tag))

    def save_label(self, image_id: str, label_filename: str, label_tag: str, label_info: dict[str, Any]) -> str:
        """Check and store a label; see ``checked_label`` for what is refused. A "final" one must also hold a structure."""
        self._known(image_id)
        tag = _name(str(getattr(label_tag, "value", label_tag)), "A label's tag")
        if not isinstance(label_info or {}, dict):
            raise HTTPException(400, f"params must be a JSON object, not {label_info!r:.60}.")
        info = dict(label_info or {})
        try:
            label = checked_label(image_id, Path(self.get_image_uri(image_id)), Path(label_filename), info.get("label_info"))
        except LabelError as error:
            raise HTTPException(400, str(error)) from error
        voxels = voxel_counts(label.array)
        if tag == DefaultLabelTag.FINAL.value and not voxels:
            raise HTTPException(400, f"The label for {image_id} is empty: draw at least one structure before submitting it.")
        folder = Path(self._datastore.label_path(tag))
        path = folder / f"{image_id}{_SUFFIX}"
        with FileLock(self._lock_file):
            study = self._known(image_id)  # the watcher may have read the list anew since
            folder.mkdir(parents=True, exist_ok=True)
            self._keep(image_id, tag)
            write_volume(path, label.array, label.affine)
            (folder / f"{image_id}.nii").unlink(missing_ok=True)
            info |= {"ts": int(time.time()), "name": path.name, "voxels": voxels}
            study.labels[tag] = DataModel(info=info, ext=_SUFFIX)
            self._update_datastore_file(lock=False)
        return image_id

    def remove_label(self, label_id: str, label_tag: str) -> None:
        """Remove a label; it goes to the history."""
        self.get_label_uri(label_id, label_tag)
        with FileLock(self._lock_file):
            self._keep(label_id, label_tag)
        super().remove_label(label_id, label_tag)
        self.refresh()

    def update_image_info(self, image_id: str, info: dict[str, Any]) -> None:
        """Merge ``info`` into what is known of a study."""
        self._known(image_id)
        super().update_image_info(image_id, info)

    def _known(self, image_id: str) -> ImageLabelModel:
        study = self._datastore.objects.get(image_id)
        if study is None:
            raise HTTPException(404, f"There is no study called {image_id!r:.80} here: GET /datastore/?output=all lists them.")
        return study

    def _keep(self, study: str, tag: str) -> None:
        if tag == DefaultLabelTag.ORIGINAL.value:
            return
        stored = [p for p in (Path(self._datastore.label_path(tag)) / f"{study}{ext}" for ext in (_SUFFIX, ".nii")) if p.exists()]
        for path in stored:
            folder = Path(self._datastore_path) / HISTORY / tag / study
            folder.mkdir(parents=True, exist_ok=True)
            data = path.read_bytes()
            write_bytes(
                folder / f"{1 + len(list(folder.glob('*' + _SUFFIX))):04d}{_SUFFIX}", data if path.suffix == ".gz" else zipped(data)
            )

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


def _name(text: str, what: str) -> str:
    if not _NAME.fullmatch(text) or len(text.encode("utf-8", "replace")) > 150:  # a file's name, and more is put round it
        raise HTTPException(400, f"{what} must be letters, digits, space, dot, plus, dash or underscore (150 bytes), not {text!r:.60}.")
    return text
