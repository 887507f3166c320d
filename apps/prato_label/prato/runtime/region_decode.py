"""Decoding a part of the image alone, with the very numbers that decoding all of it would give there.

A convolution needs a rim round what it is asked for, and so does each one before it. Asked from the output back to the coarsest features,
every level of a U-shaped decoder computes just its own part and rim: the finest, where nearly all the work is, a rim of a few pixels. What
a norm says of a pixel must not hang on the others: true of batch normalisation in evaluation mode, not of instance normalisation.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from monai.networks.blocks import Convolution, UnetrBasicBlock, UnetResBlock, UnetrPrUpBlock, UnetrUpBlock
from torch import Tensor

from prato.runtime.fused_conv_bn import convolved
from prato.runtime.region import Region

#: Logits where nothing was decoded, of background and of the structures: surely background.
_BACKGROUND, _STRUCTURE = 10.0, 0.0


@dataclass(frozen=True)
class Part:
    """Features (B, C, *cells) of a region."""

    values: Tensor
    region: Region

    def cut(self, region: Region) -> Part:
        """The part of it that lies in ``region``, which it holds."""
        inside = tuple(slice(a - mine, b - mine) for a, b, mine in zip(region.start, region.stop, self.region.start))
        return Part(self.values[(slice(None), slice(None), *inside)], region)

    def spread(self) -> Tensor:
        """Logits on the whole grid: surely background where nothing was decoded."""
        if self.region == Region.whole(self.region.size):
            return self.values
        canvas = self.values.new_full((*self.values.shape[:2], *self.region.size), _STRUCTURE)
        canvas[:, 0].fill_(_BACKGROUND)
        canvas[(slice(None), slice(None), *self.region.slices)] = self.values
        return canvas


#: Features that are computed once it is known where they are wanted.
Source = Callable[[Region], Part]


def given(values: Tensor) -> Source:
    """Features (B, C, *grid) that are there already."""
    return Part(values, Region.whole(tuple(values.shape[2:]))).cut


def basic(block: UnetrBasicBlock, source: Source) -> Source:
    """``block`` applied to ``source``."""
    return lambda want: _convolved(block.layer, source, want)


def up(block: UnetrUpBlock, below: Source, skip: Source) -> Source:
    """``block`` applied to the features ``below``, of half the resolution, and to ``skip``."""

    def joined(want: Region) -> Part:
        return Part(torch.cat((_upsampled(block.transp_conv, below, want).values, skip(want).values), dim=1), want)

    return lambda want: _convolved(block.conv_block, joined, want)


def projected_up(block: UnetrPrUpBlock, source: Source) -> Source:
    """``block`` applied to ``source``: upsampled once, and once more by each of its layers."""

    def first(want: Region) -> Part:
        return _upsampled(block.transp_conv_init, source, want)

    features: Source = first
    for layer in block.blocks:
        features = _layer(layer, features)
    return features


def _layer(layer: Any, source: Source) -> Source:
    if isinstance(layer, Convolution):
        return lambda want: _upsampled(layer, source, want)
    return lambda want: _convolved(layer[1], lambda rimmed: _upsampled(layer[0], source, rimmed), want)


def _convolved(block: Any, source: Source, want: Region) -> Part:
    """MONAI's residual or basic block on its source, each convolution for no more than the next one looks at."""
    rimmed, inner = want.dilate(2), want.dilate(1)
    x = Part(source(rimmed).values, rimmed)
    y = block.lrelu(_narrowed(block.conv1.conv, block.norm1, x, inner))
    y = _narrowed(block.conv2.conv, block.norm2, Part(y, inner), want)
    if isinstance(block, UnetResBlock):
        kept = x.cut(want).values
        y += convolved(block.conv3.conv, block.norm3, kept, [0] * len(want.size)) if block.downsample else kept
    return Part(block.lrelu(y), want)


def _narrowed(convolution: Any, norm: Any, source: Part, want: Region) -> Tensor:
    """A normed convolution of 3 cells for ``want``: beyond the grid it sees zeros, everywhere else the rim that ``source`` has."""
    padding, reached = [], []
    for a, b, low, high in zip(source.region.start, source.region.stop, want.start, want.stop):
        padding.append(int(a == low or b == high))
        reached.append((a, b) if padding[-1] else (low, high))
    y = convolved(convolution, norm, source.values, padding)
    if not any(padding):
        return y
    start, stop = zip(*reached)
    return Part(y, Region(start, stop, want.size)).cut(want).values


def _upsampled(convolution: Any, source: Source, want: Region) -> Part:
    coarse = want.downscale()
    return Part(convolution(source(coarse).values), coarse.upscale()).cut(want)
