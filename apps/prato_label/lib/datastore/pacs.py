"""A PACS in place of a studies folder: its cines are listed and fetched as they are opened; labels are kept here and sent back.

Everything but the images' origin is a studies folder's: labels, versions and jobs lie in a local folder, and the server works as on any.
"""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from fastapi import HTTPException

from lib.datastore.entries import phases_info
from lib.datastore.studies import StudiesDatastore
from prato.data.atomic import make_folder
from prato.labelling.files import SUFFIX
from prato.labelling.records import UNKNOWN
from prato.pacs.catalog import Catalog
from prato.pacs.fetch import drop_abandoned, fetch_cine, find_labelled, has_other_images, make_room, note_opened
from prato.pacs.outbox import Outbox
from prato.pacs.phase_series import find_phase_series, real_address, split_into_phases
from prato.pacs.sent import SentSegmentation, find_segmentation
from prato.pacs.web import Answer, Pacs, PacsError
from prato_server.settings import Settings, folder_for_pacs

logger = logging.getLogger(__name__)
#: The folder, in the studies folder, of what belongs to the PACS.
_OWN = "pacs"
#: Seconds until the PACS is asked again what it holds, and after a fault.
_REFRESH_S, _AGAIN_S = 300.0, 20.0


@contextmanager
def _refusals(what: str = "") -> Iterator[None]:
    """Turn a fault of the PACS in the block into an HTTPException, whose sentence ``what`` begins."""
    try:
        yield
    except PacsError as error:
        raise HTTPException(503 if error.is_general else 502, f"{what}{error}", {"Retry-After": "30"}) from error


class PacsDatastore(StudiesDatastore):
    """The short-axis cines of the DICOMweb service at ``url`` that ``filters`` (QIDO-RS) let through.

    Refusals are as those of ``StudiesDatastore``; of the PACS's faults, 503, or 502 where it answers nonsense.
    """

    def __init__(self, url: str, settings: Settings, filters: Mapping[str, Any]) -> None:
        folder = folder_for_pacs(settings, url)
        secrets = [secret.get_secret_value() if secret else None for secret in (settings.pacs_password, settings.pacs_token)]
        self._pacs = Pacs(url, settings.pacs_user, *secrets)
        make_folder(folder / _OWN)
        self._catalog = Catalog(self._pacs, folder / _OWN / "examinations", filters)
        self._outbox = Outbox(self._pacs, folder, folder / _OWN / "sent")
        self._max_bytes = int(settings.pacs_cache_gb * 2**30)
        self._fetching: dict[str, threading.Lock] = {}
        self._told: set[str] = set()
        self._fault: str | None = None
        self._stopped, self._is_open = threading.Event(), False
        self._scratch = folder / _OWN / "fetching"
        drop_abandoned(self._scratch)
        super().__init__(str(folder))
        self._is_open = True
        logger.warning("Labels and opened images are kept in %s.", folder)
        for work in (self._refresh_catalog, self._outbox.run):
            threading.Thread(target=work, name=f"pacs-{work.__name__.strip('_')}", daemon=True).start()

    def close(self) -> None:
        """End the work in the background."""
        self._stopped.set()
        self._outbox.stop()

    def pacs_state(self) -> dict[str, Any]:
        """For the status page: what is wrong with the PACS (None: nothing), and the labels that it has not acknowledged."""
        return {"url": self._pacs.url, "fault": self._fault or self._outbox.fault, "waiting": self._outbox.waiting()}

    def study_of_series(self, uid: str) -> tuple[str, int | None] | None:
        """The study that a series is, by its UID, or that it is a phase of, and which; None where it is neither.

        A series of the PACS counts where all images of the study are of it.
        """
        cines = self._catalog.cines().values()
        if phase := find_phase_series(cines, uid):
            return phase.cine.study, phase.phase
        whole = [cine.study for cine in cines if {series for series, _ in cine.images} == {uid}]
        return (whole[0], None) if len(whole) == 1 else None

    def find_segmentation(self, content_type: str, body: bytes) -> SentSegmentation | None:
        """The segmentation of a phase that a viewer sends, as ``prato.pacs.sent``."""
        return find_segmentation(content_type, body, self._catalog.cines_of)

    def relay(self, method: str, path: str, query: str, headers: Mapping[str, str], body: bytes) -> Answer:
        """What the PACS answers a viewer, to which each phase of a cine is a series."""
        parts = path.split("/")
        cines = self._catalog.cines_of(parts[1]) if len(parts) > 1 else ()
        with _refusals():
            answer = self._pacs.relay(method, real_address(path, cines), query, headers, body)
        if not cines or parts[2:] != ["metadata"] or answer.status != 200 or "json" not in answer.content_type:
            return answer
        return answer._replace(content=json.dumps(split_into_phases(json.loads(answer.content), cines)).encode())

    def _list_files(self, path: str, patterns: Iterable[str]) -> dict[str, str]:
        """Of images, those of the PACS too, wherever they are now."""
        files = super()._list_files(path, patterns)
        if Path(path).resolve() != self.folder.resolve():
            return files
        return {**{f"{study}{SUFFIX}": f"{study}{SUFFIX}" for study in self._catalog.cines()}, **files}

    def _image_path(self, study: str, ending: str) -> str:
        """As in any studies folder; an image that is not here is fetched first."""
        path = Path(super()._image_path(study, ending))
        if not self._is_open:
            return str(path)
        if not self._is_here(study):
            self._fetch(study)
        else:
            note_opened(path)
        return str(path)

    def _is_here(self, study: str) -> bool:
        """Whether the image is here; one that was fetched while its images arrived in the PACS is not, unless somebody has labelled it."""
        if not (self.folder / f"{study}{SUFFIX}").exists():
            return False
        cine = self._catalog.cines().get(study)
        if cine is None or not has_other_images(self.folder, cine):
            return True
        if study not in find_labelled(self.folder):
            return False
        if study not in self._told:
            self._told.add(study)
            logger.warning("The PACS now holds other images of %s than those its label was drawn on: those stay here.", study)
        return True

    def get_image_info(self, image_id: str) -> dict[str, Any]:
        """What is known of a study, as in any studies folder; nothing is fetched."""
        if image_id not in self._datastore.objects:
            return {}
        image, cine = self._datastore.objects[image_id].image, self._catalog.cines().get(image_id)
        found = {**image.info, "path": str(self.folder / f"{image_id}{image.ext}")}
        return found if cine is None else {**found, "StudyInstanceUID": cine.study_instance_uid}  # by which OHIF opens the next study

    def _find_phases(self, study: str, ending: str) -> dict[str, Any] | None:
        """How many phases an image has, that is not here, its headers in the PACS say."""
        cine = self._catalog.cines().get(study)
        if cine is None or (self.folder / f"{study}{ending}").exists():
            return super()._find_phases(study, ending)
        return phases_info(cine.phases, None if cine.step_ms is None else np.arange(cine.phases) * cine.step_ms)

    def remove_image(self, image_id: str, annotator: str = UNKNOWN) -> None:
        """Images of the PACS are not ours to remove."""
        if image_id in self._catalog.cines():
            raise HTTPException(409, f"{image_id} is in the PACS: remove it there; only its labels can be removed here.")
        super().remove_image(image_id, annotator)

    def _update_label_entry(self, study: str, tag: str) -> None:
        """Whatever changes a label ends here: what is final is sent."""
        super()._update_label_entry(study, tag)
        self._outbox.wake()

    def _fetch(self, study: str) -> None:
        self.require_folder()
        with self._fetching.setdefault(study, threading.Lock()):
            cine = self._catalog.cines().get(study)
            if self._is_here(study):  # another request fetched it meanwhile
                return
            if cine is None:
                raise HTTPException(404, f"{study} is no longer in the PACS, and its image is not here.")
            with _refusals(f"{study} cannot be opened. "):
                fetch_cine(self._pacs, cine, self.folder, self._scratch)
        make_room(self.folder, list(self._catalog.cines()), find_labelled(self.folder) | {study}, self._max_bytes)

    def _refresh_catalog(self) -> None:
        while not self._stopped.is_set():
            try:
                pause = self._ask_pacs()
            except HTTPException as error:  # the folder is away
                self._tell(error.detail, error.detail)
                pause = _AGAIN_S
            except Exception:  # the next answer may make sense
                logger.exception("the studies in the PACS cannot be listed")
                pause = _AGAIN_S
            self._stopped.wait(pause)

    def _ask_pacs(self) -> float:
        """List what the PACS holds now; how many seconds later it should be asked again. HTTPException as ``require_folder``."""
        self.require_folder()
        try:
            if self._catalog.refresh():
                self.refresh()
            self._fault = None
            return _REFRESH_S
        except OSError as error:  # PacsError is one
            self._tell(str(error), f"The studies in the PACS cannot all be listed now: {error}")
            self.refresh()  # what was found before the fault
            return _REFRESH_S if isinstance(error, PacsError) and not error.is_general else _AGAIN_S

    def _tell(self, fault: str, sentence: str) -> None:
        if fault != self._fault:
            logger.warning("%s", sentence)
        self._fault = fault
