"""Every version of a label is kept, whatever moment a process or a disk chooses to fail.

A save first puts all bytes on the disk, as temporary files, and then moves them in place: the record, the current label, the version's
file. The middle one decides. Killed before it, the save has not happened, and its record, which fits no file, is dropped. Killed after
it, the label is there with its record, and the version's file is copied from it. So a label and its record never disagree.

A removal puts the record that notes it on the disk, as a temporary file, removes the label, and moves the record in place. The
middle step decides again: killed after it, the record is moved by the next process that writes, or at the next start.
"""

from __future__ import annotations

import logging
import os
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np

from prato.data.atomic import find_leftovers, make_folder, stage_bytes, sync_folder, write_bytes
from prato.data.label_anatomy import judge_anatomy
from prato.data.label_check import check_label
from prato.data.label_names import LABEL_INFO
from prato.data.label_records import HISTORY, recorded_label_info
from prato.data.nifti import Volume, VolumeError, gzip_bytes, read_volume, volume_bytes
from prato.data.stack import slice_axis
from prato.data.structures import voxel_counts
from prato.labelling.files import file_names, sha256
from prato.labelling.reader import VersionReader
from prato.labelling.records import (
    UNKNOWN,
    LabelVersionError,
    Origin,
    Removal,
    UnknownVersionError,
    Version,
    annotator_from,
    base_version_from,
    find_conflicts,
)

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class SavedVersion:
    """A version that was stored, and those that it replaced without having been made from them."""

    version: Version
    conflicts: list[Version]


class LabelVersions(VersionReader):
    """The versions of one study's label with one tag. Any thread or process may read, save and remove at any time."""

    def save(self, label: Volume, params: dict[str, Any], restored_from: int | None = None, origin: Origin = "submitted") -> SavedVersion:
        """Store a new version and make it the current one.

        Args:
            label: on its image's grid (``Volume.with_array``): uint8 (X, Y, Z), values of ``prato.data.structures``.
            params: kept with it; ``annotator`` (else ``user``, ``client_id``) and ``base_version`` are understood.

        Raises:
            LabelVersionError: ``base_version`` is no version; nothing has changed then.
            OSError: no space, no permission; the current label is as it was, or the new one.
        """
        base = base_version_from(params, self.study, self.all())  # before the lock: a refused save should not leave its file
        data, annotator = gzip_bytes(volume_bytes(label)), annotator_from(params)
        with self._files.lock():
            self._recover()
            labelled = self._adopt({}) is not None
            versions = self.all()
            version = Version(
                version=versions[-1].version + 1 if versions else 1,
                origin=origin,
                annotator=annotator,
                created=datetime.now(timezone.utc),
                sha256=sha256(data),
                base_version=base,
                restored_from=restored_from,
                voxels=voxel_counts(label.array),
                params=params,
                warnings=anatomy_warnings(label),
            )
            make_folder(self._files.path.parent)
            with stage_bytes(self._files.version_path(version.version), data), stage_bytes(self._files.path, data, self._files.folder):
                self._files.write_record(version)
            self._files.uncompressed_path.unlink(missing_ok=True)
        return SavedVersion(version, find_conflicts(versions, labelled, annotator, base))

    def adopt(self, params: dict[str, Any]) -> None:
        """Record the current label, with ``params``, where it was put into the folder by other means."""
        with self._files.lock():
            self._recover()
            self._adopt(params)

    def update_params(self, params: dict[str, Any]) -> None:
        """Add ``params`` to those of the current version; all else in its record stays. No label is no error."""
        with self._files.lock():
            self._recover()
            version = self._adopt({})
            if version is not None:
                self._files.write_record(version.model_copy(update={"params": {**version.params, **params}}))

    def remove(self, annotator: str = UNKNOWN) -> None:
        """Remove the current label; it stays among the versions, with who removed it. No label is no error.

        Raises:
            OSError: no space, no permission; the label is as it was.
        """
        if self._files.read_current() is None:
            return
        with self._files.lock():
            self._recover()
            version = self._adopt({})
            if version is None:  # another process removed it first
                return
            removal = Removal(annotator=annotator, removed=datetime.now(timezone.utc))
            with self._files.stage_record(version.model_copy(update={"removals": (*version.removals, removal)})):
                self._files.path.unlink(missing_ok=True)
                self._files.uncompressed_path.unlink(missing_ok=True)
                sync_folder(self._files.path.parent)

    def recover(self) -> None:
        """Complete or drop what a killed process left incomplete; where there is nothing of that kind, nothing is written."""
        incomplete = (number for number in self._files.numbers() if not self._files.version_path(number).exists())
        if any(incomplete) or find_leftovers(self._files.folder):
            with self._files.lock():
                self._recover()

    def _recover(self) -> None:
        """Leave each record with its file, and no temporary file. Needs the lock."""
        current = self._files.read_current()
        for path in find_leftovers(self._files.folder):
            if current is None and self._files.is_pending_removal(path):
                os.replace(path, self._files.record_path(self._files.numbers()[-1]))
            path.unlink(missing_ok=True)
        for number in self._files.numbers():
            path, record = self._files.version_path(number), self._files.read_record(number)
            if path.exists():
                continue
            if record and current is not None and record.sha256 == sha256(current):
                write_bytes(path, current)
            else:
                logger.warning("Version %d of the label of %s was never stored: its record is dropped.", number, self.study)
                self._files.record_path(number).unlink(missing_ok=True)

    def _adopt(self, params: dict[str, Any]) -> Version | None:
        """As ``adopt``; returns the current version, None where there is no label. Needs the lock, after ``_recover``."""
        versions, current = self._scan()
        if current is None:
            return None
        version = versions[-1]
        if not self._files.record_path(version.version).exists():
            version = version.model_copy(update={"params": params, "annotator": annotator_from(params)})
            with stage_bytes(self._files.version_path(version.version), current):
                self._files.write_record(version)
        return version


def restore(versions: LabelVersions, number: int, image: str | os.PathLike[str], params: dict[str, Any]) -> SavedVersion:
    """Store a copy of version ``number`` as a new version; nothing is removed.

    Args:
        image: the study's image, which the label must still fit.
        params: as for ``LabelVersions.save``.

    Raises:
        LabelVersionError: no such version, or one that does not fit the image.
    """
    stored = versions.find(number)
    try:
        grid = read_volume(image)
        mask = check_label(grid, versions.read_volume(stored.version), "it")
    except VolumeError as error:
        raise LabelVersionError(f"Version {number} of {versions.study} cannot be restored: {error}") from error
    return versions.save(grid.with_array(mask), params, number, "restored")


def convert_found_label(versions: LabelVersions, image: str | os.PathLike[str]) -> tuple[str, ...]:
    """Check a current label that was put into the folder by other means, and store what it means as a new version.

    Names that are recorded of it, as a stock MONAI Label server does, decide what its values are; axes that it stores otherwise than its
    image are turned. The file that was found stays as a version of its own. Where nothing has to be converted, nothing is written.

    Returns:
        What speaks against the label, one sentence each; of a label that cannot be used, why.

    Raises:
        OSError: no space, no permission; the label is as it was.
    """
    current = versions.current()
    if current is None or current.origin != "found":
        return current.warnings if current else ()
    names, name = recorded_label_info(versions.current_path()), f"The label for {versions.study}"
    try:
        grid, found = read_volume(image), versions.read_volume(current.version)
        mask = check_label(grid, found, name, names)
    except (VolumeError, LabelVersionError) as error:
        return (str(error),)
    if found.array.shape == mask.shape and np.array_equal(found.array, mask):
        return anatomy_warnings(grid.with_array(mask))
    params = {**current.params, "label_info": LABEL_INFO}
    return versions.save(grid.with_array(mask), params, current.version, "converted").version.warnings


def anatomy_warnings(label: Volume) -> tuple[str, ...]:
    """What the arrangement of the structures says against ``label``, uint8 (X, Y, Z): a sentence, or nothing."""
    anatomy = judge_anatomy(label.array, slice_axis(label.array.shape, label.spacing))
    if anatomy.verdict != "contradicted":
        return ()
    return (f"{anatomy.sentence[0].upper()}{anatomy.sentence[1:-1]}; training leaves the label out until it is corrected.",)


def recover_labels(studies: str | os.PathLike[str]) -> None:
    """Complete or drop what a killed process left incomplete, in the labels of all studies and tags."""
    for tag in file_names(Path(studies) / HISTORY):
        for study in file_names(Path(studies) / HISTORY / tag):
            with suppress(UnknownVersionError):  # not a folder of labels
                LabelVersions(studies, study, tag).recover()
