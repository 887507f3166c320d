"""The slices of an image as a network that looks at whole stacks is given them."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import NamedTuple

import torch.nn.functional as F
from torch import Tensor

from prato.data.resampling import between_neighbours
from prato.inference.image_stack import ImageStack
from prato.runtime.region import Region
from prato.runtime.region_decode import RegionFeatures

#: Sides of the network's input are multiples of so many pixels.
MULTIPLE = 16
#: Field of view, in mm along both sides, that an image is widened to by its own mirror image.
FIELD = 200.0
#: Slices that are seen together at most. Short-axis stacks have fewer; attention along longer ones would take the square of their length.
LONGEST = 48


class Frame(NamedTuple):
    """Where an image lies in what a network that looks at whole slices is given of it, in pixels of the network's resolution.

    Attributes:
        mirrored: rows and columns of the input before the image, and as many behind it, that are its mirror image.
        pixels: rows and columns of the image.
        size: of the input, which may have some more at its ends.
    """

    mirrored: tuple[int, int]
    pixels: tuple[int, int]
    size: tuple[int, int]

    @property
    def corner(self) -> tuple[int, int]:
        """The first pixel of the input in the image, as of a window."""
        return -self.mirrored[0], -self.mirrored[1]

    @property
    def inside(self) -> Region:
        """The image's place in the input."""
        stop = tuple(a + n for a, n in zip(self.mirrored, self.pixels))
        return Region(self.mirrored, stop, self.size)

    def to_image(self, maps: RegionFeatures) -> RegionFeatures:
        """``maps`` (K, C, *cells) of a region of the input as those of a region of the image, which has no cells if they lie beside it."""
        if not any(self.mirrored):
            return maps
        inside = self.inside
        start, stop = (
            tuple(min(max(a, n), b) for a, n, b in zip(inside.start, bounds, inside.stop))
            for bounds in (maps.region.start, maps.region.stop)
        )
        seen = maps.crop(Region(start, stop, self.size))
        return RegionFeatures(seen.values, seen.region.relative_to(inside))


def frame(image: ImageStack, pixel: float) -> Frame:
    """Where ``image`` lies in what a network is given of it, with pixels of ``pixel`` mm: in the middle of :data:`FIELD` mm at least.

    Networks know a heart by what lies round it, of which an image that is cropped to the heart shows nothing; its mirror image will do.
    """
    height, width = image.slices(pixel).shape[1:]
    rows, columns = (max(0, min((round(FIELD / pixel) - n) // 2, n - 1)) for n in (height, width))
    size = [n + -n % MULTIPLE for n in (height + 2 * rows, width + 2 * columns)]
    return Frame((rows, columns), (height, width), (size[0], size[1]))


def padded_slices(image: ImageStack, pixel: float) -> Tensor:
    """float32 (Z, H, W): the slices of ``image`` at ``pixel`` mm in their :func:`frame`, with the darkest value at its ends."""
    slices, ((rows, columns), _, (height, width)) = image.slices(pixel), frame(image, pixel)
    if rows or columns:
        slices = F.pad(slices, (columns, columns, rows, rows), mode="reflect")
    return F.pad(slices, (0, width - slices.shape[2], 0, height - slices.shape[1]), value=-1.0)


def slices_between_neighbours(image: ImageStack, pixel: float, planes: Sequence[int]) -> Tensor:
    """float32 (K, 3, H, W): the slices ``planes`` of ``image``, each between its neighbours, a view of :func:`padded_slices`."""
    seen = seen_beside(image, planes)
    slices = padded_slices(image, pixel)[list(seen)]
    between = between_neighbours(slices)
    rows = [seen.index(k) for k in planes]
    return between[rows[0] : rows[-1] + 1] if len(rows) == rows[-1] - rows[0] + 1 else between[rows]


def seen_beside(image: ImageStack, planes: Collection[int]) -> Sequence[int]:
    """The slices that a network sees beside ``planes``: those that show something, unless one of ``planes`` does not."""
    return image.filled if set(planes) <= set(image.filled) else range(image.volume.array.shape[2])


def split_stack(slices: Sequence[int]) -> list[Sequence[int]]:
    """``slices`` in pieces that are seen by themselves, about equally long: all of them but for very long stacks."""
    count = -(-len(slices) // LONGEST)
    return [slices[n * len(slices) // count : (n + 1) * len(slices) // count] for n in range(count)]
