"""Keeps every version of a label, at whatever moment a process or a disk fails.

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
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Literal

import numpy as np

from prato.data.atomic import find_leftovers, make_folder, stage_bytes, sync_folder, write_bytes
from prato.data.nifti import Volume, VolumeError, gzip_bytes, volume_bytes
from prato.data.structures import voxel_counts
from prato.data.studies.label_records import HISTORY
from prato.labelling.doubts import anatomy_warnings
from prato.labelling.files import file_names, read_if_exists, sha256
from prato.labelling.merging import Change, Conversion, lost_phases, merge_masks, read_restoration, read_submission
from prato.labelling.phases import phase_count
from prato.labelling.proposals import turn_warnings
from prato.labelling.reader import VersionReader, attribute
from prato.labelling.records import (
    UNKNOWN,
    LabelVersionError,
    Origin,
    Phases,
    Removal,
    UnknownVersionError,
    Version,
    annotator_from,
    base_version_from,
    find_conflicts,
)
from prato.labelling.reviews import apply_review

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class SavedVersion:
    """What a save has done.

    Attributes:
        version: the current version now: the new one, or the one before where nothing was replaced.
        conflicts: the versions whose work it replaced without having been made from them.
        replaced: the phases whose voxels are from this save.
        kept: the phases whose proposals were left out, as a labeller drew them.
        dropped: the phases of the label before that could not be taken over, as it does not fit the image (any more).
    """

    version: Version
    conflicts: list[Version]
    replaced: tuple[int, ...] = (0,)
    kept: tuple[int, ...] = ()
    dropped: tuple[int, ...] = ()


@dataclass(frozen=True)
class SaveRequest:
    """What is to become a version, and what it was made from.

    Attributes:
        base: the version that ``annotator`` began with: 0 for no label; None where nobody says.
        restored_from: the version of which ``label`` is a copy, None for none.
    """

    label: Volume
    params: dict[str, Any]
    annotator: str
    base: int | None
    restored_from: int | None
    origin: Origin


class LabelVersions(VersionReader):
    """The versions of one study's label with one tag. Any thread or process may read, save and remove at any time."""

    def save(self, label: Volume, params: dict[str, Any], restored_from: int | None = None, origin: Origin = "submitted") -> SavedVersion:
        """Store a new version and make it the current one: the phases that are submitted as they are in ``label``, all others as they are
        now, whoever submitted them meanwhile.

        Args:
            label: on its image's grid (``Volume.with_array``): uint8 (X, Y, Z) or (X, Y, Z, T), values of ``prato.data.structures``.
            params: kept with it; ``annotator`` (else ``user``, ``client_id``), ``base_version`` and ``phases`` are understood.
            restored_from: the version of which ``label`` is a copy, and whose phases' states it has.

        Raises:
            LabelVersionError: ``base_version`` is no version, ``annotator`` no name, or ``phases`` cannot be taken; nothing has changed.
            OSError: no space, no permission; the current label is as it was, or the new one.
        """
        versions, current = self.list_versions()  # before the lock: a refused save should not leave its file
        base, annotator = base_version_from(params, self.study, versions), annotator_from(params)
        request = SaveRequest(label, params, annotator, base, restored_from, origin)
        change = self._read_change(request, versions, current)
        with self._files.lock():
            self._recover()
            current = self._adopt({})
            versions = self.all()
            if current is None and origin == "converted":
                raise UnknownVersionError(f"The label of {self.study} was removed before it could be converted.")
            if origin == "restored" or current is None:  # as reviewers have decided by now, or what it was compared with was removed
                change = self._read_change(request, versions, current)
            before, stored, dropped = self._before(label, current)
            number = versions[-1].version + 1 if versions else 1
            phases, replaced = change.apply(before, number)
            kept = tuple(sorted(change.numbers() - replaced))
            if not replaced:
                # Where no label is left, or only one that does not fit, nothing stays as it was: to store that would be an empty label.
                if current is None or (dropped and restored_from is None):
                    same = f"This is version {base} of the label of {self.study}, which is its label no longer"
                    raise LabelVersionError(f"{same}: restore it, or name the phases that you send.")
                return SavedVersion(current, [], (), kept)
            merged = replace(label, array=merge_masks(change.mask, replaced, stored))
            data = gzip_bytes(volume_bytes(merged))
            version = Version(
                version=number,
                origin=origin,
                annotator=annotator,
                created=datetime.now(timezone.utc),
                sha256=sha256(data),
                base_version=base,
                restored_from=restored_from,
                voxels=voxel_counts(merged.array),
                phases=phases,
                params=params,
                warnings=(*anatomy_warnings(merged), *turn_warnings(self._files.studies, self.study, merged, phases)),
            )
            self._put(version, data)
        conflicts = find_conflicts(versions, before, annotator, base, lost_phases(change, before, replaced), dropped)
        return SavedVersion(version, conflicts, tuple(sorted(replaced)), kept, tuple(sorted(dropped)))

    def _read_change(self, request: SaveRequest, versions: list[Version], current: Version | None) -> Change:
        """What ``request`` changes, seen from the ``current`` one of ``versions``; otherwise as for :meth:`save`."""
        label, params, restored_from = request.label, request.params, request.restored_from
        if restored_from is None:
            return read_submission(label.array, self._began_with(request, current), params, request.annotator, self.study)
        if request.origin == "converted":
            return Conversion(label.array, self.find(restored_from).phases)
        return read_restoration(label.array, versions, self.find(restored_from).version, params)

    def _put(self, version: Version, data: bytes) -> None:
        """Store ``version`` with its file; needs the lock."""
        make_folder(self._files.path.parent)
        with stage_bytes(self._files.version_path(version.version), data), stage_bytes(self._files.path, data, self._files.folder):
            self._files.write_record(version)
        self._remove_uncompressed()

    def _remove_uncompressed(self) -> None:
        """Remove the label's uncompressed file, unless it is no version: another program has put it beside the label. Needs the lock."""
        data = read_if_exists(self._files.uncompressed_path)
        if data is not None and sha256(gzip_bytes(data)) in (version.sha256 for version in self.all()):
            self._files.uncompressed_path.unlink(missing_ok=True)

    def _began_with(self, request: SaveRequest, current: Version | None) -> np.ndarray | None:
        """What whoever drew the label began with, on its grid; looked up only where it decides which phases are submitted."""
        if phase_count(request.label.array) == 1 or request.params.get("phases") is not None or request.base == 0:
            return None
        began = current if request.base is None else self.find(request.base)
        return None if began is None else self._mask_on(request.label, began)

    def _before(self, label: Volume, current: Version | None) -> tuple[Phases, np.ndarray | None, Phases]:
        """The phases of the ``current`` label and, of a cine, their voxels on the grid of ``label``; third come the phases of one that does
        not fit it, of which nothing can be taken over."""
        if current is None or (phase_count(label.array) == 1 and not current.phases.keys() - {0}):
            return {} if current is None else current.phases, None, {}
        stored = self._mask_on(label, current)
        return ({}, None, current.phases) if stored is None else (current.phases, stored, {})

    def _mask_on(self, label: Volume, version: Version) -> np.ndarray | None:
        """The mask of ``version`` on the grid of ``label``, and of its shape; None where it is none."""
        try:
            return self.read_mask(version.version, label).array
        except (VolumeError, LabelVersionError):
            return None

    def review(self, decision: Literal["approved", "sent back"], params: dict[str, Any], alone: bool = False) -> Version:
        """Approve phases of the current label, or send them back; returns its version, whose record says so from now on.

        Args:
            params: ``annotator``, who decides; ``phases``, all that labellers drew where it names none; ``reason``, for one that sends
                back; and ``base_version``, the version that was looked at.
            alone: whether people may approve what they drew themselves.

        Raises:
            LabelVersionError: as ``prato.labelling.reviews.apply_review``; nothing has changed then.
            OSError: no space, no permission; the label is as it was.
        """
        current = self.current()  # before the lock: a refused review should not leave its file
        apply_review(self.study, current, decision, params, alone)
        with self._files.lock():
            self._recover()
            version = apply_review(self.study, self._adopt({}), decision, params, alone)
            self._files.write_record(version)
        return version

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
            while (version := self._adopt({})) is not None:  # twice where another file lay beside it, which becomes a version, too
                removal = Removal(annotator=annotator, removed=datetime.now(timezone.utc))
                with self._files.stage_record(version.model_copy(update={"removals": (*version.removals, removal)})):
                    self._remove_uncompressed()
                    self._files.path.unlink(missing_ok=True)
                    sync_folder(self._files.path.parent)

    def recover(self) -> None:
        """Complete or drop what a killed process left incomplete; where there is nothing of that kind, nothing is written."""
        incomplete = (number for number in self._files.numbers()[-1:] if not self._files.version_path(number).exists())
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
        for number in self._files.numbers()[-1:]:  # of those before, a file that is missing was lost since, and may come from a backup
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
            version = attribute(version, params)
            with stage_bytes(self._files.version_path(version.version), current):
                self._files.write_record(version)
        return version


def recover_labels(studies: str | os.PathLike[str]) -> None:
    """Complete or drop what a killed process left incomplete, in the labels of all studies and tags."""
    for tag in file_names(Path(studies) / HISTORY):
        for study in file_names(Path(studies) / HISTORY / tag):
            with suppress(UnknownVersionError):  # not a folder of labels
                LabelVersions(studies, study, tag).recover()
