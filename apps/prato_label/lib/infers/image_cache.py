"""The images of the last requests: a labeller moves the box many times over one of them."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from pathlib import Path
from threading import Lock

from prato.data.nifti import read_volume
from prato.inference.image_stack import ImageStack

_CHUNK = 2**20


class ImageCache:
    """Images by the content of their files, the longest unused forgotten first.

    Args:
        most: bytes that all of them may take together; one image is kept whatever its size.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._lock = Lock()
        self._images: OrderedDict[str, ImageStack] = OrderedDict()

    def read(self, path: Path) -> ImageStack:
        """The image at ``path`` as it is now.

        Raises:
            VolumeError: as ``read_volume``.
        """
        content = _content(path)
        with self._lock:
            if content in self._images:
                self._images.move_to_end(content)
                self._forget()  # images grow while they are in use
                return self._images[content]
        volume = read_volume(path)
        volume.array.setflags(write=False)  # it is everybody's
        image = ImageStack(volume)
        if content is not None and _content(path) == content:  # else it was replaced meanwhile, and nobody knows what was read
            with self._lock:
                self._images[content] = image
                self._forget()
        return image

    def _forget(self) -> None:
        """What networks made of the images goes before the images do."""
        taken = sum(image.nbytes for image in self._images.values())
        for image in self._images.values():
            if taken <= self._most:
                return
            taken -= image.forget_begun()
        while len(self._images) > 1 and taken > self._most:
            taken -= self._images.popitem(last=False)[1].nbytes


def _content(path: Path) -> str | None:
    """The file's SHA-256; None where it cannot be read, which ``read_volume`` puts into words."""
    digest = hashlib.sha256()
    try:
        with path.open("rb") as file:
            while chunk := file.read(_CHUNK):
                digest.update(chunk)
    except OSError:
        return None
    return digest.hexdigest()


#: Some fifty short-axis stacks of one phase, and what networks began on the last dozen.
images = ImageCache(256 * 2**20)
