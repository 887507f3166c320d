"""Answers corrections: clicks on a mask that the client sent, and clicks that came with the first request."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any
from weakref import WeakKeyDictionary

import nibabel as nib
import numpy as np

from lib.infers.live_predictor import LivePredictor
from lib.infers.live_refiner import live_refiner
from prato.data.cine import Cine
from prato.data.structures import STRUCTURES
from prato.inference.image_stack import ImageStack
from prato.inference.request import InferenceRequest, RequestError, require_heart
from prato.inference.scores import Scores
from prato.prompts.base import Prompt
from prato.prompts.box import Box
from prato.prompts.clicks import Stroke
from prato.prompts.mask_prompt import MaskPrompt, encode_part
from prato.prompts.phases import prompts_of_phase
from prato.refinement.refiner import Refinement, Refiner
from prato.runtime.cancel_token import CancelToken

#: The phase of a cine that was clicked on last: its slices at the network's resolution serve the next click.
_phases: WeakKeyDictionary[nib.Nifti1Image, tuple[int, ImageStack]] = WeakKeyDictionary()


def clicked_phase(cine: Cine, phase: int) -> ImageStack:
    """The stack of a ``phase`` of ``cine``, kept for the next click.

    Raises:
        VolumeError: there is no such phase, or it cannot be used.
    """
    known = _phases.get(cine.image)
    if known is None or known[0] != phase:
        cine.require((phase,))
        known = _phases[cine.image] = phase, ImageStack(cine.phase(phase))
    return known[1]


def correct(
    predictor: LivePredictor, device: str, stored: ImageStack | Cine, request: InferenceRequest, token: CancelToken
) -> dict[str, Any]:
    """The reply to corrections of the mask that was sent with them; ``predictor`` knows what the network thought of the image.

    Raises:
        RequestError: they cannot be used on that image, or are about several phases of it, or none.
        VolumeError: it has no such phase, or one that cannot be used.
        CheckpointError: the refiner's file cannot be used. CancelledError: ``token`` was cancelled.
    """
    phase, count = request.phases, len(stored) if isinstance(stored, Cine) else 1
    if count == 1 and phase in (None, "all"):
        phase = 0
    if isinstance(phase, tuple) and len(phase) == 1:
        phase = phase[0]
    if not isinstance(phase, int):
        raise RequestError("Clicks correct one phase of a cine: send its number as phases.")
    if not 0 <= phase < count:
        raise RequestError(f"phases cannot name {phase}: the image has {f'the phases 0 to {count - 1}' if count > 1 else 'one phase, 0'}.")
    image = clicked_phase(stored, phase) if isinstance(stored, Cine) else stored
    sent = request.corrections(image.stored.array.shape, image.stored.spacing)
    if sent is None or sent.masks is None:
        raise RequestError("Corrections need a mask to correct: send it as previous.")
    masks, start = sent.masks, time.perf_counter()
    drawn = request.prompts_by_phase(count, image.stored.array.shape, image.stored.spacing) if request.drawn.get("roi") else ()
    prompts = prompts_of_phase(drawn, phase)

    def call(refiner: Refiner) -> tuple[Refinement, str]:
        token.raise_if_cancelled()
        scores = predictor.scores(device, image, prompts, token)
        require_heart(sent.strokes[sent.done :], _known_heart(masks, image, scores), image.axis)
        found = refiner.refine(image, masks, sent.strokes, sent.done, scores)
        if masks.propagate_to:
            later = refiner.propagate(image, replace(masks, mask=found.mask), sent.strokes, scores)
            boxes = [box for box in (found.box, later.box) if box is not None]
            changed = int(np.count_nonzero(later.mask != masks.mask))
            found = Refinement(later.mask, Box.union(boxes) if boxes else None, changed)
        return found, refiner.version

    found, version = live_refiner.run(device, call)
    refined = _described(found, version)
    if found.box is not None:
        refined["mask"] = encode_part(found.mask, found.box)
    about = {"label_names": dict(STRUCTURES), "box": list(masks.box.bounds), "box_source": "previous", "kept_fraction": {}}
    latency_ms = {"network": round(1000 * (time.perf_counter() - start), 1)}
    return {**about, "warnings": [*request.warnings], "model_version": version, "refined": refined, "latency_ms": latency_ms}


def correct_prediction(
    predictor: LivePredictor,
    device: str,
    image: ImageStack,
    prompts: Sequence[Prompt],
    mask: np.ndarray,
    strokes: Sequence[Stroke],
    token: CancelToken,
) -> tuple[np.ndarray, dict[str, Any]]:
    """A mask that a model has just made for ``prompts``, with what was clicked in the same request; and what the reply says of that.

    Raises:
        RequestError: there is a click far from the heart. CheckpointError: the refiner's file cannot be used.
        CancelledError: ``token`` was cancelled.
    """
    require_heart(strokes, _heart_slices(mask, image.axis), image.axis)

    def call(refiner: Refiner) -> tuple[Refinement, str]:
        scores = predictor.scores(device, image, prompts, token)
        return refiner.refine(image, MaskPrompt(mask, Box.whole(mask.shape)), strokes, scores=scores), refiner.version

    found, version = live_refiner.run(device, call)
    return found.mask, _described(found, version)


def _known_heart(masks: MaskPrompt, image: ImageStack, scores: Scores | None) -> set[int]:
    """The stored slices that hold heart: by the mask that was sent, and, as a part of one does not tell where it ends, by the network."""
    sent = _heart_slices(masks.mask, image.axis)
    if scores is None or (sent and masks.box.size[image.axis] == masks.mask.shape[image.axis]):
        return sent
    return sent.union(image.renumber_slices(scores.heart_slices))


def _heart_slices(mask: np.ndarray, axis: int) -> set[int]:
    """The slices along ``axis`` in which ``mask`` holds a structure."""
    return {*np.flatnonzero(mask.any(tuple(other for other in range(3) if other != axis))).tolist()}


def _described(found: Refinement, version: str) -> dict[str, Any]:
    box = None if found.box is None else list(found.box.bounds)
    return {"box": box, "changed_voxels": found.changed, "model_version": version}
