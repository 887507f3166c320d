"""The images of the last requests: a labeller moves the box many times over one of them."""

from __future__ import annotations

import hashlib
from pathlib import Path
from threading import Lock

from cachetools import LRUCache

from prato.data.nifti import read_volume
from prato.inference.image_stack import ImageStack
from prato.runtime.feature_cache import FeatureCache

_CHUNK = 2**20


class ImageCache:
    """Images by the content of their files, and what networks made of them; those used longest ago are dropped first.

    Args:
        max_image_bytes: memory that all images may take together; one is kept whatever its size.
        max_feature_bytes: the same of what networks made of them before they looked at a prompt.
    """

    def __init__(self, max_image_bytes: int, max_feature_bytes: int) -> None:
        self._lock = Lock()
        self._images: LRUCache[str, ImageStack] = LRUCache(max_image_bytes, getsizeof=lambda image: min(image.nbytes, max_image_bytes))
        self.features = FeatureCache(max_feature_bytes)

    def read(self, path: Path) -> ImageStack:
        """The image at ``path`` as it is now.

        Raises:
            VolumeError: as ``read_volume``.
        """
        content = _digest(path)
        with self._lock:
            if content is not None and (image := self._images.get(content)) is not None:
                return image
        volume = read_volume(path)
        volume.array.setflags(write=False)  # it is shared
        if content is None or _digest(path) != content:  # it was replaced meanwhile, and nobody knows what was read
            return ImageStack(volume)
        image = ImageStack(volume, self.features, content, lambda: self._measure(content))
        with self._lock:
            self._images[content] = image
        return image

    def _measure(self, content: str) -> None:
        """The image has grown: others may have to go."""
        with self._lock:
            if content in self._images:
                self._images[content] = self._images[content]


def _digest(path: Path) -> str | None:
    """The file's SHA-256; None where it cannot be read, which ``read_volume`` puts into words."""
    digest = hashlib.sha256()
    try:
        with path.open("rb") as file:
            while chunk := file.read(_CHUNK):
                digest.update(chunk)
    except OSError:
        return None
    return digest.hexdigest()


#: Some fifty short-axis stacks of one phase, and what networks made of the last dozen.
images = ImageCache(160 * 2**20, 96 * 2**20)
