"""The corrected phases that a propagation request starts from: those that are stored, and those that it sends."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from fastapi import HTTPException, UploadFile
from monailabel.interfaces.app import MONAILabelApp

from lib.datastore.label_check import http_errors
from lib.datastore.studies import StudiesDatastore
from lib.infers.image_cache import images
from lib.server import checks
from lib.server.uploads import stored_upload
from prato.data.cine import Cine
from prato.data.labels.check import read_label_volume
from prato.data.labels.names import LabelError
from prato.inference.request import InferenceRequest, RequestError
from prato.labelling.merging import check_submission
from prato.labelling.versions import LabelVersions
from prato.propagation.propagate import CorrectedPhases


def read_corrections(app: MONAILabelApp, image: str, options: dict[str, Any], label: UploadFile | None) -> CorrectedPhases | None:
    """What ``options``, a request's parameters, ask to be followed in the study ``image``; None where they ask for no propagation.

    Args:
        image: empty for an upload.
        label: the mask that the request holds.

    Raises:
        HTTPException: 400 for a request, a study or a label that cannot be used, 413 for a label that is too large, 503 for a damaged one.
    """
    if not options.get("propagate"):
        return None
    try:
        request = InferenceRequest.parse(options)
    except RequestError as error:
        raise HTTPException(400, str(error)) from error
    if request.holds_mask:
        raise HTTPException(
            400, "previous (a mask to correct by clicks) and propagate (which fills a whole cine) exclude each other: send one of them."
        )
    sent = request.propagate
    store = app.datastore()
    if not image or not isinstance(store, StudiesDatastore):
        raise HTTPException(400, "propagate works only on studies in this server's studies folder: add the image to it first.")
    if bool(sent) != (label is not None):
        if sent:
            raise HTTPException(
                400, "propagate lists phases, but no label was sent: send the mask that holds these phases, or true instead of the list."
            )
        raise HTTPException(400, "propagate is true, but a label was sent: list the phases that were corrected in it instead of true.")
    with http_errors():
        cine = images.read_study(Path(store.get_image_uri(image)))
        if not isinstance(cine, Cine):
            raise LabelError(f"{image} has only one phase: propagate needs a cine, to carry corrections from some phases to the others.")
        cine.require(sent or (), "propagate")
        keys = {} if label is None else _read_sent(cine, image, sent or (), label, options)
        return _add_stored(store.versions(image, "final"), cine, image, keys)


def _read_sent(cine: Cine, image: str, phases: tuple[int, ...], label: UploadFile, options: dict[str, Any]) -> dict[int, np.ndarray]:
    """The ``phases`` of the mask that was sent, by number."""
    name = f"The label for {image}"
    checks.require_nifti(label, name)
    with stored_upload(label) as path:
        params = {"phases": [*phases], "label_info": options.get("label_info")}
        mask = check_submission(cine.grid(), read_label_volume(path, name), name, params)
    empty = [t for t in phases if not mask[..., t].any()]
    if empty:
        raise LabelError(f"Phase {empty[0]} of the label for {image} is empty: correct it, or leave it out of propagate.")
    return {t: mask[..., t].copy() for t in phases}


def _add_stored(versions: LabelVersions, cine: Cine, image: str, keys: dict[int, np.ndarray]) -> CorrectedPhases:
    """``keys`` and the phases of the current label that labellers drew: those that may be trained on are keys, too, others are kept."""
    kept: dict[int, np.ndarray] = {}
    current = versions.current()
    if current is not None:
        drawn = {t: phase for t, phase in current.phases.items() if phase.is_drawn and t not in keys}
        if drawn:
            mask = versions.read_mask(current.version, cine.grid()).array
            for t, phase in drawn.items():
                (keys if phase.is_trusted and mask[..., t].any() else kept)[t] = mask[..., t].copy()
    if not keys:
        raise LabelError(f"No phase of {image} is corrected or final: correct end-diastole or end-systole first.")
    return CorrectedPhases(keys, kept, None if current is None else current.version)
