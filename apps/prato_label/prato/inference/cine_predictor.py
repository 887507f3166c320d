"""Answers prompts on a whole heartbeat: its phases side by side, and what they have in common computed once."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

import numpy as np

from prato.data.cine import Cine
from prato.data.resampling import resampled_size
from prato.inference.image_stack import ImageStack
from prato.inference.locate import locate
from prato.inference.prediction import CinePrediction, Prediction
from prato.inference.predictor import Predictor
from prato.inference.segmentation import timed
from prato.inference.stack_batch import PromptedStack, StackBatch
from prato.inference.stack_segmenter import StackSegmenter
from prato.prompts.base import Prompt
from prato.prompts.phases import CinePrompts, prompts_of_phase
from prato.runtime.batch_runner import IMMEDIATE, BatchRunner
from prato.runtime.flops import count_flops
from prato.runtime.side_by_side import count_workers, side_by_side


def predict_cine(
    predictor: Predictor,
    cine: Cine,
    phases: Sequence[int] | None = None,
    prompts: CinePrompts = (),
    prune: str | None = None,
    *,
    runner: BatchRunner = IMMEDIATE,
    report: Callable[[int], object] = lambda done: None,
) -> CinePrediction:
    """Segment phases of ``cine``; the image that ``predictor`` was set stays the one that is set.

    On a CPU, several phases share what the overview makes of all that lies round the heart (:class:`Surroundings`).

    Args:
        phases: from 0; None for all.
        prompts: for every phase, or by phase; as for :meth:`Predictor.predict`. A phase without any has a box proposed.
        prune, runner: as for :meth:`Predictor.predict`.
        report: called with the number of phases that are done, whenever some are.

    Raises:
        VolumeError: there is no such phase, or it cannot be used.
        ValueError, CancelledError: as for :meth:`Predictor.predict`; ValueError where ``phases`` names none, too.
    """
    wanted = sorted(set(range(len(cine)) if phases is None else phases))
    if not wanted:
        raise ValueError("There is no phase to segment: name one at least, or None for all.")
    grid = cine.grid()
    mask = np.zeros((*grid.array.shape[:3], len(cine)), np.uint8, order="F")
    done: list[Prediction] = []
    first = ImageStack(cine.phase(wanted[0]))
    is_on_gpu = predictor.segmenter.device.type == "cuda"
    batch = StackBatch(predictor.segmenter, runner) if is_on_gpu and isinstance(predictor.segmenter, StackSegmenter) else None
    at_once = max(1, batch.count(first)) if batch else 1
    pixels = math.prod(resampled_size(first.volume.array.shape, first.volume.spacing, predictor.segmenter.spec.pixel)) * len(first.filled)
    workers = 1 if is_on_gpu or not runner.is_immediate else count_workers(pixels)
    remembers = not is_on_gpu and len(wanted) > 1 and prune != "off"
    own, gflops, remember_ms = _for_cine(predictor, first, runner) if remembers else (predictor, 0.0, 0.0)

    def predict(group: Sequence[int]) -> list[Prediction]:
        runner.token.raise_if_cancelled()
        began = time.perf_counter()
        images = [ImageStack(cine.phase(t)) for t in group]
        read_ms = 1000 * (time.perf_counter() - began) / len(group)
        drawn = [prompts_of_phase(prompts, t) for t in group]
        predictions = _predict_group(own, images, drawn, prune, batch, runner)
        for found in predictions:
            found.latency_ms["preprocess"] += read_ms
            found.latency_ms.update({step: ms / workers for step, ms in found.latency_ms.items()})  # of the time that passes
        return predictions

    groups = [wanted[n : n + at_once] for n in range(0, len(wanted), at_once)]
    with side_by_side(workers) as run:
        for group, predictions in zip(groups, run(predict, groups)):
            for t, found in zip(group, predictions):
                mask[..., t] = found.mask
                done.append(replace(found, mask=mask[..., t]))
            report(len(done))
    done[0].latency_ms["locate"] += remember_ms
    done[0] = replace(done[0], gflops=done[0].gflops + gflops)
    return CinePrediction(mask, tuple(wanted), tuple(done), grid.spacing, first.axis, cine.times_ms is not None)


def _for_cine(predictor: Predictor, image: ImageStack, runner: BatchRunner) -> tuple[Predictor, float, float]:
    """A predictor for the phases of the cine that ``image`` is one of, and the GFLOP and ms that it takes to become one."""
    if predictor.locator is None:
        return predictor, 0.0, 0.0
    (locator, gflops), seconds = runner(partial(timed, partial(count_flops, partial(predictor.locator.for_cine, image))))
    return Predictor(locator if predictor.segmenter is predictor.locator else predictor.segmenter, locator), gflops, 1000 * seconds


def _predict_group(
    predictor: Predictor,
    images: Sequence[ImageStack],
    drawn: Sequence[Sequence[Prompt]],
    prune: str | None,
    batch: StackBatch | None,
    runner: BatchRunner,
) -> list[Prediction]:
    """Segment ``images`` of one shape, each with what was drawn on it, in common calls where the network takes several at once."""
    if batch is None or not all(map(batch.count, images)):
        own, found = Predictor(predictor.segmenter, predictor.locator), []
        for image, prompts in zip(images, drawn):
            own.set_image(image)
            found.append(own.predict(prompts, prune, runner=runner))
        return found
    start = time.perf_counter()
    costs = batch.embed(images)
    located = [locate(predictor.segmenter, predictor.locator, image, prompts, runner) for image, prompts in zip(images, drawn)]
    stacks = [PromptedStack(image, where.prompts, where.focus) for image, where in zip(images, located)]
    results = batch.segment(stacks, costs, prune)
    others_ms = 1000 * (time.perf_counter() - start) - sum(result.latency_ms["network"] for result in results)
    for result in results:
        result.latency_ms["postprocess"] = others_ms / len(results)
    return [
        predictor.conclude(image, prompts, where, result, 0.0) for image, prompts, where, result in zip(images, drawn, located, results)
    ]
