"""UNETR whose transformer drops the tokens that the prompted box makes irrelevant."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from monai.networks.nets import UNETR
from torch import Tensor

from prato.data.structures import NUM_CLASSES
from prato.models.base import EncoderOutput, ImageEmbedding, PrunableNetwork, monai_norm
from prato.models.registry import WINDOW, register_model
from prato.models.vit_encoder import embed_blocks, embed_patches, encode_blocks
from prato.prompts.batch import PromptBatch
from prato.pruning.plan import PruningPlan
from prato.pruning.prompted_pruning import PromptedPruning
from prato.pruning.relevance import relevance_by_stage
from prato.pruning.static_shapes import token_counts
from prato.runtime.region import Region
from prato.runtime.region_decode import LazyFeature, RegionFeatures, basic_block, from_tensor, projection_up_block, up_block

#: After the blocks whose outputs are UNETR's skip connections, so that every skip is whole.
DEFAULT_PLAN = PruningPlan(prune_after=(4, 7, 10), percentile=25.0)
_SKIPS = (4, 7, 10)
#: Stands for the output of the last block, normed.
LAST = 0


@register_model(
    "unetr",
    # batch normalisation: unlike instance normalisation, a pixel does not depend on what lies far from it
    preset={
        "arguments": {
            **{"in_channels": 3, "out_channels": NUM_CLASSES, "norm_name": "batch", "spatial_dims": 2},
            **{"img_size": WINDOW, "feature_size": 16, "hidden_size": 192, "mlp_dim": 768, "num_heads": 6},
        },
        "plan": replace(DEFAULT_PLAN, decode="kept").to_dict(),
    },
)
class PratoUNETR(PrunableNetwork, UNETR):
    """MONAI's UNETR (2D or 3D) with prompt-driven token pruning.

    Takes UNETR's own arguments; loads its state dict strictly (the relevance projections, which it lacks, keep their initial values).
    Without a plan, or without a prompt in the whole batch, a call on an image of ``img_size`` is MONAI's own forward. A smaller image, its
    sides multiples of the patch size, takes the middle of the position embedding.

    Args:
        stages: blocks, counted from 1, after which a plan may prune (each owns relevance projections).
    """

    def __init__(self, *args: Any, stages: tuple[int, ...] = DEFAULT_PLAN.prune_after, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        dims = len(self.patch_size)
        self.img_size: tuple[int, ...] = tuple(f * p for f, p in zip(self.feat_size, self.patch_size))
        self.relevance = relevance_by_stage(stages, [self.hidden_size] * len(self.vit.blocks), dims)

    @classmethod
    def decoder_norm(cls, arguments: Mapping[str, Any]) -> str:
        return monai_norm(arguments)

    def forward_dense(self, image: Tensor) -> Tensor:
        if tuple(image.shape[2:]) == self.img_size:
            return UNETR.forward(self, image)
        x, _ = self._embed(image)
        hidden: dict[int, Tensor] = {}
        for number, block in enumerate(self.vit.blocks, start=1):
            x = hidden[number] = block(x)
        return self.decode(image, EncoderOutput({**hidden, LAST: self.vit.norm(x)}), Region.whole(tuple(image.shape[2:])))

    def encode_image(self, image: Tensor, plan: PruningPlan | None) -> ImageEmbedding:
        """The patches and, where tokens are dropped, the blocks before the first of them leave."""
        if plan is None:
            return ImageEmbedding()
        tokens, _ = self._embed(image)
        if self.training or plan.mode == "mask":
            return ImageEmbedding(0, {0: tokens})
        return embed_blocks(self.vit.blocks, tokens, plan, _SKIPS)

    def encode(self, image: Tensor, embedding: ImageEmbedding, pruning: PromptedPruning) -> EncoderOutput:
        hidden, last = encode_blocks(self.vit.blocks, embedding, self._grid(pruning.image_size), pruning, _SKIPS)
        return EncoderOutput({**hidden, LAST: self.vit.norm(last)}, tuple(pruning.stages))

    def static_shapes(self, plan: PruningPlan, prompts: PromptBatch, image_size: tuple[int, ...]) -> tuple[tuple[int, bool], ...]:
        """How many tokens the blocks run on, before and after each pruning stage."""
        return token_counts(plan, prompts, self._grid(image_size))

    def decode(self, image: Tensor, encoded: EncoderOutput, region: Region) -> Tensor:
        grid = self._grid(tuple(image.shape[2:]))

        def tokens(number: int) -> LazyFeature:  # MONAI's own proj_feat knows the whole grid alone
            return from_tensor(encoded.features[number].unflatten(1, grid).movedim(-1, 1).contiguous())

        x = up_block(self.decoder5, tokens(LAST), projection_up_block(self.encoder4, tokens(10)))
        x = up_block(self.decoder4, x, projection_up_block(self.encoder3, tokens(7)))
        x = up_block(self.decoder3, x, projection_up_block(self.encoder2, tokens(4)))
        x = up_block(self.decoder2, x, basic_block(self.encoder1, from_tensor(image)))
        return RegionFeatures(self.out(x(region).values), region).to_logits()

    def _grid(self, image_size: tuple[int, ...]) -> tuple[int, ...]:
        return tuple(s // p for s, p in zip(image_size, self.patch_size))

    def _embed(self, x_in: Tensor) -> tuple[Tensor, tuple[int, ...]]:
        """Tokens (B, Z, C) with their positions, and the grid that they lie on."""
        size = tuple(x_in.shape[2:])
        if any(s % p or s > most for s, p, most in zip(size, self.patch_size, self.img_size)):
            raise ValueError(f"The image must have sides that are multiples of {self.patch_size} and at most {self.img_size}, not {size}.")
        grid = self._grid(size)
        return embed_patches(self.vit.patch_embedding, x_in, self.feat_size, grid), grid
