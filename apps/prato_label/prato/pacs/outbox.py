"""Final labels on their way to the PACS: what was not acknowledged is sent again, whatever stops in between, and nothing is sent twice.

The queue is the labels themselves: ``<folder>/<study>.json`` says what was acknowledged, and which object is on its way. Whatever label
differs from that is sent, so that none is forgotten, whoever stored it and however the server ended.
"""

from __future__ import annotations

import logging
import threading
from pathlib import Path

from pydantic import BaseModel, Field, ValidationError

from prato.data.atomic import write_bytes
from prato.data.file_identity import file_stamp
from prato.data.nifti import VolumeError
from prato.data.studies.folder import ManifestError, find_files
from prato.dicom.labels.exporter import export_segmentations
from prato.dicom.labels.labelled_cines import LabelledCine, find_labelled_cines
from prato.dicom.labels.segmentation import predecessor_of, segmentation_uid
from prato.dicom.reading.files import DicomError
from prato.labelling.files import LabelFiles
from prato.pacs.fetch import read_examination
from prato.pacs.web import Pacs, PacsError

logger = logging.getLogger(__name__)
#: Seconds between two looks at the labels, and until a PACS that did not take one is tried again, at first and at most.
_LOOK_S, _AGAIN_S, _AGAIN_MAX_S = 30.0, 5.0, 600.0
#: An object: its SOP instance UID, and that of the one that it replaces.
Sent = tuple[str, str | None]


class Ledger(BaseModel):
    """What the PACS holds of one study, by phase (from 0): objects that it acknowledged, and ``pending`` ones, which it may hold or not."""

    acknowledged: dict[int, Sent] = Field(default_factory=dict)
    pending: dict[int, Sent] = Field(default_factory=dict)


class Outbox:
    """Sends the final labels of the studies folder ``studies`` to ``pacs`` as DICOM SEG.

    Args:
        folder: of the ledgers.
    """

    def __init__(self, pacs: Pacs, studies: Path, folder: Path) -> None:
        self._pacs, self._studies, self._folder = pacs, studies, folder
        self._done: dict[str, object] = {}
        self._wake, self._stopped = threading.Event(), threading.Event()
        self.fault: str | None = None

    def waiting(self) -> list[str]:
        """Studies whose labels have not been acknowledged as they are now."""
        labels = find_files(self._studies / "labels" / "final").files
        return [study for study in labels if self._done.get(study) != self._stamp(study)]

    def send_all(self) -> int:
        """Send what waits; returns how many objects were acknowledged.

        Raises:
            PacsError: what is not acknowledged goes on waiting.
            OSError: a label cannot be read, or a ledger not be written.
        """
        sent = 0
        fault: PacsError | DicomError | VolumeError | OSError | None = None
        for study in self.waiting():
            try:
                stamp = self._stamp(study)
                sent += self._send_study(study)
                self._done[study] = stamp
            except (PacsError, DicomError, VolumeError, OSError) as error:
                fault = error
                if isinstance(error, PacsError):
                    if error.is_general:
                        break  # the others would wait for the same
                    fault = PacsError(f"The label of {study} cannot be sent. {error}")
            except Exception:  # of this label, whatever it is: the others must still be sent
                logger.exception("the label of %s cannot be sent to the PACS", study)
                fault = DicomError(f"The label of {study} cannot be sent to the PACS (the server's log says why)")
        if fault is not None:
            raise fault
        return sent

    def _send_study(self, study: str) -> int:
        cines, left_out = find_labelled_cines(self._studies, "final", {study})
        for sentence in left_out:
            logger.info("Not sent to the PACS: %s", sentence)
        return sum(self._send(study, cine) for cine in cines)

    def wake(self) -> None:
        """Look at the labels now."""
        self._wake.set()

    def run(self) -> None:
        """Send whenever a label has changed, until ``stop``."""
        again = _AGAIN_S
        while not self._stopped.is_set():
            self._wake.clear()
            try:
                self.send_all()
                self.fault, again, pause = None, _AGAIN_S, _LOOK_S
            except (PacsError, DicomError, VolumeError, ManifestError, OSError) as error:
                self._report(f"{str(error).rstrip('.')}. Objects that it has not acknowledged will be sent again.")
                pause, again = again, min(2 * again, _AGAIN_MAX_S)
            except Exception:  # the next label must still be sent
                logger.exception("a label cannot be sent to the PACS")
                pause, again = again, min(2 * again, _AGAIN_MAX_S)
            self._wake.wait(pause)

    def stop(self) -> None:
        """End ``run`` after the object that is being sent."""
        self._stopped.set()
        self._wake.set()

    def _report(self, sentence: str) -> None:
        if sentence != self.fault:
            logger.warning("%s", sentence)
        self.fault = sentence

    def _send(self, study: str, cine: LabelledCine) -> int:
        origin, ledger = cine.reference.dicom, self._read(study)
        if not ledger.pending and all(_is_acknowledged(cine, t, ledger) for t in cine.phases):
            return 0
        who = read_examination(self._pacs, cine.reference)
        for t, pending in list(ledger.pending.items()):  # the last answer was lost: an object that is there has to be named by the next one
            if self._pacs.has_instance(origin.study_instance_uid, pending[0]):
                ledger.acknowledged[t] = pending
            del ledger.pending[t]
            self._write(study, ledger)
        sent = 0
        for t, dataset in export_segmentations(cine, who, ledger.acknowledged).items():
            head = (str(dataset.SOPInstanceUID), predecessor_of(dataset))
            if ledger.acknowledged.get(t) == head:
                continue
            ledger.pending[t] = head
            self._write(study, ledger)
            self._pacs.store(dataset)
            ledger.acknowledged[t] = ledger.pending.pop(t)
            self._write(study, ledger)
            sent += 1
        return sent

    def _read(self, study: str) -> Ledger:
        path = self._folder / f"{study}.json"
        try:
            return Ledger.model_validate_json(path.read_bytes())
        except FileNotFoundError:
            return Ledger()
        except ValidationError:  # what is sent again has the same UIDs
            logger.warning("%s is damaged: the labels of %s are sent again.", path.name, study)
            return Ledger()

    def _write(self, study: str, ledger: Ledger) -> None:
        self._folder.mkdir(exist_ok=True)  # not what is above it: that is away, or not mounted
        write_bytes(self._folder / f"{study}.json", ledger.model_dump_json().encode())

    def _stamp(self, study: str) -> object:
        """Changes whenever the label, or the record of its last version, does."""
        files = LabelFiles(self._studies, study, "final")
        return files.stamp(), [(n, file_stamp(files.record_path(n))) for n in files.numbers()[-1:]]


def _is_acknowledged(cine: LabelledCine, t: int, ledger: Ledger) -> bool:
    uid, predecessor = ledger.acknowledged.get(t, (None, None))
    return uid is not None and segmentation_uid(cine.reference, cine.phases[t], predecessor) == uid
