"""Layers of decoders without transposed convolutions, computed for the region that is asked for (see
:mod:`prato.runtime.region_decode`)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from prato.runtime.region import Region
from prato.runtime.region_decode import Part, Source


def convolved(layers: nn.Module, source: Source, rim: int) -> Source:
    """``layers``, which keep the resolution and look ``rim`` cells far, applied to ``source``."""

    def wanted(want: Region) -> Part:
        rimmed = want.dilate(rim)
        return Part(layers(source(rimmed).values), rimmed).cut(want)

    return wanted


def enlarged(source: Source, factor: int) -> Source:
    """``source`` (2D) at ``factor`` times the resolution, bilinear. Corners are not aligned: a pixel hangs on its nearest cells alone."""

    def wanted(want: Region) -> Part:
        coarse = want.downscale(factor).dilate(1)
        values = F.interpolate(source(coarse).values, scale_factor=factor, mode="bilinear", align_corners=False)
        return Part(values, coarse.upscale(factor)).cut(want)

    return wanted


def joined(*sources: Source) -> Source:
    """The channels of all ``sources``, one after the other."""
    return lambda want: Part(torch.cat([source(want).values for source in sources], dim=1), want)
