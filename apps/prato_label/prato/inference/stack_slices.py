"""The slices of an image as a network that looks at whole stacks is given them."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from prato.inference.image_stack import ImageStack

#: Sides of the network's input are multiples of so many pixels.
MULTIPLE = 16
#: Slices that are seen together at most. Short-axis stacks have fewer; attention along longer ones would take the square of their length.
LONGEST = 48


def input_size(image: ImageStack, pixel: float) -> tuple[int, ...]:
    """Sides, in pixels of ``pixel`` mm, of what a network is given of ``image``."""
    return tuple(n + -n % MULTIPLE for n in image.slices(pixel).shape[1:])


def padded_slices(image: ImageStack, pixel: float) -> Tensor:
    """float32 (Z, H, W): the slices of ``image`` at ``pixel`` mm, with rows and columns added up to :func:`input_size`."""
    slices, (height, width) = image.slices(pixel), input_size(image, pixel)
    return F.pad(slices, (0, width - slices.shape[2], 0, height - slices.shape[1]), value=-1.0)


def slices_between_neighbours(image: ImageStack, pixel: float, planes: Sequence[int]) -> Tensor:
    """float32 (K, 3, H, W): the slices ``planes`` of ``image``, each between its neighbours, a view of :func:`padded_slices`."""
    seen = seen_beside(image, planes)
    slices = padded_slices(image, pixel)[list(seen)]
    between = torch.cat([slices[:1], slices, slices[-1:]]).unfold(0, 3, 1).permute(0, 3, 1, 2)  # no copy of each neighbour
    rows = [seen.index(k) for k in planes]
    return between[rows[0] : rows[-1] + 1] if len(rows) == rows[-1] - rows[0] + 1 else between[rows]


def seen_beside(image: ImageStack, planes: Collection[int]) -> Sequence[int]:
    """The slices that a network sees beside ``planes``: those that show something, unless one of ``planes`` does not."""
    return image.filled if set(planes) <= set(image.filled) else range(image.volume.array.shape[2])


def split_stack(slices: Sequence[int]) -> list[Sequence[int]]:
    """``slices`` in pieces that are seen by themselves, about equally long: all of them but for very long stacks."""
    count = -(-len(slices) // LONGEST)
    return [slices[n * len(slices) // count : (n + 1) * len(slices) // count] for n in range(count)]
