"""TransUNet, and TransUNet whose transformer drops the tokens that the prompted box makes irrelevant (2D)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from monai.networks.nets import ViT
from torch import Tensor, nn

from prato.models.base import EncoderOutput, ImageEmbedding, PrunableNetwork
from prato.models.hybrid_resnet import HybridResNet
from prato.models.registry import register_model
from prato.models.vit_encoder import embed_patches, encode_blocks
from prato.pruning.plan import PruningPlan
from prato.pruning.prompted_pruning import PromptedPruning
from prato.pruning.relevance import relevance_by_stage
from prato.runtime.region import Region
from prato.runtime.region_decode import LazyFeature, apply_layers, concat, from_tensor, upsample

#: No skip connection leaves the transformer, so nothing speaks for pruning later.
DEFAULT_PLAN = PruningPlan(prune_after=(3, 6, 9), percentile=25.0)
_PATCH = 16


def _convolutions(source: int, channels: int, count: int) -> nn.Sequential:
    """3 x 3 convolutions with batch norm and ReLU."""
    layers: list[nn.Module] = []
    for n in range(count):
        convolution = nn.Conv2d(source if n == 0 else channels, channels, 3, padding=1, bias=False)
        nn.init.kaiming_normal_(convolution.weight, nonlinearity="relu")
        layers += [convolution, nn.BatchNorm2d(channels), nn.ReLU()]
    return nn.Sequential(*layers)


class TransUNet(nn.Module):
    """R50 + ViT with a cascaded upsampler.

    Source: Chen et al., "TransUNet: Transformers Make Strong Encoders for Medical Image Segmentation", 2021. There, upsampling aligns
    corners; here it does not, so that a part of the image can be decoded by itself.

    Args:
        in_channels: of the image. out_channels: classes. img_size: side of the largest image, a multiple of 16.
        hidden_size, mlp_dim, num_heads, num_layers, dropout_rate: of the transformer.
        width, units: of :class:`HybridResNet`. decoder: channels of the upsampler, which doubles the resolution four times.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        img_size: int = 224,
        hidden_size: int = 768,
        mlp_dim: int = 3072,
        num_heads: int = 12,
        num_layers: int = 12,
        dropout_rate: float = 0.1,
        width: int = 64,
        units: Sequence[int] = (3, 4, 9),
        decoder: Sequence[int] = (256, 128, 64, 16),
    ) -> None:
        super().__init__()
        self.hidden_size = hidden_size
        self.img_size, self.feat_size = (img_size, img_size), (img_size // _PATCH, img_size // _PATCH)
        self.resnet = HybridResNet(in_channels, width, units)
        self.vit = ViT(
            in_channels=self.resnet.widths[-1],
            img_size=self.feat_size,
            patch_size=1,
            hidden_size=hidden_size,
            mlp_dim=mlp_dim,
            num_layers=num_layers,
            num_heads=num_heads,
            proj_type="conv",
            dropout_rate=dropout_rate,
            spatial_dims=2,
            qkv_bias=True,
        )
        block: Any
        for block in self.vit.blocks:  # MONAI's blocks own a cross-attention that only its decoders use
            del block.cross_attn, block.norm_cross_attn
        self.bridge = _convolutions(hidden_size, 8 * width, 1)
        skips = (*reversed(self.resnet.widths[:-1]), 0)
        below = (8 * width, *decoder[:-1])
        self.up = nn.ModuleList(_convolutions(a + b, c, 2) for a, b, c in zip(below, skips, decoder))
        self.out = nn.Conv2d(decoder[-1], out_channels, 3, padding=1)

    def forward(self, x_in: Tensor) -> Tensor:
        """Logits (B, classes, H, W) of ``x_in`` (B, channels, H, W), H and W multiples of 16 and at most ``img_size``.

        A smaller image takes the middle of the position embedding.
        """
        levels, tokens, grid = self._embed(x_in)
        for block in self.vit.blocks:
            tokens = block(tokens)
        return self._decode(levels, self.vit.norm(tokens), grid, Region.whole(tuple(x_in.shape[2:])))

    def _embed(self, x_in: Tensor) -> tuple[list[Tensor], Tensor, tuple[int, ...]]:
        """Skip features, the finest first, tokens (B, Z, C) with their positions, and the grid that they lie on."""
        size = tuple(x_in.shape[2:])
        if any(s % _PATCH or s > most for s, most in zip(size, self.img_size)):
            raise ValueError(f"The image must have sides that are multiples of {_PATCH} and at most {self.img_size}, not {size}.")
        *levels, deepest = self.resnet(x_in)
        grid = tuple(s // _PATCH for s in size)
        return levels, embed_patches(self.vit.patch_embedding, deepest, self.feat_size, grid), grid

    def _decode(self, levels: list[Tensor], last: Tensor, grid: tuple[int, ...], region: Region) -> Tensor:
        x: LazyFeature = apply_layers(self.bridge, from_tensor(last.unflatten(1, grid).movedim(-1, 1)), rim=1)
        for layers, skip in zip(self.up, (*reversed(levels), None)):
            x = upsample(x, 2)
            x = apply_layers(layers, x if skip is None else concat(x, from_tensor(skip)), rim=2)
        return apply_layers(self.out, x, rim=1)(region).to_logits()


@register_model("transunet")
class PratoTransUNet(PrunableNetwork, TransUNet):
    """TransUNet with prompt-driven token pruning after its transformer's blocks.

    Takes TransUNet's arguments and loads its state dict strictly (the relevance projections, which it lacks, keep their initial values).
    Without a plan, or without a prompt in the whole batch, a call is TransUNet's own.

    Args:
        stages: blocks, counted from 1, after which a plan may prune (each owns relevance projections).
    """

    def __init__(self, *args: Any, stages: tuple[int, ...] = DEFAULT_PLAN.prune_after, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.relevance = relevance_by_stage(stages, [self.hidden_size] * len(self.vit.blocks), 2)

    def forward_dense(self, image: Tensor) -> Tensor:
        return TransUNet.forward(self, image)

    def encode(self, image: Tensor, embedding: ImageEmbedding, pruning: PromptedPruning) -> EncoderOutput:
        levels, tokens, grid = self._embed(image)
        _, last = encode_blocks(self.vit.blocks, ImageEmbedding(0, {0: tokens}), grid, pruning)
        return EncoderOutput({**dict(enumerate(levels)), len(levels): self.vit.norm(last)}, tuple(pruning.stages))

    def decode(self, image: Tensor, encoded: EncoderOutput, region: Region) -> Tensor:
        *levels, last = (encoded.features[number] for number in sorted(encoded.features))
        return self._decode(levels, last, tuple(s // _PATCH for s in image.shape[2:]), region)
