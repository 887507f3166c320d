"""Decodes a part of the image alone, with the very numbers that decoding the whole image would give there.

A convolution needs a rim round the part that it is to compute, and so does each one before it. Evaluated from the output back to the
coarsest features, every level of a U-shaped decoder computes just its own part and rim: the finest, where nearly all the work is, a rim of
a few pixels. What a norm makes of a pixel must not depend on the others: true of batch normalisation in evaluation mode, not of instance
normalisation.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from monai.networks.blocks import Convolution, UnetrBasicBlock, UnetResBlock, UnetrPrUpBlock, UnetrUpBlock
from torch import Tensor, nn

from prato.runtime.fused_conv_bn import conv_norm
from prato.runtime.region import Region

#: Logits where nothing was decoded, of background and of the structures: surely background.
_BACKGROUND, _STRUCTURE = 10.0, 0.0


@dataclass(frozen=True)
class RegionFeatures:
    """Features (B, C, *cells) of a region."""

    values: Tensor
    region: Region

    def crop(self, region: Region) -> RegionFeatures:
        """The part of it that lies in ``region``, which it holds."""
        inside = tuple(slice(a - mine, b - mine) for a, b, mine in zip(region.start, region.stop, self.region.start))
        return RegionFeatures(self.values[(slice(None), slice(None), *inside)], region)

    def to_logits(self) -> Tensor:
        """Its values as logits on the whole grid: surely background where nothing was decoded."""
        if self.region.is_whole:
            return self.values
        canvas = self.values.new_full((*self.values.shape[:2], *self.region.size), _STRUCTURE)
        canvas[:, 0].fill_(_BACKGROUND)
        canvas[(slice(None), slice(None), *self.region.slices)] = self.values
        return canvas


#: Features that are computed once it is known where they are needed.
LazyFeature = Callable[[Region], RegionFeatures]


def from_tensor(values: Tensor) -> LazyFeature:
    """Features (B, C, *grid) that are there already."""
    return RegionFeatures(values, Region.whole(tuple(values.shape[2:]))).crop


def concat(*features: LazyFeature) -> LazyFeature:
    """The channels of all ``features``, one after the other."""
    return lambda region: RegionFeatures(torch.cat([feature(region).values for feature in features], dim=1), region)


def apply_layers(layers: nn.Module, feature: LazyFeature, rim: int) -> LazyFeature:
    """``layers``, which keep the resolution and whose kernels together reach ``rim`` cells far, applied to ``feature``."""

    def compute(region: Region) -> RegionFeatures:
        rimmed = region.dilate(rim)
        return RegionFeatures(layers(feature(rimmed).values), rimmed).crop(region)

    return compute


def upsample(feature: LazyFeature, factor: int) -> LazyFeature:
    """``feature`` (2D) at ``factor`` times the resolution, bilinear; corners not aligned: a pixel depends on its nearest cells alone."""

    def compute(region: Region) -> RegionFeatures:
        coarse = region.downscale(factor).dilate(1)
        values = F.interpolate(feature(coarse).values, scale_factor=factor, mode="bilinear", align_corners=False)
        return RegionFeatures(values, coarse.upscale(factor)).crop(region)

    return compute


def basic_block(block: UnetrBasicBlock, feature: LazyFeature) -> LazyFeature:
    """MONAI's ``block`` applied to ``feature``."""
    return partial(_conv_block, block.layer, feature)


def up_block(block: UnetrUpBlock, below: LazyFeature, skip: LazyFeature) -> LazyFeature:
    """MONAI's ``block`` applied to the features ``below``, of half the resolution, and to ``skip``."""
    return partial(_conv_block, block.conv_block, concat(partial(_transposed_conv, block.transp_conv, below), skip))


def projection_up_block(block: UnetrPrUpBlock, feature: LazyFeature) -> LazyFeature:
    """MONAI's ``block`` applied to ``feature``: upsampled once, and once more by each of its layers."""
    result: LazyFeature = partial(_transposed_conv, block.transp_conv_init, feature)
    layer: Any
    for layer in block.blocks:
        if isinstance(layer, Convolution):
            result = partial(_transposed_conv, layer, result)
        else:
            result = partial(_conv_block, layer[1], partial(_transposed_conv, layer[0], result))
    return result


def _conv_block(block: Any, feature: LazyFeature, region: Region) -> RegionFeatures:
    """MONAI's residual or basic block on ``feature``, each convolution for no more than the next one looks at."""
    rimmed, inner = region.dilate(2), region.dilate(1)
    x = RegionFeatures(feature(rimmed).values, rimmed)
    y = block.lrelu(_conv3(block.conv1.conv, block.norm1, x, inner))
    y = _conv3(block.conv2.conv, block.norm2, RegionFeatures(y, inner), region)
    if isinstance(block, UnetResBlock):
        shortcut = x.crop(region).values
        y += conv_norm(block.conv3.conv, block.norm3, shortcut, [0] * len(region.size)) if block.downsample else shortcut
    return RegionFeatures(block.lrelu(y), region)


def _conv3(convolution: Any, norm: Any, source: RegionFeatures, region: Region) -> Tensor:
    """A normed convolution of 3 cells for ``region``: beyond the grid it sees zeros, everywhere else the rim that ``source`` has."""
    padding, reached = [], []
    for a, b, low, high in zip(source.region.start, source.region.stop, region.start, region.stop):
        padding.append(int(a == low or b == high))
        reached.append((a, b) if padding[-1] else (low, high))
    y = conv_norm(convolution, norm, source.values, padding)
    if not any(padding):
        return y
    start, stop = zip(*reached)
    return RegionFeatures(y, Region(start, stop, region.size)).crop(region).values


def _transposed_conv(convolution: Any, feature: LazyFeature, region: Region) -> RegionFeatures:
    coarse = region.downscale()
    return RegionFeatures(convolution(feature(coarse).values), coarse.upscale()).crop(region)
