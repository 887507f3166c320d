"""An image as networks look at it, and everything about it that depends on no prompt: computed once, however many are drawn on it."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Sequence

import numpy as np
import torch
from torch import Tensor

from prato.data.intensity import INTENSITY_WARNINGS, IntensityRange, find_stack_range, normalise
from prato.data.nifti import Volume
from prato.data.orientation import ORIENTATION_WARNINGS
from prato.data.resampling import resample_in_plane, resampled_size
from prato.data.stack import blank_slices
from prato.data.view import network_view
from prato.inference.scores import Scores
from prato.models.base import ImageEmbedding
from prato.prompts.batch import PixelGrid
from prato.prompts.box import Box
from prato.runtime.feature_cache import FeatureCache

#: What ``ImageStack.warnings`` may name, in the words of a log.
IMAGE_WARNINGS = {**ORIENTATION_WARNINGS, **INTENSITY_WARNINGS}
#: For an image by itself: what a network or two make of a short-axis stack.
_FEATURE_BYTES = 16 * 2**20


def _ignore() -> None:
    """Nothing; by a name, by which an image can be pickled."""


class ImageStack:
    """A volume as the stack of slices that networks look at.

    Args:
        stored: the volume on its own grid.
        features: a cache that images share, and ``key``, by which it tells this one; by default one of its own.
        on_growth: called after it has come to take more memory.

    Attributes:
        axis: of the stored volume, along which the slices lie.
        view: how networks look at the stored volume, see :func:`prato.data.view.network_view`.
        volume: seen so, with ``axis`` as its last. Slices may have other numbers there, see :meth:`renumber_slices`.
        blank: the slices of ``volume`` that show nothing, see :func:`prato.data.stack.blank_slices`.
        filled: the others; all of them where none shows anything.
    """

    def __init__(
        self, stored: Volume, features: FeatureCache | None = None, key: Hashable = None, on_growth: Callable[[], object] = _ignore
    ) -> None:
        self.stored = stored
        self.view = network_view(stored)
        self.axis = self.view.axes[2]
        self.volume = self.view.apply_to(stored)
        every = range(self.volume.array.shape[2])
        self.blank = blank_slices(self.volume.array)
        self.filled = [k for k in every if k not in self.blank] or [*every]
        self._features = FeatureCache(_FEATURE_BYTES) if features is None else features
        self._key, self._on_growth = key, on_growth
        self._range: IntensityRange | None = None
        self._slices: dict[float, Tensor] = {}

    @property
    def nbytes(self) -> int:
        """Memory that it takes now, without what is in the feature cache."""
        return self.stored.array.nbytes + sum(slices.nbytes for slices in list(self._slices.values()))  # others may add to them

    @property
    def intensity_range(self) -> IntensityRange:
        """The grey values that become -1 and 1."""
        if self._range is None:
            self._range = find_stack_range(self.volume.array, self.blank)
        return self._range

    @property
    def warnings(self) -> list[str]:
        """What was repaired or guessed of the image, whatever the prompt: names of ``IMAGE_WARNINGS``."""
        return [*self.stored.warnings, *self.intensity_range.warnings]

    def slices(self, pixel: float) -> Tensor:
        """float32 (Z, X', Y') in [-1, 1], at ``pixel`` mm in plane."""
        if pixel not in self._slices:
            shape, spacing = self.volume.array.shape, self.volume.spacing
            slices = torch.from_numpy(normalise(self.volume.array, self.intensity_range)).permute(2, 0, 1).contiguous()
            self._slices[pixel] = resample_in_plane(slices, resampled_size(shape, spacing, pixel))
            self._on_growth()
        return self._slices[pixel]

    def embedding(self, key: Hashable, planes: tuple[int, ...], encode: Callable[[], ImageEmbedding]) -> ImageEmbedding:
        """What a network made of the slices ``planes`` before it looked at a prompt; arguments as for :meth:`FeatureCache.get`."""
        return self._features.get((self._key, key), planes, encode)

    def scores(self, key: Hashable, compute: Callable[[], Scores]) -> Scores:
        """What a network thought of the image; ``key`` is all that it depends on besides. Kept as embeddings are."""
        return self._features.get((self._key, key), (), compute)

    def to_stack(self, array: np.ndarray) -> np.ndarray:
        """``array`` on the stored volume's grid, on that of ``volume``; a view."""
        return self.view.apply(array)

    def to_stored(self, array: np.ndarray) -> np.ndarray:
        """``array`` on the grid of ``volume``, on the stored volume's; a view unless an axis is reversed."""
        stored = self.view.restore(array)
        return stored.copy(order="K") if self.view.is_reversed else stored  # torch takes no reversed one

    def renumber_slices(self, numbers: Iterable[int]) -> list[int]:
        """What slices of the stored volume are in ``volume``, by their numbers; the same function leads back."""
        last = self.volume.array.shape[2] - 1
        return [k if self.view.steps[2] > 0 else last - k for k in numbers]

    @property
    def order(self) -> tuple[Sequence[int], Sequence[int], Sequence[int]]:
        """What :meth:`Box.rearrange` needs to take voxels of the stored volume to those of ``volume``."""
        return self.view.axes, self.view.steps, self.volume.array.shape

    def stored_box(self, box: Box) -> Box:
        """``box`` in voxels of ``volume``, in voxels of the stored volume."""
        axes = [self.view.axes.index(axis) for axis in range(3)]
        return box.rearrange(axes, [self.view.steps[axis] for axis in axes], self.stored.array.shape)

    def pixel_grid(self, pixels: Sequence[int], corner: Sequence[int]) -> PixelGrid:
        """Where the stored volume's voxels lie on a network's input.

        Args:
            pixels: of a whole slice of ``volume`` at the network's resolution. corner: the first of them that is in the input.
        """
        along = list(zip(self.view.steps, pixels, self.volume.array.shape, corner))
        scale = tuple(step * n / voxels for step, n, voxels, _ in along)
        first = tuple(at if step > 0 else at - n for step, n, _, at in along)  # a reversed axis begins with its last voxel
        return PixelGrid(self.view.axes[:2], scale, first)
