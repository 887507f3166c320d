"""Layers of decoders without transposed convolutions, computed for the region that is asked for (see
:mod:`prato.runtime.region_decode`)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from prato.runtime.region_decode import Part, Region, Source


def convolved(layers: nn.Module, source: Source, rim: int) -> Source:
    """``layers``, which keep the resolution and look ``rim`` cells far, applied to ``source``."""

    def wanted(want: Region) -> Part:
        rimmed = want.grown(rim)
        return Part(layers(source(rimmed).values), rimmed).cut(want)

    return wanted


def enlarged(source: Source, factor: int) -> Source:
    """``source`` (2D) at ``factor`` times the resolution, bilinear. Corners are not aligned: a pixel hangs on its nearest cells alone."""

    def wanted(want: Region) -> Part:
        coarse = Region(
            tuple(a // factor for a in want.start), tuple(-(-b // factor) for b in want.stop), tuple(n // factor for n in want.size)
        ).grown(1)
        fine = Region(*(tuple(factor * n for n in bounds) for bounds in (coarse.start, coarse.stop, coarse.size)))
        values = F.interpolate(source(coarse).values, scale_factor=factor, mode="bilinear", align_corners=False)
        return Part(values, fine).cut(want)

    return wanted


def joined(*sources: Source) -> Source:
    """The channels of all ``sources``, one after the other."""
    return lambda want: Part(torch.cat([source(want).values for source in sources], dim=1), want)
