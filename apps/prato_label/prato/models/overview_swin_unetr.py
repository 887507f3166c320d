"""Swin UNETR that sees the whole stack at a glance, and computes in detail only where its overview finds the heart."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from prato.data.structures import NUM_CLASSES
from prato.models.overview import SliceAttention
from prato.models.overview_network import OVERVIEW_PLAN, Levels, OverviewNetwork
from prato.models.registry import register_model
from prato.models.swin_block import dense_swin_blocks
from prato.models.swin_unetr import PratoSwinUNETR


@register_model(
    "overview_swin_unetr",
    preset={
        "arguments": {
            **{"in_channels": 3, "out_channels": NUM_CLASSES, "norm_name": "batch", "spatial_dims": 2},
            **{"feature_size": 24, "window_size": 5, "num_heads": (1, 2, 4, 8)},
        },
        "centre": "stack",
        "plan": OVERVIEW_PLAN.to_dict(),
    },
)
class PratoOverviewSwinUNETR(OverviewNetwork, PratoSwinUNETR):
    """MONAI's Swin UNETR behind an overview: its third stage is told what the overview knows of its tokens, where the box lies, and what is
    at their place in other slices.

    Args:
        overview_dim, overview_depth: width of the overview's tokens, and its transformer blocks.
        args, kwargs: as for :class:`PratoSwinUNETR`, in 2D.
    """

    multiple = 32  # MONAI's network halves the sides five times

    def __init__(self, *args: Any, overview_dim: int = 96, overview_depth: int = 4, **kwargs: Any) -> None:
        super().__init__(*args, **{**kwargs, "stages": ()})
        width = 4 * self.swinViT.embed_dim
        self._add_overview(overview_dim, overview_depth, width)
        self.along = nn.ModuleList(SliceAttention(width, 4) for _ in range(2))

    def _encode_windows(self, parts: list[Tensor], hints: Tensor) -> list[Levels]:
        """The tokens after patch embedding and after each stage, for each of ``parts``, which together are B stacks of S slices.

        Only the third stage's attention along the stack needs all slices at once: its tokens are a hundredth of the decoder's features.
        """
        vit: Any = self.swinViT
        found: list[Levels] = []
        for slices in parts:
            x = vit.pos_drop(vit.patch_embed(slices)).movedim(1, -1)
            # on a CPU, norms of so few channels, and their gradients, take four times as long in bfloat16
            levels = [x.float() if x.device.type == "cpu" and x.requires_grad else x]
            for (layer,) in (vit.layers1, vit.layers2):
                levels.append(layer.downsample(dense_swin_blocks(layer, levels[-1])))
            found.append(levels)
        sizes, (layer,) = [len(slices) for slices in parts], vit.layers3
        x = torch.cat([levels[2] for levels in found])
        x = self._attend_along(0, x + hints.flatten(0, 1).to(x.dtype), hints.shape[:2])
        x = torch.cat([dense_swin_blocks(layer, tokens) for tokens in x.split(sizes)])
        x = self._attend_along(1, x, hints.shape[:2])
        for levels, tokens in zip(found, x.split(sizes)):
            levels.append(layer.downsample(tokens))
            (last,) = vit.layers4
            levels.append(last.downsample(dense_swin_blocks(last, levels[-1])))
        return found

    def _decode_tokens(self, slices: Tensor, levels: Levels) -> tuple[Tensor, list[Tensor]]:
        x, *deeper = [F.layer_norm(x, x.shape[-1:]).movedim(-1, 1) if self.normalize else x.movedim(-1, 1) for x in levels]
        decoded = self.decoder5(self.encoder10(deeper[3]), deeper[2])
        return self.decoder4(decoded, self.encoder4(deeper[1])), [deeper[0], x, slices]

    def _decode_pixels(self, x: Tensor, *finer: Tensor) -> Tensor:
        quarter, half, slices = finer
        x = self.decoder3(x, self.encoder3(quarter))
        x = self.decoder2(x, self.encoder2(half))
        return self.out(self.decoder1(x, self.encoder1(slices)))

    def _attend_along(self, number: int, x: Tensor, stacks: Sequence[int]) -> Tensor:
        mixed: Tensor = self.along[number](x.view(*stacks, -1, x.shape[-1]))
        return mixed.view_as(x)
