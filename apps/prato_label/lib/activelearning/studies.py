"""Which studies may come next, and in which order; and the strategies that look at no image."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fastapi import HTTPException
from monailabel.interfaces.datastore import Datastore, DefaultLabelTag
from monailabel.interfaces.tasks.strategy import Strategy

from lib.activelearning.acquisition_strategy import SECONDS
from lib.activelearning.registry import register_strategy
from lib.datastore.entries import known_phases
from lib.datastore.studies import StudiesDatastore
from lib.infers.image_cache import images
from lib.infers.live_predictor import LivePredictor
from prato.acquisition.next_phase import next_phase
from prato.data.nifti_head import VolumeError
from prato.data.studies.splits import shuffle_key
from prato.labelling.records import TRUSTED

#: What an annotator may decide about a study without labelling it; a study that nobody decided about is open.
REVIEW_STATES = ("open", "skipped", "rejected")
#: For so many seconds, whoever was handed a study is taken to be at work on it.
AT_WORK_S = 1800.0


def list_unlabelled(datastore: Datastore) -> dict[str, int | None]:
    """The studies to be labelled, each with the phase that comes next (None for a volume).

    They are those without a final label, or with one that is not done yet (see ``next_phase``), that nobody rejected, and the skipped ones
    only once no other is left.

    Raises:
        HTTPException: 404, there are none.
    """
    by_state: dict[str, dict[str, int | None]] = {state: {} for state in REVIEW_STATES}
    without, studies = set(datastore.get_unlabeled_images()), datastore.list_images()
    if not studies:
        raise HTTPException(404, "There are no studies here: add images to the folder, or serve the folder that holds them.")
    for study in studies:
        trusted = [] if study in without else _trusted_phases(datastore, study)
        count, marked = known_phases(datastore.get_image_info(study))
        phase = None if trusted is None else next_phase(count, marked, trusted)
        if phase is not None:
            by_state[_review_state(datastore.get_image_info(study))][study] = phase if count > 1 else None
    if by_state["open"] or by_state["skipped"]:
        return by_state["open"] or by_state["skipped"]
    if by_state["rejected"]:
        count = len(by_state["rejected"])
        raise HTTPException(404, f"Every study here has a final label or was rejected ({count}): add studies, or open one from the list.")
    raise HTTPException(404, "Every study here has a final label: add studies to the folder, or open a labelled one to correct it.")


def _trusted_phases(datastore: Datastore, study: str) -> list[int] | None:
    """The phases of the final label of ``study`` that are done; None where nothing is known of them, and the label counts as a whole.

    Nothing of a label is done that does not fit its image, as one that was replaced.
    """
    info = datastore.get_label_info(study, DefaultLabelTag.FINAL.value)
    phases = info.get("phases") if info.get("fits", True) else {}
    if not isinstance(phases, dict):
        return None
    return [int(number) for number, phase in phases.items() if isinstance(phase, dict) and phase.get("state") in TRUSTED]


def name_phase(phase: int | None) -> dict[str, int]:
    """What a strategy's reply says of the phase that it chose: nothing of a volume's."""
    return {} if phase is None else {"phase": phase}


def _review_state(info: Mapping[str, Any]) -> str:
    review = info.get("review")
    state = review.get("state") if isinstance(review, dict) else None
    return state if state in REVIEW_STATES else "open"


def shuffle_unlabelled(request: dict[str, Any], datastore: Datastore) -> dict[str, int | None]:
    """The studies of :func:`list_unlabelled` that the request's strategy handed out longest ago, shuffled by its ``seed`` (default 0).

    What another strategy has just handed out to another ``client_id`` waits, where there is anything else. So two labellers at work on one
    folder are handed different studies; otherwise the same requests give the same studies again.

    Raises:
        HTTPException: 404, there are none.
    """
    own, client, unlabelled = request.get("strategy"), request.get("client_id"), list_unlabelled(datastore)
    handed_out = {study: datastore.get_image_info(study).get("strategy", {}) for study in unlabelled}
    now = time.time()

    def find_time(last: Mapping[str, Any]) -> float:
        # two servers of a folder have two clocks; farther ahead was one that has been set back since, and says nothing
        ts = last.get("ts", 0)
        return ts if ts < now + AT_WORK_S else 0

    def is_busy(study: str) -> bool:
        others = (last for name, last in handed_out[study].items() if name != own and last.get("client_id") != client)
        return any(find_time(last) > now - AT_WORK_S for last in others)

    free = [study for study in unlabelled if not is_busy(study)] or list(unlabelled)
    times = {study: find_time(handed_out[study].get(own, {})) for study in free}
    longest_ago = min(times.values())
    oldest = [study for study, ts in times.items() if ts == longest_ago]
    seed = request.get("seed", 0)
    oldest.sort(key=lambda study: shuffle_key(seed, study))
    return {study: unlabelled[study] for study in oldest}


def first_readable(studies: Sequence[str], datastore: Datastore) -> str:
    """The first of ``studies`` whose image can be read: a damaged one must not be handed out for ever. Where none can be found in
    ``SECONDS``, the first of all: whoever opens it is told what is wrong with it.
    """
    start = time.monotonic()
    for study in studies if isinstance(datastore, StudiesDatastore) else ():
        try:
            images.read_study(Path(datastore.get_image_uri(study)))  # it is kept for the labeller who is about to open it
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
        unlabelled = list_unlabelled(datastore)
        study = first_readable(sorted(unlabelled), datastore)
        return {"id": study, **name_phase(unlabelled[study])}


@register_strategy("random")
class Random(Strategy):
    """A study without a final label, drawn by the request's ``seed``; see :func:`shuffle_unlabelled`."""

    def __init__(self, predictors: Mapping[str, LivePredictor], default: str) -> None:
        super().__init__("A random study without a final label")

    def __call__(self, request: dict[str, Any], datastore: Datastore) -> dict[str, Any]:
        unlabelled = shuffle_unlabelled(request, datastore)
        study = first_readable(list(unlabelled), datastore)
        return {"id": study, **name_phase(unlabelled[study])}
