"""An image as networks look at it, and everything about it that depends on no prompt: computed once, however many are drawn on it."""

from __future__ import annotations

from collections.abc import Callable, Hashable

import torch
from torch import Tensor

from prato.data.intensity import INTENSITY_WARNINGS, IntensityRange, find_stack_range, normalise
from prato.data.nifti import Volume
from prato.data.orientation import ORIENTATION_WARNINGS
from prato.data.resampling import resample_in_plane, resampled_size
from prato.data.stack import blank_slices, slice_axis, stack_axes, volume_to_stack
from prato.inference.scores import Scores
from prato.models.base import ImageEmbedding
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
        axes: of the stored volume, in the order in which ``volume`` has them.
        volume: with ``axis`` as its last.
        blank: the slices of ``volume`` that show nothing, see :func:`prato.data.stack.blank_slices`.
        filled: the others; all of them where none shows anything.
    """

    def __init__(
        self, stored: Volume, features: FeatureCache | None = None, key: Hashable = None, on_growth: Callable[[], object] = _ignore
    ) -> None:
        self.axis = slice_axis(stored.array.shape, stored.spacing)
        self.axes = stack_axes(self.axis)
        self.stored = stored
        self.volume = volume_to_stack(stored, self.axis)
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

    def stored_box(self, box: Box) -> Box:
        """``box`` in voxels of ``volume``, in voxels of the stored volume."""
        return box.permute([self.axes.index(axis) for axis in range(3)])
