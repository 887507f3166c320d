"""The images of recent requests, kept in memory: a labeller moves the box over the same image many times."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from threading import Lock
from typing import TypeVar

from cachetools import LRUCache

from prato.data.cine import Cine, read_cine, read_cine_head
from prato.data.file_identity import file_sha256
from prato.data.nifti import read_volume
from prato.inference.image_stack import ImageStack
from prato.runtime.cancel_token import NEVER_CANCELLED, CancelToken
from prato.runtime.feature_cache import FeatureCache

_Image = TypeVar("_Image", ImageStack, Cine)


class ImageCache:
    """Images by the content of their files, and what networks made of them; those used longest ago are dropped first.

    Args:
        max_image_bytes: memory that all images may take together; one is kept whatever its size.
        max_feature_bytes: the same of what networks made of them before they looked at a prompt.
    """

    def __init__(self, max_image_bytes: int, max_feature_bytes: int) -> None:
        self._lock = Lock()
        self._images: LRUCache[str, ImageStack | Cine] = LRUCache(
            max_image_bytes, getsizeof=lambda image: min(image.nbytes, max_image_bytes)
        )
        self.features = FeatureCache(max_feature_bytes)

    def read(self, path: Path) -> ImageStack:
        """The image at ``path`` as it is now.

        Raises:
            VolumeError: as ``read_volume``.
        """
        return self._read(path)[0]

    def _read(self, path: Path) -> tuple[ImageStack, str | None]:
        content, found = self._find(path)
        if isinstance(found, ImageStack):
            return found, content
        volume = read_volume(path)
        volume.array.setflags(write=False)  # it is shared
        if content is None or file_sha256(path) != content:  # it was replaced meanwhile, and nobody knows what was read
            return ImageStack(volume), None
        return self._keep(content, ImageStack(volume, self.features, content, lambda: self._measure(content))), content

    def read_study(self, path: Path, token: CancelToken = NEVER_CANCELLED) -> ImageStack | Cine:
        """As :meth:`read`, but returns a cine where the image has several phases; raises as :meth:`read_with_digest`."""
        return self.read_with_digest(path, token)[0]

    def read_with_digest(self, path: Path, token: CancelToken = NEVER_CANCELLED) -> tuple[ImageStack | Cine, str | None]:
        """As :meth:`read_study`, and the SHA-256 of the file that was read; None where it was replaced meanwhile.

        Args:
            token: looked at while a cine is read, which may take seconds.

        Raises:
            VolumeError: as ``read_volume``, or as ``read_cine``.
            CancelledError: ``token`` was cancelled.
        """
        if read_cine_head(path).phases == 1:
            return self._read(path)
        content, found = self._find(path)
        if isinstance(found, Cine):  # messages are about the file at ``path``
            return (found if found.name == path.name else replace(found, name=path.name)), content
        cine = read_cine(path, token)
        return (cine, None) if content is None or file_sha256(path) != content else (self._keep(content, cine), content)

    def read_phase(self, path: Path, phase: int | None) -> ImageStack:
        """As :meth:`read`; of a cine, its ``phase``.

        Raises:
            VolumeError: as ``read_study``, or there is no such phase.
        """
        found = self.read_study(path)
        return ImageStack(found.phase(phase or 0)) if isinstance(found, Cine) else found

    def _find(self, path: Path) -> tuple[str | None, ImageStack | Cine | None]:
        """What says which image lies at ``path``, and that image where it is at hand."""
        content = file_sha256(path)
        with self._lock:
            return content, None if content is None else self._images.get(content)

    def _keep(self, content: str, image: _Image) -> _Image:
        with self._lock:
            self._images[content] = image
        return image

    def _measure(self, content: str) -> None:
        """The image has grown: others may have to go."""
        with self._lock:
            if content in self._images:
                self._images[content] = self._images[content]


#: Some fifty short-axis stacks of one phase, and what networks made of the last dozen.
images = ImageCache(160 * 2**20, 96 * 2**20)
