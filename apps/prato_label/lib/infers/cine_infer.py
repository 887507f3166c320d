"""A request for phases of a cine, answered: which phases are segmented, which follow others, and what the mask shows."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any
from weakref import WeakKeyDictionary

from lib.infers.inference_queue import InferenceSlot
from lib.infers.live_predictor import LivePredictor, run_in_compute_thread
from prato.data.cine import Cine
from prato.data.nifti import Volume
from prato.inference.prediction import CinePrediction
from prato.prompts.base import Prompt
from prato.prompts.request import InferenceRequest
from prato.propagation.propagate import CorrectedPhases, propagate
from prato.runtime.cancel_token import CancelToken

#: End-diastole and end-systole as a model found them, by its version: a client that names no phase moves its box over the first of them.
_found: WeakKeyDictionary[Cine, dict[str | None, tuple[int, int]]] = WeakKeyDictionary()


@dataclass(frozen=True)
class CineAnswer:
    """``mask``, (X, Y, Z) of one phase or (X, Y, Z, T), on the grid of its image, and the reply's JSON part."""

    mask: Volume
    reply: dict[str, Any]


def answer(predictor: LivePredictor, device: str, cine: Cine, sent: InferenceRequest, slot: InferenceSlot) -> CineAnswer:
    """Segment the phases of ``cine`` that ``sent`` asks for; without any, end-diastole: marked, known, or found in all of them.

    Raises:
        RequestError: the request's boxes cannot be used on that cine.
        VolumeError: it names phases that there are not, or one that cannot be used.
        CheckpointError, CancelledError: as ``LivePredictor.predict``.
    """
    grid = cine.grid()
    prompts = sent.prompts_by_phase(len(cine), grid.array.shape[:3], grid.spacing)
    version = predictor.version()
    marked = slot.marked if slot.marked and max(slot.marked) < len(cine) else None
    if slot.corrections is not None:
        return _followed(predictor, device, cine, sent, slot, prompts, marked, slot.corrections)
    pair = marked or _found.get(cine, {}).get(version)
    wanted = sent.phases
    if isinstance(wanted, int):
        wanted = (wanted,)
    elif wanted is None and pair is not None:
        wanted = (pair[0],)
    elif not isinstance(wanted, tuple):
        wanted = tuple(range(len(cine)))
    cine.require(wanted)
    slot.phases = len(wanted)
    token = CancelToken(lambda: slot.is_cancelled)
    prediction = predictor.predict_cine(
        device, cine, wanted, prompts, sent.prune, marked=marked, token=token, report=lambda done: setattr(slot, "done", done)
    )
    if len(wanted) < len(cine):
        return _shown(cine, grid, sent, replace(prediction, marked=pair), "marked" if marked else "found")
    found = prediction.find_ed_es()
    if found is not None and marked is None:
        _found.setdefault(cine, {})[version] = found
    return _shown(cine, grid, sent, prediction, "marked" if marked else "found")


def _followed(
    predictor: LivePredictor,
    device: str,
    cine: Cine,
    sent: InferenceRequest,
    slot: InferenceSlot,
    prompts: Sequence[Prompt] | Mapping[int, Sequence[Prompt]],
    marked: tuple[int, int] | None,
    corrections: CorrectedPhases,
) -> CineAnswer:
    """The answer with all phases, which follow those that were corrected; each counts twice in how far it is."""
    count, token = len(cine), CancelToken(lambda: slot.is_cancelled)
    slot.phases = 2 * count
    prediction = predictor.predict_cine(
        device, cine, None, prompts, sent.prune, marked=marked, token=token, report=lambda done: setattr(slot, "done", done)
    )
    start = time.perf_counter()
    followed = run_in_compute_thread(
        lambda token: propagate(cine, prediction, corrections, token=token, report=lambda done: setattr(slot, "done", count + done)), token
    )
    reply = {**followed.reply(), "mask_phase": None, **corrections.reply(count)}
    reply["latency_ms"]["propagate"] = round(1000 * (time.perf_counter() - start), 1)
    return CineAnswer(cine.grid().with_array(followed.mask), reply)


def _shown(cine: Cine, grid: Volume, sent: InferenceRequest, prediction: CinePrediction, source: str) -> CineAnswer:
    """The answer with the mask of one phase where ``sent`` names one or none, and of the whole cine where it names several."""
    pair = prediction.find_ed_es()
    shown = sent.phases if isinstance(sent.phases, int) else None
    if sent.phases is None:
        shown = pair[0] if pair else prediction.phases[0]
    reply = {**prediction.reply(), "ed_es_source": pair and source, "mask_phase": shown}
    if shown is None and len(cine) > 1:
        return CineAnswer(grid.with_array(prediction.mask), reply)
    phase = cine.phase(shown or 0)
    return CineAnswer(phase.with_array(prediction.mask[..., shown or 0]), reply)
