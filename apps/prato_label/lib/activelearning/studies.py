"""The studies that may come next and in which order, and the strategies that look at no image."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fastapi import HTTPException
from monailabel.interfaces.datastore import Datastore
from monailabel.interfaces.tasks.strategy import Strategy

from lib.activelearning.acquisition_strategy import SECONDS
from lib.activelearning.registry import register_strategy
from lib.datastore.studies import StudiesDatastore
from lib.infers.image_cache import images
from lib.infers.live_predictor import LivePredictor
from prato.data.nifti_head import VolumeError

#: What an annotator may decide about a study without labelling it; a study that nobody decided about is open.
REVIEW_STATES = ("open", "skipped", "rejected")


def list_unlabelled(datastore: Datastore) -> list[str]:
    """The studies to be labelled: those without a final label that nobody rejected, and the skipped ones only once no other is left.

    Raises:
        HTTPException: 404, there are none.
    """
    by_state: dict[str, list[str]] = {state: [] for state in REVIEW_STATES}
    for study in datastore.get_unlabeled_images():
        by_state[_review_state(datastore.get_image_info(study))].append(study)
    if by_state["open"] or by_state["skipped"]:
        return by_state["open"] or by_state["skipped"]
    if by_state["rejected"]:
        count = len(by_state["rejected"])
        raise HTTPException(404, f"Every study here has a final label or was rejected ({count}): add studies, or open one from the list.")
    raise HTTPException(404, "Every study here has a final label: add studies to the folder, or open a labelled one to correct it.")


def _review_state(info: Mapping[str, Any]) -> str:
    review = info.get("review")
    state = review.get("state") if isinstance(review, dict) else None
    return state if state in REVIEW_STATES else "open"


def shuffle_unlabelled(request: dict[str, Any], datastore: Datastore) -> list[str]:
    """Of the studies without a final label, those that the request's strategy handed out longest ago, shuffled by its ``seed`` (0).

    Two labellers at work on one folder are handed different studies, and the same requests give the same studies again.

    Raises:
        HTTPException: 404, there are none.
    """

    def handed_out(study: str) -> int:
        ts: int = datastore.get_image_info(study).get("strategy", {}).get(request.get("strategy"), {}).get("ts", 0)
        return ts

    times = {study: handed_out(study) for study in list_unlabelled(datastore)}
    oldest = [study for study, ts in times.items() if ts == min(times.values())]
    seed = request.get("seed", 0)
    return sorted(oldest, key=lambda study: hashlib.sha256(f"{seed}:{study}".encode()).hexdigest())


def first_readable(studies: Sequence[str], datastore: Datastore) -> str:
    """The first of ``studies`` whose image can be read: a damaged one must not be handed out for ever. Where none can be found in
    ``SECONDS``, the first of all: whoever opens it is told what is wrong with it.
    """
    start = time.monotonic()
    for study in studies if isinstance(datastore, StudiesDatastore) else ():
        try:
            images.read(Path(datastore.get_image_uri(study)))  # it is kept for the labeller who is about to open it
        except (VolumeError, HTTPException):  # HTTPException: it was removed meanwhile
            if time.monotonic() - start > SECONDS:
                break
        else:
            return study
    return studies[0]


@register_strategy("first")
class First(Strategy):
    """The first study by name that has no final label."""

    def __init__(self, predictors: Mapping[str, LivePredictor], default: str) -> None:
        super().__init__("The first study without a final label")

    def __call__(self, request: dict[str, Any], datastore: Datastore) -> dict[str, Any]:
        return {"id": first_readable(sorted(list_unlabelled(datastore)), datastore)}


@register_strategy("random")
class Random(Strategy):
    """A study without a final label, drawn by the request's ``seed``; see :func:`shuffle_unlabelled`."""

    def __init__(self, predictors: Mapping[str, LivePredictor], default: str) -> None:
        super().__init__("A random study without a final label")

    def __call__(self, request: dict[str, Any], datastore: Datastore) -> dict[str, Any]:
        return {"id": first_readable(shuffle_unlabelled(request, datastore), datastore)}
