"""An image, and what of it hangs on no box: computed once, however many boxes are drawn on it."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable
from threading import Lock

import torch
from torch import Tensor

from prato.data.nifti import Volume
from prato.data.stack import slice_axis, volume_to_stack
from prato.inference.locator import Locator
from prato.inference.window import normalised, resample_in_plane, resampled_size
from prato.models.base import Begun
from prato.prompts.box import Box
from prato.runtime.batch_runner import Calls

#: Bytes that what networks began may take, for each image: a short-axis stack in one or two windows.
_MOST = 16 * 2**20


class ImageStack:
    """A volume as the stack of slices that networks look at.

    Attributes:
        axis: of the stored volume, along which the slices lie.
        volume: with that axis as its last.
    """

    def __init__(self, stored: Volume) -> None:
        self.axis = slice_axis(stored.spacing)
        self.stored = stored
        self.volume = volume_to_stack(stored, self.axis)
        self._slices: dict[float, Tensor] = {}
        self._proposed: dict[str, Box | None] = {}
        self._lock = Lock()
        self._begun: OrderedDict[tuple[Hashable, tuple[int, ...]], Begun] = OrderedDict()

    @property
    def nbytes(self) -> int:
        """Memory that it takes now."""
        with self._lock:
            begun = self._begun_bytes()
        return self.stored.array.nbytes + begun + sum(slices.nbytes for slices in list(self._slices.values()))  # others may add to them

    def begun(self, window: Hashable, planes: tuple[int, ...], begin: Callable[[], Begun]) -> Begun:
        """What a network made of the image before it looked at a box.

        Args:
            window: all that it hangs on but the slices ``planes``, the model's version too. begin: makes it, where it is not at hand.
        """
        key = window, planes
        with self._lock:
            if key in self._begun:
                self._begun.move_to_end(key)
                return self._begun[key]
        made = begin()
        with self._lock:
            self._begun[key] = made
            for old in list(self._begun):  # the longest unused goes first, but no other part of the same request
                if self._begun_bytes() > _MOST and (old[0] != window or set(old[1]) & set(planes)):
                    del self._begun[old]
            if self._begun_bytes() > _MOST:
                self._begun.pop(key, None)
        return made

    def forget_begun(self) -> int:
        """Let go of what networks made of the image; the bytes that it took."""
        with self._lock:
            taken = self._begun_bytes()
            self._begun.clear()
        return taken

    def _begun_bytes(self) -> int:
        return sum(part.nbytes for part in self._begun.values())

    def slices(self, pixel: float) -> Tensor:
        """float32 (Z, X', Y') in [-1, 1], at ``pixel`` mm in plane."""
        if pixel not in self._slices:
            shape, spacing = self.volume.array.shape, self.volume.spacing
            slices = torch.from_numpy(normalised(self.volume.array)).permute(2, 0, 1).contiguous()
            self._slices[pixel] = resample_in_plane(slices, resampled_size(shape, spacing, pixel))
        return self._slices[pixel]

    def proposal(self, locator: Locator, calls: Calls) -> Box | None:
        """The box, in voxels of ``volume``, that ``locator`` sees; None where it sees no heart. Raises CancelledError as ``calls`` does."""
        if locator.version not in self._proposed:
            self._proposed[locator.version] = locator.propose(self.volume, calls)
        return self._proposed[locator.version]
