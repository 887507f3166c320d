"""Answers prompts on an image: where to look, the mask, and what the labeller should know of both."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import torch

from prato.data.nifti import Volume
from prato.data.stack import check_image
from prato.inference.image_stack import ImageStack
from prato.inference.locate import Located, locate
from prato.inference.prediction import Prediction
from prato.inference.prediction_warnings import box_warnings, mask_warnings
from prato.inference.scores import Scores
from prato.inference.segmentation import Segmentation, Wanted
from prato.inference.segmenter import Segmenter
from prato.inference.stack_segmenter import StackSegmenter
from prato.models.checkpoint import CheckpointError, load_model
from prato.prompts.base import Prompt, PromptError
from prato.prompts.box import Box
from prato.pruning.plan import PruningPlan
from prato.runtime.batch_runner import IMMEDIATE, BatchRunner
from prato.runtime.devices import find_device


def load_segmenter(path: Path, device: torch.device) -> Segmenter | StackSegmenter:
    """The segmenting network of a model file.

    Raises:
        CheckpointError: the file cannot be used, or holds no segmenting network.
    """
    network, spec, version = load_model(path)
    if not spec.is_promptable:
        raise CheckpointError(f"{path.name} holds a network of the kind {spec.network}, which takes no prompts.")
    return (StackSegmenter if spec.centre == "stack" else Segmenter)(network, spec, version, device)


class Predictor:
    """Segments an image for any number of prompts; what depends on no prompt is computed once.

    Holds one image at a time. Several may share their networks, and on a CPU predict at once, but for ``return_uncertainty``.

    Args:
        segmenter: the segmenting network.
        locator: finds the heart for a network that looks at windows; None to look where the prompts are, without any at the whole image.
    """

    def __init__(self, segmenter: Segmenter | StackSegmenter, locator: StackSegmenter | None = None) -> None:
        self.segmenter = segmenter
        self.locator = segmenter if isinstance(segmenter, StackSegmenter) else locator
        self._image: ImageStack | None = None

    @classmethod
    def from_files(
        cls, model: str | os.PathLike[str], locator: str | os.PathLike[str] | None = None, device: str | torch.device = "cpu"
    ) -> Predictor:
        """A predictor with the networks of these model files.

        Args:
            locator: of a network that looks at whole stacks; one of any other kind proposes nothing.

        Raises:
            CheckpointError: a model file cannot be used. ValueError: there is no such ``device`` here.
        """
        where = find_device(device)
        segmenter = load_segmenter(Path(model), where)
        found = None if locator is None or isinstance(segmenter, StackSegmenter) else load_segmenter(Path(locator), where)
        return cls(segmenter, found if isinstance(found, StackSegmenter) else None)

    @property
    def version(self) -> str:
        """The segmenting model's version."""
        return self.segmenter.version

    @property
    def plan(self) -> PruningPlan | None:
        """The segmenting model's default plan."""
        return self.segmenter.plan

    def set_image(self, image: Volume | ImageStack) -> None:
        """From now on prompts refer to ``image``, whichever axis its slices lie along.

        Raises:
            VolumeError: it is no image of three axes, or has an affine that no image has.
        """
        self._image = image if isinstance(image, ImageStack) else ImageStack(check_image(image))

    def predict(
        self,
        prompts: Iterable[Prompt] = (),
        prune: str | None = None,
        *,
        return_tokens: bool = False,
        return_uncertainty: bool = False,
        runner: BatchRunner = IMMEDIATE,
        keep_scores: bool = False,
    ) -> Prediction:
        """Segment the image.

        Args:
            prompts: of one kind that locates the heart, in voxels of the image as it is stored, or none to have a box proposed; and clicks.
            prune: "off" for no pruning, or the percentage of tokens that leave at each stage ("25", "50", "75"); None for the model's plan.
            return_tokens: whether to make the token-retention map.
            return_uncertainty: whether to compute ``entropy`` and ``summary``.
            runner: makes the networks' calls.
            keep_scores: whether what the network thought of each pixel is kept with the image, for :meth:`scores`.

        Raises:
            ValueError: no image was set, prompts are no list of prompts on a volume or reach beyond it, or ``prune`` is none of these.
            CancelledError: ``runner`` was cancelled.
        """
        if self._image is None:
            raise ValueError("There is no image to segment: call set_image first.")
        runner.token.raise_if_cancelled()
        start = time.perf_counter()
        image, drawn = self._image, list[Any](prompts if isinstance(prompts, Iterable) else [None])
        if not all(isinstance(prompt, Prompt) and len(prompt.box.start) == 3 for prompt in drawn):
            form = "a list such as [BoxPrompt(Box(start, stop))] with boxes of three axes"
            raise PromptError(f"Prompts must be {form}, not {prompts!r:.100}.")
        clicks = [prompt for prompt in drawn if not prompt.locates]
        placed = [prompt for prompt in drawn if prompt.locates]
        located = locate(self.segmenter, self.locator, image, placed, runner)
        located_ms = 1000 * (time.perf_counter() - start)
        wanted = Wanted(prune, return_tokens, return_uncertainty, scores=keep_scores and prune is None)
        if isinstance(self.segmenter, StackSegmenter):
            result = self.segmenter.segment(image, [*located.prompts, *clicks], located.focus, wanted, runner)
            if (scores := result.scores) is not None:
                image.scores((*self.segmenter.embedding_key, repr(drawn)), lambda: scores)
        else:
            result = self.segmenter.segment(image, located.prompts, located.focus, wanted, runner)
        return self.conclude(image, placed, located, result, located_ms)

    def scores(self, prompts: Sequence[Prompt] = (), runner: BatchRunner = IMMEDIATE) -> Scores | None:
        """What the network for whole stacks thinks of each pixel, given ``prompts``: kept with the image, and computed
        again where it is not at hand. None without an image or such a network.

        Raises:
            ValueError, CancelledError: as for :meth:`predict`.
        """
        locator, image = self.locator, self._image
        if locator is None or image is None:
            return None

        def compute() -> Scores:
            clicks = [prompt for prompt in prompts if not prompt.locates]
            located = locate(locator, locator, image, [prompt for prompt in prompts if prompt.locates], runner)
            found = locator.segment(image, [*located.prompts, *clicks], located.focus, Wanted(scores=True), runner)
            return found.scores or Scores.nothing()

        return image.scores((*locator.embedding_key, repr([*prompts])), compute)

    def conclude(
        self, image: ImageStack, prompts: Sequence[Prompt], located: Located, result: Segmentation, locate_ms: float
    ) -> Prediction:
        """The answer to ``prompts`` on ``image``, with what the labeller should know of it, from what the segmenter's network has found.

        A box that nobody drew is said to hold all of the mask.
        """
        boxes = [prompt.box.rearrange(*image.order) for prompt in prompts]
        result.mask[:, :, image.blank] = 0  # where these alone were reached, what networks make of them is no heart
        mask = image.to_stored(result.mask)
        found = ["whole_image"] * (located.source == "whole_image")
        seen = {k for box in boxes for k in range(box.start[2], box.stop[2])} if boxes else image.filled
        found += mask_warnings(result.mask, image.volume.spacing, len(seen))
        if boxes:
            found += box_warnings(boxes, result.mask, are_bounds=all(prompt.bounds_heart for prompt in prompts))
        held = [prompt.box for prompt in prompts] or [*filter(None, (image.stored_box(located.focus), Box.around(mask)))]
        return Prediction(
            mask=mask,
            tokens=None if result.tokens is None else image.to_stored(result.tokens),
            box=Box.union(held),
            box_source=located.source,
            kept_fraction=result.kept_fraction,
            gflops=result.gflops + located.gflops,
            gflops_dense=result.gflops_dense + (0.0 if self.segmenter is self.locator else located.gflops),
            latency_ms={"locate": locate_ms, **result.latency_ms},
            warnings=[*image.warnings, *found],
            model_version=self.version,
            slices=len(seen),
            entropy=result.entropy,
            summary=result.summary,
        )
