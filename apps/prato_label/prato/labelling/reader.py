"""The versions of a label, read. Nothing here waits or writes; a save by another process meanwhile is seen whole or not at all."""

from __future__ import annotations

import os
from contextlib import suppress
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np

from prato.data.labels.check import check_label, read_label_volume
from prato.data.labels.names import LabelError
from prato.data.nifti import Volume, VolumeError
from prato.data.structures import voxel_counts
from prato.data.studies.label_records import HISTORY, recorded_label_info
from prato.labelling.files import LabelFiles, read_if_exists, sha256
from prato.labelling.phases import found_phases
from prato.labelling.records import (
    UNKNOWN,
    DamagedVersionError,
    LabelVersionError,
    Phase,
    UnknownVersionError,
    Version,
    annotator_from,
    in_ranges,
)


class VersionReader:
    """The versions of one study's label with one tag.

    Raises:
        UnknownVersionError: ``study`` or ``tag`` is not a plain file name.
    """

    def __init__(self, studies: str | os.PathLike[str], study: str, tag: str = "final") -> None:
        self.study = study
        self._files = LabelFiles(studies, study, tag)
        #: The last version that was made of a file without a record, behind all that it was made of: one call looks several times.
        self._found: tuple[tuple[Any, ...], Version] | None = None

    def list_versions(self) -> tuple[list[Version], Version | None]:
        """Every version, oldest first, and the one that is the study's label now (None where it has none).

        A current label that was put into the folder by other means is the last of them, recorded or not.
        """
        versions, current = self._scan()
        return versions, None if current is None else versions[-1]

    def all(self) -> list[Version]:
        """Every version, oldest first."""
        return self.list_versions()[0]

    def current(self) -> Version | None:
        """The version that is the study's label now; None where it has none."""
        return self.list_versions()[1]

    def current_path(self) -> Path:
        """Where the current label lies, or would lie."""
        return self._files.current_path()

    def is_current(self, number: int, checksum: str) -> bool:
        """Whether the current label still is version ``number``, with that SHA-256; cheap."""
        current, numbers = self._files.read_current(), self._files.numbers()
        return current is not None and sha256(current) == checksum and all(newer <= number for newer in numbers[-1:])

    def find(self, number: int) -> Version:
        """Version ``number``.

        Raises:
            UnknownVersionError: there is none.
        """
        versions = {version.version: version for version in self.all()}
        if number not in versions:
            known = f"there are {in_ranges(versions)}" if versions else "it has no label"
            raise UnknownVersionError(f"The label of {self.study} has no version {number}: {known}.")
        return versions[number]

    def read(self, number: int) -> bytes:
        """The ``.nii.gz`` file of version ``number``, with the checksum that it was stored with.

        Raises:
            UnknownVersionError: as ``find``.
            DamagedVersionError: the file has changed since.
        """
        return self._read_intact(self.find(number))[1]

    def read_volume(self, number: int) -> Volume:
        """Version ``number`` as (X, Y, Z) or (X, Y, Z, T) voxels with its affine.

        Raises:
            UnknownVersionError, DamagedVersionError: as ``read``.
            VolumeError: a file that was found in the folder and is not a label.
        """
        return self._read_stored(self.find(number))

    def read_mask(self, number: int, grid: Volume | None = None) -> Volume:
        """Version ``number`` as what it means: uint8 with our own values on ``grid``, that of an image, or on its own where that is None.

        Names decide what the values of a file are that was found in the folder, those in the record of this very version.

        Raises:
            UnknownVersionError, DamagedVersionError: as ``read``.
            LabelError: as ``prato.data.labels.check.check_label``.
        """
        version = self.find(number)
        label = self._read_stored(version)
        grid = label if grid is None else grid
        return grid.with_array(check_label(grid, label, f"Version {number} of the label of {self.study}", _names(version)))

    def _read_stored(self, version: Version) -> Volume:
        return read_label_volume(self._read_intact(version)[0], f"Version {version.version} of the label of {self.study}")

    def _read_intact(self, version: Version) -> tuple[Path, bytes]:
        """The file of a version, and its content (gzipped)."""
        number, path = version.version, self._files.version_path(version.version)
        for found_at, data in ((path, read_if_exists(path)), (self._files.current_path(), self._files.read_current())):
            if data is not None and sha256(data) == version.sha256:
                return found_at, data
        raise DamagedVersionError(
            f"The file of version {number} of the label of {self.study} is missing or damaged: restore it from a backup of {HISTORY}."
        )

    def _scan(self) -> tuple[list[Version], bytes | None]:
        """All versions, and the current label's file."""
        while True:  # until the current label was not replaced meanwhile
            stamp, current = self._files.stamp(), self._files.read_current()
            digest = None if current is None else sha256(current)
            versions = self._read_history(digest)
            if self._files.stamp() == stamp:
                break
        if current is not None and (not versions or versions[-1].sha256 != digest):
            versions.append(self._version_from_file(current, self._files.current_path(), versions))
        return versions, current

    def _read_history(self, current: str | None) -> list[Version]:
        """The versions in the history; ``current`` is the current label's checksum."""
        numbers = self._files.numbers()
        versions: list[Version] = []
        for number in numbers:
            path, record = self._files.version_path(number), self._files.read_record(number)
            data = None if record else read_if_exists(path)
            if data is not None:
                versions.append(self._version_from_file(data, path, versions, number))
            elif record and (
                path.exists() or number != numbers[-1] or record.sha256 == current
            ):  # only the last may never have been stored
                versions.append(_with_phases(record, versions))
        return versions

    def _version_from_file(self, data: bytes, path: Path, earlier: list[Version], number: int | None = None) -> Version:
        """The version of a label at ``path`` (in the history or not) that has no record of where it comes from, after ``earlier`` ones."""
        number, checksum = number or (earlier[-1].version + 1 if earlier else 1), sha256(data)
        names, voxels, phases, made_of = None, {}, {}, None
        with suppress(VolumeError, FileNotFoundError):
            names = recorded_label_info(path)
            made_of = checksum, path, path.stat().st_mtime_ns, number, names, earlier[-1:]
            if self._found is not None and self._found[0] == made_of:
                return self._found[1]
            before = self._stored_before(earlier)
            mask = _read_as_before(read_label_volume(path, path.name), before, names)
            voxels = voxel_counts(mask)
            phases = found_phases(mask, number, earlier[-1].phases if earlier else {}, None if before is None else before.array)
        try:
            created = datetime.fromtimestamp(path.stat().st_mtime, timezone.utc)
        except FileNotFoundError:  # replaced since
            created = datetime.now(timezone.utc)
        known = {"version": number, "origin": "found", "annotator": UNKNOWN, "created": created, "sha256": checksum}
        params = {} if names is None else {"label_info": names}
        found = Version.model_validate({**known, "voxels": voxels, "phases": phases, "params": params})
        self._found = None if made_of is None else (made_of, found)
        return found

    def _stored_before(self, versions: list[Version]) -> Volume | None:
        """The last of ``versions`` as what it means; None where there is none, or none that can be read."""
        try:
            stored = read_label_volume(self._files.version_path(versions[-1].version), "it") if versions else None
            return stored and stored.with_array(check_label(stored, stored, "it", _names(versions[-1])))
        except VolumeError:
            return None


def _names(version: Version) -> Any:
    """What the values of the file of ``version`` are called; None: they are our own."""
    return version.params.get("label_info") if version.origin == "found" else None


def _read_as_before(found: Volume, before: Volume | None, names: Any) -> np.ndarray:
    """The voxels of the file ``found`` as what they mean: in the index order of ``before``, the label that it takes the place of, as far as
    it lies on its grid; as they stand in the file where they mean nothing."""
    for grid in (before, found):
        with suppress(LabelError):
            if grid is not None:
                return check_label(grid, found, "it", names)
    return found.array


def attribute(found: Version, params: dict[str, Any]) -> Version:
    """The version ``found`` in the folder, by whom ``params`` say that it is."""
    annotator = UNKNOWN
    with suppress(LabelVersionError):  # another server's list of studies may call them anything
        annotator = annotator_from(params)
    phases = {
        number: phase.model_copy(update={"editor": annotator}) if phase.version == found.version else phase
        for number, phase in found.phases.items()
    }
    return found.model_copy(update={"params": {**found.params, **params}, "annotator": annotator, "phases": phases})


def _with_phases(record: Version, earlier: list[Version]) -> Version:
    """``record``, of a volume's label, with its phase where it is from before there were any."""
    if "phases" in record.model_fields_set:
        return record
    source = next((version for version in earlier if version.version == record.restored_from), None)
    editor = source.phases[0].editor if source is not None and 0 in source.phases else record.annotator
    phase = Phase(state="corrected", editor=editor, version=record.version)
    return record.model_copy(update={"phases": {0: phase} if record.voxels else {}})
