"""Answers a request for phases of a cine: which are segmented, which follow others, what is corrected, and what the mask shows."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any
from weakref import WeakKeyDictionary

import nibabel as nib

from lib.infers.click_infer import clicked_phase, correct_prediction
from lib.infers.inference_queue import InferenceSlot
from lib.infers.live_predictor import LivePredictor, run_in_compute_thread
from prato.data.cine import Cine
from prato.data.ed_es import NamedPhases
from prato.data.nifti import Volume
from prato.inference.prediction import CinePrediction
from prato.inference.request import InferenceRequest
from prato.labelling.doubts import doubt_phase
from prato.prompts.clicks import ClickPrompt, Stroke
from prato.prompts.phases import CinePrompts, prompts_of_phase
from prato.propagation.propagate import CorrectedPhases, propagate
from prato.runtime.cancel_token import CancelToken

#: End-diastole and end-systole as a model found them without a prompt, by its version: where somebody's box lies, they are the same.
_found: WeakKeyDictionary[nib.Nifti1Image, dict[str | None, tuple[int, int] | None]] = WeakKeyDictionary()


@dataclass(frozen=True)
class CineAnswer:
    """``mask``, (X, Y, Z) of one phase or (X, Y, Z, T), on the grid of its image, and the reply's JSON part."""

    mask: Volume
    reply: dict[str, Any]


def answer(predictor: LivePredictor, device: str, cine: Cine, sent: InferenceRequest, slot: InferenceSlot) -> CineAnswer:
    """Segment the phases of ``cine`` that ``sent`` asks for; without any, end-diastole: named, known, or found in all of them.

    Raises:
        RequestError: the request's boxes or clicks cannot be used on that cine.
        VolumeError: it names phases that there are not, or one that cannot be used.
        CheckpointError, CancelledError: as ``LivePredictor.predict``.
    """
    grid = cine.grid()
    prompts = sent.prompts_by_phase(len(cine), grid.array.shape[:3], grid.spacing)
    version = predictor.version()
    named = slot.named if slot.named and max(slot.named.pair) < len(cine) else None
    if slot.corrections is not None:
        return _followed(predictor, device, cine, sent, slot, prompts, named, slot.corrections)
    known = _found.setdefault(cine.image, {})
    pair, before = named.pair if named else known.get(version), 0
    token, is_prompted = CancelToken(lambda: slot.is_cancelled), bool(prompts) or sent.prune is not None
    strokes = _strokes(sent, grid)

    def predict(phases: Sequence[int], *drawn: Any) -> CinePrediction:
        def report(done: int) -> None:
            slot.done = before + done

        slot.phases = before + len(phases)
        return replace(predictor.predict_cine(device, cine, phases, *drawn, token=token, report=report), named=named)

    every = tuple(range(len(cine)))
    if sent.phases is None and is_prompted and named is None and version not in known and len(cine) > 1:
        found = predict(every)
        pair, before = found.find_ed_es(), len(cine)
        known[found.model_version] = pair
    wanted = (sent.phases,) if isinstance(sent.phases, int) else sent.phases
    if not isinstance(wanted, tuple):
        wanted = every if wanted or (pair is None and version not in known) else (pair[0] if pair else 0,)
    cine.require(wanted)
    if strokes and len(wanted) == 1:  # else the phase that is clicked on is not known yet
        prompts = {wanted[0]: (*prompts_of_phase(prompts, wanted[0]), *ClickPrompt.from_strokes(strokes))}
    prediction = predict(wanted, prompts, sent.prune)
    if len(wanted) < len(cine):
        prediction = replace(prediction, found=pair)
    elif named is None and not is_prompted:
        known[prediction.model_version] = prediction.find_ed_es()
    shown = _shown_phase(sent, prediction)
    about: dict[str, Any] = {"mask_phase": shown}
    if shown is not None and strokes:
        own, image = prompts_of_phase(prompts, shown), clicked_phase(cine, shown)
        mask = prediction.mask.copy(order="F")
        mask[..., shown], about["refined"] = correct_prediction(predictor, device, image, own, mask[..., shown], strokes, token)
        # its volumes and warnings anew, and the phases of end-diastole and end-systole as they were found
        prediction = replace(prediction.with_mask(mask), found=prediction.find_ed_es())
    reply = {**prediction.reply(slot.height_cm, slot.weight_kg), **about}
    reply["warnings"] += _ignored(sent, corrects_clicks=shown is not None)
    if shown is None and len(cine) > 1:
        return CineAnswer(grid.with_array(prediction.mask), reply)
    return CineAnswer(cine.phase(shown or 0).with_array(prediction.mask[..., shown or 0]), reply)


def _followed(
    predictor: LivePredictor,
    device: str,
    cine: Cine,
    sent: InferenceRequest,
    slot: InferenceSlot,
    prompts: CinePrompts,
    named: NamedPhases | None,
    corrections: CorrectedPhases,
) -> CineAnswer:
    """The answer with all phases, which follow those that were corrected; each counts twice in how far it is."""
    count, token = len(cine), CancelToken(lambda: slot.is_cancelled)
    slot.phases = 2 * count
    prediction = predictor.predict_cine(
        device, cine, None, prompts, sent.prune, token=token, report=lambda done: setattr(slot, "done", done)
    )
    start = time.perf_counter()
    followed = run_in_compute_thread(
        lambda token: propagate(
            cine, replace(prediction, named=named), corrections, token=token, report=lambda done: setattr(slot, "done", count + done)
        ),
        token,
    )
    reply = {**followed.reply(slot.height_cm, slot.weight_kg), "mask_phase": None, **corrections.reply(count)}
    for key, mask in sorted(corrections.keys.items()):
        doubt = doubt_phase(mask, prediction.axis, key)
        if doubt is not None:  # the others follow it all the same, and have what is wrong with it
            reply["warnings"].append(doubt)
            reply["warned_phases"][doubt] = [key]
    reply["warnings"] += _ignored(sent, corrects_clicks=False)
    reply["latency_ms"]["propagate"] = round(1000 * (time.perf_counter() - start), 1)
    return CineAnswer(cine.grid().with_array(followed.mask), reply)


def _ignored(sent: InferenceRequest, corrects_clicks: bool) -> list[str]:
    """Warnings of what ``sent`` asks of one image, and no cine has: tokens in the reply, and clicks unless one phase is the answer."""
    names = [*([] if corrects_clicks else sent.unused_clicks), *(["return_tokens"] if sent.return_tokens else [])]
    return [f"parameter_ignored: {name}" for name in names]


def _shown_phase(sent: InferenceRequest, prediction: CinePrediction) -> int | None:
    """The phase whose mask is the answer, where ``sent`` names one or none; None where it names several."""
    if sent.phases is not None:
        return sent.phases if isinstance(sent.phases, int) else None
    pair = prediction.find_ed_es()
    return pair[0] if pair else prediction.phases[0]


def _strokes(sent: InferenceRequest, grid: Volume) -> tuple[Stroke, ...]:
    """The clicks of ``sent`` on the one phase whose mask is the answer; none where it names several."""
    if not sent.holds_clicks or not (sent.phases is None or isinstance(sent.phases, int)):
        return ()
    clicks = sent.corrections(grid.array.shape[:3], grid.spacing)
    return clicks.strokes if clicks else ()
