"""Answers a request for phases of a cine: which are segmented, which follow others, what is corrected, and what the mask shows."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any
from weakref import WeakKeyDictionary

import nibabel as nib

from lib.infers.click_infer import clicked_phase, correct_prediction
from lib.infers.inference_queue import InferenceSlot
from lib.infers.live_predictor import LivePredictor, run_in_compute_thread
from prato.data.cine import Cine
from prato.data.nifti import Volume
from prato.data.studies.ed_es import NamedPhases
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
    named = slot.named if slot.named and max(slot.named.pair) < len(cine) else None
    request = _CineRequest(predictor, device, cine, sent, slot, prompts, named)
    return request.segment() if slot.corrections is None else request.follow(slot.corrections)


@dataclass(frozen=True)
class _CineRequest:
    """A request for phases of ``cine``, and all that answers it.

    Attributes:
        named: end-diastole and end-systole, where somebody named phases that the cine has.
    """

    predictor: LivePredictor
    device: str
    cine: Cine
    sent: InferenceRequest
    slot: InferenceSlot
    prompts: CinePrompts
    named: NamedPhases | None

    @cached_property
    def token(self) -> CancelToken:
        """Cancelled with the request."""
        return CancelToken(lambda: self.slot.is_cancelled)

    @property
    def is_prompted(self) -> bool:
        """Whether the masks are others than those that the model makes by itself."""
        return bool(self.prompts) or self.sent.prune is not None

    @property
    def known_pairs(self) -> dict[str | None, tuple[int, int] | None]:
        """End-diastole and end-systole as models found them before, see ``_found``."""
        return _found.setdefault(self.cine.image, {})

    def segment(self) -> CineAnswer:
        """The phases that are asked for, and the clicks on one of them."""
        strokes = self._strokes()
        pair, phases = self._choose_phases()
        self.cine.require(phases)
        prompts = self.prompts
        if strokes and len(phases) == 1:  # else the phase that is clicked on is not known yet
            prompts = {phases[0]: (*prompts_of_phase(prompts, phases[0]), *ClickPrompt.from_strokes(strokes))}
        prediction = self._predict(phases, prompts, self.sent.prune)
        if len(phases) < len(self.cine):
            prediction = replace(prediction, found=pair)
        elif self.named is None and not self.is_prompted:
            self.known_pairs[prediction.model_version] = prediction.find_ed_es()
        shown = self._shown_phase(prediction)
        about: dict[str, Any] = {"mask_phase": shown}
        if shown is not None and strokes:
            own, image = prompts_of_phase(prompts, shown), clicked_phase(self.cine, shown)
            mask = prediction.mask.copy(order="F")
            mask[..., shown], about["refined"] = correct_prediction(
                self.predictor, self.device, image, own, mask[..., shown], strokes, self.token
            )
            # its volumes and warnings anew, and the phases of end-diastole and end-systole as they were found
            prediction = replace(prediction.with_mask(mask), found=prediction.find_ed_es())
        reply = {**prediction.reply(self.slot.height_cm, self.slot.weight_kg), **about}
        reply["warnings"] += self._ignored(self.sent.unused_clicks if shown is None else [])
        if shown is None and len(self.cine) > 1:
            return CineAnswer(self.cine.grid().with_array(prediction.mask), reply)
        return CineAnswer(self.cine.phase(shown or 0).with_array(prediction.mask[..., shown or 0]), reply)

    def follow(self, corrections: CorrectedPhases) -> CineAnswer:
        """All phases, which follow those that were corrected; each counts twice in how far the request is."""
        count, slot = len(self.cine), self.slot
        slot.phases = 2 * count
        prediction = self._predict(range(count), self.prompts, self.sent.prune)

        def report(done: int) -> None:
            slot.done = count + done

        start = time.perf_counter()
        followed = run_in_compute_thread(
            lambda token: propagate(self.cine, prediction, corrections, token=token, report=report), self.token
        )
        reply = {**followed.reply(slot.height_cm, slot.weight_kg), "mask_phase": None, **corrections.reply(count)}
        for key, mask in sorted(corrections.keys.items()):
            doubt = doubt_phase(mask, prediction.axis, key)
            if doubt is not None:  # the others follow it all the same, and have what is wrong with it
                reply["warnings"].append(doubt)
                reply["warned_phases"][doubt] = [key]
        reply["warnings"] += self._ignored(self.sent.unused_clicks)
        reply["latency_ms"]["propagate"] = round(1000 * (time.perf_counter() - start), 1)
        return CineAnswer(self.cine.grid().with_array(followed.mask), reply)

    def _choose_phases(self) -> tuple[tuple[int, int] | None, Sequence[int]]:
        """End-diastole and end-systole as far as they are known, and the phases that are asked for.

        A request that names no phase is about end-diastole. Where nobody knows which that is, all phases are segmented without a prompt to
        find it; without a prompt these are the answer themselves.
        """
        cine, wanted, version = self.cine, self.sent.phases, self.predictor.version()
        every = tuple(range(len(cine)))
        pair = self.named.pair if self.named else self.known_pairs.get(version)
        if wanted is None and self.is_prompted and self.named is None and version not in self.known_pairs and len(cine) > 1:
            found = self._predict(every)
            pair = self.known_pairs[found.model_version] = found.find_ed_es()
        if isinstance(wanted, tuple):
            return pair, wanted
        if isinstance(wanted, int):
            return pair, (wanted,)
        if wanted == "all" or (pair is None and version not in self.known_pairs):
            return pair, every
        return pair, (pair[0] if pair else 0,)

    def _predict(self, phases: Sequence[int], prompts: CinePrompts = (), prune: str | None = None) -> CinePrediction:
        """Segment ``phases``, after those that are done already for this request."""
        slot, before = self.slot, self.slot.done
        slot.phases = max(slot.phases, before + len(phases))

        def report(done: int) -> None:
            slot.done = before + done

        found = self.predictor.predict_cine(self.device, self.cine, phases, prompts, prune, token=self.token, report=report)
        return replace(found, named=self.named)

    def _shown_phase(self, prediction: CinePrediction) -> int | None:
        """The phase whose mask is the answer, where the request names one or none; None where it names several."""
        if self.sent.phases is not None:
            return self.sent.phases if isinstance(self.sent.phases, int) else None
        pair = prediction.find_ed_es()
        return pair[0] if pair else prediction.phases[0]

    def _strokes(self) -> tuple[Stroke, ...]:
        """The clicks on the one phase whose mask is the answer; none where the request names several."""
        sent, grid = self.sent, self.cine.grid()
        if not sent.holds_clicks or not (sent.phases is None or isinstance(sent.phases, int)):
            return ()
        clicks = sent.corrections(grid.array.shape[:3], grid.spacing)
        return clicks.strokes if clicks else ()

    def _ignored(self, clicks: Sequence[str]) -> list[str]:
        """Warnings of what is asked of one image, and not done here: ``clicks``, and tokens in the reply, which no cine has."""
        return [f"parameter_ignored: {name}" for name in (*clicks, *(["return_tokens"] if self.sent.return_tokens else []))]
