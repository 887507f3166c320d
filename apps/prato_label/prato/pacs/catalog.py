"""Which short-axis cines a PACS holds: chosen by the headers of its images, as the importer does, and remembered on disk."""

from __future__ import annotations

import io
import logging
import threading
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, BinaryIO

from pydantic import BaseModel, ConfigDict, ValidationError

from prato.data.atomic import write_bytes
from prato.dicom.cines.find import FoundCine, find_cines
from prato.dicom.cines.series import by_series
from prato.dicom.labels.exporter import dicom_bytes
from prato.dicom.origin.known_cines import KnownCines
from prato.dicom.origin.references import uid_from_content
from prato.dicom.reading.files import DicomError, SourceFile
from prato.dicom.reading.headers import Frame, frames_of
from prato.pacs.web import Pacs, PacsError

logger = logging.getLogger(__name__)


class RemoteCine(BaseModel):
    """A cine in the PACS: what its study is called here, and the series and SOP instance UIDs of its images.

    ``step_ms`` is the time from phase to phase, None where the headers do not say; ``notes`` say what was odd among all images of the
    examination, such as a slice acquired twice, of which only one is fetched.
    """

    model_config = ConfigDict(frozen=True)

    study: str
    patient: str
    study_instance_uid: str
    images: tuple[tuple[str, str], ...]
    phases: int
    step_ms: float | None
    notes: tuple[str, ...] = ()


class Examination(BaseModel):
    """What was found in one examination when its series (by UID) held that many images; no word of the patient."""

    model_config = ConfigDict(frozen=True)

    study_instance_uid: str
    series: dict[str, int]
    cines: tuple[RemoteCine, ...]


class Catalog:
    """The cines of ``pacs`` that ``filters`` (QIDO-RS, by DICOM's names) let through. Any thread may read it.

    Args:
        folder: one file an examination is kept there, so that only new ones are looked at after a start.
    """

    def __init__(self, pacs: Pacs, folder: Path, filters: Mapping[str, Any]) -> None:
        self._pacs, self._folder, self._filters = pacs, folder, dict(filters)
        self._lock = threading.Lock()
        self._known: dict[str, Examination] = {}
        for path in sorted(folder.glob("*.json")) if folder.is_dir() else ():
            try:
                known = Examination.model_validate_json(path.read_bytes())
                self._known[known.study_instance_uid] = known
            except (OSError, ValidationError):
                logger.warning("%s is damaged: that examination is read from the PACS again.", path.name)

    def cines(self) -> dict[str, RemoteCine]:
        """By study."""
        with self._lock:
            return {cine.study: cine for known in self._known.values() for cine in known.cines}

    def cines_of(self, study_instance_uid: str) -> tuple[RemoteCine, ...]:
        """Those of one examination."""
        with self._lock:
            known = self._known.get(study_instance_uid)
        return known.cines if known is not None else ()

    def refresh(self) -> bool:
        """Ask the PACS what there is, and look at what is new; whether the cines are others now.

        An examination that is gone is forgotten. What was found before a fault is kept.

        Raises:
            PacsError: the PACS cannot be asked; after all others were looked at, one of the examinations cannot, or its list may be cut.
            OSError: the folder cannot be written to.
        """
        before = self.cines()
        counts: dict[str, dict[str, int]] = defaultdict(dict)
        listed, is_whole = self._pacs.search_series(self._filters)
        for series in listed:
            study, uid = str(series.get("StudyInstanceUID") or ""), str(series.get("SeriesInstanceUID") or "")
            if study and uid:
                counts[study][uid] = int(series.get("NumberOfSeriesRelatedInstances") or 0)
        for study in [study for study in self._known if is_whole and study not in counts]:
            with self._lock:
                del self._known[study]
            self._path(study).unlink(missing_ok=True)
        limited = f"The PACS lists {len(listed)} series, and may hold more than it lists at once"
        wanted = "raise the limit of its lists, or narrow the search with MONAI_LABEL_DICOMWEB_SEARCH_FILTER"
        fault = None if is_whole else PacsError(f"{limited}: {wanted}.")
        for study, series_counts in counts.items():
            known = self._known.get(study)
            is_part = known is not None and not is_whole and series_counts.items() <= known.series.items()
            if known is not None and (is_part or known.series == series_counts):
                continue
            try:
                cines = self._look_at(study, list(series_counts), known.cines if known is not None else ())
            except PacsError as error:
                if error.is_general:
                    raise
                fault = error  # of this examination: the others are looked at all the same
            else:
                self._remember(Examination(study_instance_uid=study, series=series_counts, cines=cines))
        if fault is not None:
            raise fault
        return self.cines() != before

    def _look_at(self, study: str, series: Iterable[str], known: Iterable[RemoteCine]) -> tuple[RemoteCine, ...]:
        frames: list[Frame] = []
        faults: list[PacsError] = []
        for uid in series:
            for header in self._pacs.series_headers(study, uid):
                try:
                    instance = str(header.SOPInstanceUID)
                    frames += frames_of(header, SourceFile(f"{uid}/{instance}", self._opener(study, uid, instance, faults)))
                except DicomError:  # an image, but no cine's
                    continue
                except Exception as error:  # whatever nonsense in a header leads pydicom to
                    logger.debug("a header of examination %s cannot be read: %s", study, error)
        found = find_cines(list(by_series(frames).values()))
        if faults:  # an image that was to be compared with another did not come: what is found without it must not be remembered
            raise faults[0]
        for sentence in (*found.warnings, *(f"A cine is not listed: {refused}" for refused in found.refused)):
            logger.warning("Examination %s: %s", study, sentence)
        there = list(known)
        names = KnownCines(((one.study.removesuffix("_4d"), one.images) for one in there), images_of)
        cines = [_remote(one, study) for one in names.keep_names(found.cines)]
        # what was fetched says whose it is: also where a series that came later names who issued the patient's number
        patients = {one.study: one.patient for one in there}
        return tuple(cine.model_copy(update={"patient": patients.get(cine.study, cine.patient)}) for cine in cines)

    def _opener(self, study: str, series: str, instance: str, faults: list[PacsError]) -> Callable[[], BinaryIO]:
        """What fetches an image; ``faults`` takes why it could not."""

        def fetch() -> BinaryIO:
            try:
                return io.BytesIO(dicom_bytes(self._pacs.image(study, series, instance)))
            except PacsError as error:
                faults.append(error)
                raise

        return fetch

    def _remember(self, found: Examination) -> None:
        self._folder.mkdir(exist_ok=True)  # not what is above it: that is away, or not mounted
        write_bytes(self._path(found.study_instance_uid), found.model_dump_json().encode())
        with self._lock:
            self._known[found.study_instance_uid] = found

    def _path(self, study: str) -> Path:
        return self._folder / f"{uid_from_content(study)}.json"


def _remote(found: FoundCine, examination: str) -> RemoteCine:
    return RemoteCine(
        study=f"{found.study}_4d",
        patient=found.patient,
        study_instance_uid=examination,
        images=images_of(found),
        phases=len(found.cine.frames[0]),
        step_ms=found.cine.step_ms,
        notes=found.cine.notes,
    )


def images_of(found: FoundCine) -> tuple[tuple[str, str], ...]:
    """The series and SOP instance UIDs of its images."""
    return tuple(dict.fromkeys((frame.series, frame.sop_instance) for own in found.cine.frames for frame in own))
