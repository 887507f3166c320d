"""Where a network looks: round what is prompted, or where the overview sees the heart."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from prato.inference.image_stack import ImageStack
from prato.inference.segmenter import Segmenter
from prato.inference.stack_segmenter import StackSegmenter
from prato.inference.window import heart_beside
from prato.prompts.base import Prompt
from prato.prompts.box import Box, BoxPrompt
from prato.runtime.batch_runner import BatchRunner


class Located(NamedTuple):
    """Where a network looks.

    Attributes:
        prompts: what the network is prompted with.
        source: where that comes from: the name of a kind of prompt, "proposed", or "whole_image".
        focus: the box that a window lies round, in voxels of ``image.volume``.
        gflops: what it took to find the heart; 0 where that was not asked, or all of it at hand.
    """

    prompts: Sequence[Prompt]
    source: str
    focus: Box
    gflops: float


def locate(
    segmenter: Segmenter | StackSegmenter, locator: StackSegmenter | None, image: ImageStack, prompts: Sequence[Prompt], runner: BatchRunner
) -> Located:
    """Where ``segmenter`` looks, given ``prompts`` that locate the heart, or none.

    Args:
        locator: whose overview is asked where the heart is; None to look at the prompts, and without any at the whole image.

    Raises:
        ValueError: a prompt reaches beyond the image.
        CancelledError: ``runner`` was cancelled.
    """
    whole = Box.whole(image.volume.array.shape)
    if not prompts:
        found, gflops = locator.propose(image, runner) if locator else (None, 0.0)
        focus = found or whole
        proposed = () if segmenter is locator else (BoxPrompt(image.stored_box(focus)),)
        return Located(proposed, "proposed" if found else "whole_image", focus, gflops)
    drawn = Box.union(prompt.box for prompt in prompts)
    source, focus = prompts[0].name, drawn.rearrange(*image.order)
    if Box.union((focus, whole)) != whole:
        raise ValueError(f"The prompts span {list(drawn.bounds)}, but the image has {image.stored.array.shape} voxels: draw inside it.")
    if locator is None or not isinstance(segmenter, Segmenter):
        return Located(prompts, source, focus, 0.0)
    heart, gflops = locator.propose(image, runner)
    if heart and (beside := heart_beside(heart, focus)):
        return Located((BoxPrompt(image.stored_box(beside)),), source, beside, gflops)
    edges_mm = [size * mm for size, mm in zip(focus.size, image.volume.spacing[:2])]
    if heart and max(edges_mm) > segmenter.window_mm:  # it cannot see all of such a box at once: it looks where in the box the heart is
        focus = heart.intersection(focus) or focus
    return Located(prompts, source, focus, gflops)
