"""A network that predicts on a GPU: calls of shapes that come back are captured, in half precision."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import torch
from torch import Tensor

from prato.models.base import Begun, Encoded
from prato.models.swin_unetr import PratoSwinUNETR
from prato.models.unetr import PratoUNETR
from prato.prompts.batch import PromptBatch
from prato.pruning.plan import PrunedOutput, PruningPlan, StageRecord
from prato.pruning.prompted_pruning import PromptedPruning
from prato.runtime.cuda_graphs import Graphs
from prato.runtime.flops import noted
from prato.runtime.region import Region
from prato.runtime.region_decode import Part
from prato.runtime.static_shapes import FixedPruning, fits

_T = TypeVar("_T")
#: Captured calls of a network: a few numbers of slices, sizes of windows and regions, with and without pruning.
_MOST = 48
#: Decoded regions end at multiples of so many pixels, so that they come back.
_STEP = 16


class CapturedNetwork:
    """``network``, in evaluation mode, as its ``segment``, ``begin`` and ``finish`` answer; the same numbers but for rounding.

    Prompts of one box for each sample are computed in shapes known beforehand (see ``prato.runtime.static_shapes``) and captured. All
    others, and
    calls that somebody listens to with a hook on a relevance module, are computed as the network itself does it.

    Args:
        dtype: of convolutions and products, float16 or bfloat16; float32 for no autocast.
    """

    def __init__(self, network: Any, dtype: torch.dtype = torch.float16) -> None:
        self.network, self.dtype = network, dtype
        self._graphs = Graphs(_MOST)

    @torch.inference_mode()
    def segment(self, image: Tensor, prompts: PromptBatch | None, plan: PruningPlan | None) -> PrunedOutput:
        """As the network's own."""
        if not self._able():
            return self._lowered(self.network.segment, image)(image, prompts, plan)
        if plan is None or prompts is None or prompts.is_empty:
            whole = _even(image)
            logits, flop = self._captured("dense", lambda x: self.network.segment(x, None, None).logits, (whole,))
            return PrunedOutput(noted(logits[: len(image)].clone(), flop))
        if plan.mode != "drop":
            return self._lowered(self.network.segment, image)(image, prompts, plan)
        return self.finish(image, self.begin(image, plan), prompts, plan)

    @torch.inference_mode()
    def begin(self, image: Tensor, plan: PruningPlan) -> Begun:
        """As the network's own."""
        made, flop = self._captured(("begin", plan), lambda x: self.network.begin(x, plan), (_even(image),))
        own: dict[int, Tensor] = {}
        for values in (made.tokens, *made.hidden.values()):  # some are the same
            own.setdefault(values.data_ptr(), values[: len(image)].clone())
        tokens = noted(own[made.tokens.data_ptr()], flop)
        return Begun(tokens, made.blocks, {number: own[values.data_ptr()] for number, values in made.hidden.items()})

    @torch.inference_mode()
    def finish(self, image: Tensor, begun: Begun, prompts: PromptBatch, plan: PruningPlan) -> PrunedOutput:
        """As the network's own, of ``prompts`` on the CPU."""
        if not self._able() or not fits(plan, prompts):
            return self._lowered(self.network.finish, image)(image, begun, prompts, plan)
        count, size = len(image), tuple(image.shape[2:])
        kind, coordinates = prompts.groups[0].kind, _even(prompts.groups[0].coordinates)
        image, asked = _even(image), PromptBatch.one_each(kind, coordinates, size)
        shapes, numbers = self.network.shapes(plan, asked, size), tuple(begun.hidden)

        def encode(coordinates: Tensor, tokens: Tensor, *hidden: Tensor) -> Encoded:
            placed = PromptBatch.one_each(kind, coordinates, size)
            pruning = FixedPruning(self.network.relevance, plan, placed, size, shapes=shapes)
            encoded: Encoded = self.network.encode(Begun(tokens, begun.blocks, dict(zip(numbers, hidden))), pruning)
            return encoded

        inputs = (coordinates.to(image.device), _even(begun.tokens), *map(_even, begun.hidden.values()))
        encoded, first = self._captured(("encode", plan, kind, size, shapes, begun.blocks), encode, inputs)
        stages = tuple(StageRecord(s.name, s.grid, s.relevance[:count].clone(), s.alive[:count].clone()) for s in encoded.stages)
        # which part is decoded hangs on what was kept: here the device is asked, once
        where = PromptedPruning(self.network.relevance, plan, asked, size, list(encoded.stages)).decoded(False)
        near, kept = where.align((_STEP,) * len(size)), tuple(encoded.features)

        def decode(image: Tensor, *features: Tensor) -> Tensor:
            logits: Tensor = self.network.decode(image, Encoded(dict(zip(kept, features)), ()), near)
            return logits

        logits, second = self._captured(("decode", near, kept), decode, (image, *encoded.features.values()))
        part = Part(logits[:count], Region.whole(size)).cut(where)
        return PrunedOutput(noted(part.spread().clone(), first + second), stages)

    def _able(self) -> bool:
        known = isinstance(self.network, PratoUNETR | PratoSwinUNETR)
        return known and not any(module._forward_hooks for module in self.network.relevance.values())

    def _captured(self, key: object, call: Callable[..., _T], inputs: tuple[Tensor, ...]) -> tuple[_T, int]:
        return self._graphs(key, self._lowered(call, inputs[0]), inputs)

    def _lowered(self, call: Callable[..., _T], like: Tensor) -> Callable[..., _T]:
        """``call`` under an autocast of its own: weights that one outside had cast would be gone when a graph is replayed."""

        def lowered(*args: Any) -> _T:
            with torch.autocast(like.device.type, dtype=self.dtype, enabled=like.is_cuda and self.dtype != torch.float32):
                return call(*args)

        return lowered


def _even(values: Tensor) -> Tensor:
    """Numbers of slices above one made even with the last slice once more: half as many shapes are half as many graphs."""
    return torch.cat((values, values[-1:])) if len(values) > 1 and len(values) % 2 else values
