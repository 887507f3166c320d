"""U-Net that sees the whole stack at a glance, and computes in detail only where its overview finds the heart."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from monai.networks.nets import DynUNet
from torch import Tensor, nn

from prato.data.structures import NUM_CLASSES
from prato.models.overview import TOKEN, SliceAttention
from prato.models.overview_network import OVERVIEW_PLAN, Levels, OverviewNetwork
from prato.models.registry import register_model

#: Level whose features are of the overview's size.
_TOLD = TOKEN.bit_length() - 1
#: Parts of a stack (``slices_at_once``) whose features of all levels are held until they are decoded: all of an ordinary one's. Longer ones
#: take some percent more operations without pruning, and no more memory.
_KEPT_PARTS = 6


@register_model(
    "overview_unet",
    preset={
        "arguments": {"in_channels": 3, "out_channels": NUM_CLASSES, "filters": (24, 48, 96, 192, 256)},
        "centre": "stack",
        "plan": OVERVIEW_PLAN.to_dict(),
    },
)
class PratoOverviewUNet(OverviewNetwork, DynUNet):
    """MONAI's U-Net (DynUNet, 2D, batch normalisation) behind an overview: a hybrid in which the transformer sees whole slices, and the
    convolutions only what its relevance keeps.

    Features of 8 pixels are told what the overview knows of them and where the box lies; they, and the last level, attend to the same
    place in other slices. Loads the state dict of a DynUNet of the same shape.

    Args:
        filters: channels by level, the first at full resolution; five of them, so that the last has features of 16 pixels.
        overview_dim, overview_depth: width of the overview's tokens, and its transformer blocks.
    """

    multiple = 16  # the last level's features

    def __init__(
        self,
        in_channels: int = 3,
        out_channels: int = NUM_CLASSES,
        filters: Sequence[int] = (24, 48, 96, 192, 256),
        overview_dim: int = 96,
        overview_depth: int = 4,
    ) -> None:
        strides = [1] + [2] * (len(filters) - 1)
        super().__init__(2, in_channels, out_channels, [3] * len(filters), strides, strides[1:], filters=list(filters), norm_name="batch")
        del self.skip_layers  # the same blocks once more, for TorchScript
        self.relevance = nn.ModuleDict()
        self._add_overview(overview_dim, overview_depth, filters[_TOLD])
        self.along = nn.ModuleList(SliceAttention(width, 4) for width in filters[_TOLD:])

    def _encode_windows(self, parts: list[Tensor], hints: Tensor) -> list[Levels]:
        """The features after each level, for each of ``parts``; of those beyond the first few, the deep ones alone: the others are twenty
        times as large, and computed again where they are decoded.
        """
        found: list[Levels] = []
        deep, sizes = [], [len(slices) for slices in parts]
        for number, slices in enumerate(parts):
            *shallow, features = self._encode_shallow(slices)
            found.append(shallow if number < _KEPT_PARTS else [])
            deep.append(features)
        x = torch.cat(deep)
        x = x + hints.flatten(0, 1).permute(0, 3, 1, 2).to(x.dtype)
        for number, block in enumerate([None, *self._blocks[_TOLD + 1 :]]):
            if block is not None:
                x = torch.cat([block(features) for features in x.split(sizes)])
            x = self._attend_along(number, x, hints.shape[:2])
            for levels, features in zip(found, x.split(sizes)):
                levels.append(features)
        return found

    def _decode_tokens(self, slices: Tensor, levels: Levels) -> tuple[Tensor, list[Tensor]]:
        count = len(self._blocks)
        x, *skips = reversed(levels if len(levels) == count else [*self._encode_shallow(slices)[:-1], *levels])
        for block in self.upsamples[:-_TOLD]:
            x = block(x, skips.pop(0))
        return x, skips

    def _decode_pixels(self, x: Tensor, *finer: Tensor) -> Tensor:
        for block, skip in zip(self.upsamples[-_TOLD:], finer):
            x = block(x, skip)
        return self.output_block(x)

    @property
    def _blocks(self) -> list[Any]:
        """The blocks of the encoder, by level."""
        return [self.input_block, *self.downsamples, self.bottleneck]

    def _encode_shallow(self, slices: Tensor) -> Levels:
        """The features after each level, as far as slices know nothing of each other."""
        levels = [slices]
        for block in self._blocks[: _TOLD + 1]:
            levels.append(block(levels[-1]))
        return levels[1:]

    def _attend_along(self, number: int, x: Tensor, stacks: Sequence[int]) -> Tensor:
        tokens = x.permute(0, 2, 3, 1)
        mixed: Tensor = self.along[number](tokens.reshape(*stacks, -1, x.shape[1]))
        return mixed.view(tokens.shape).permute(0, 3, 1, 2).to(x.dtype)
