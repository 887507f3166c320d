"""What a study's page draws: pictures of every phase, contours, volumes; computed once for each image and label."""

from __future__ import annotations

import base64
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from threading import Lock
from typing import Any

import numpy as np
from cachetools import LRUCache

from lib.server.page.montage import PARTS, Montage, grey_window
from prato.data.cine import Cine
from prato.data.structures import COLOURS_8BIT, voxel_ml
from prato.function.curve import VolumeCurve
from prato.labelling.phases import phase_of
from prato.prompts.box import Box


@dataclass(frozen=True)
class StudyView:
    """A study as the page shows it.

    Attributes:
        montage: where its slices lie in a picture.
        slices: how many it has.
        spacing: of a voxel as the montage looks at it, mm along rows, columns and slices.
        times_ms: as ``Cine`` has them.
        frames: a JPEG for each phase.
        labelled: the phases that hold a structure, from 0, in order.
        contours: of each of ``labelled``, by structure, SVG paths.
        hearts: uint8 (rows, columns, slices, labelled), the masks in plane as far as any holds a structure; None where none does.
        warnings: what was repaired of the image as it was read, as ``Volume.warnings``.
        fault: why a label that is there is not shown; None where nothing is wrong.
    """

    montage: Montage
    slices: int
    spacing: tuple[float, float, float]
    times_ms: np.ndarray | None
    frames: tuple[bytes, ...]
    labelled: tuple[int, ...]
    contours: tuple[dict[str, str], ...]
    hearts: np.ndarray | None = field(repr=False)
    warnings: tuple[str, ...] = ()
    fault: str | None = None

    @classmethod
    def of(cls, cine: Cine, mask: np.ndarray | None, fault: str | None = None) -> StudyView:
        """Of an image and the ``mask`` of its label, uint8 (X, Y, Z) or (X, Y, Z, T); None where there is none, or a ``fault``.

        Raises:
            VolumeError: a phase cannot be read.
        """
        first, count = cine.phase(0), len(cine)
        masks = {} if mask is None else {t: drawn for t in range(count) if (drawn := phase_of(mask, t)).any()}
        heart = np.zeros(first.array.shape, bool)
        for drawn in masks.values():
            heart |= drawn > 0
        montage = Montage.of(first, heart, count)
        window = grey_window(montage.cut(first.array))
        frames = tuple(montage.jpeg(cine.phase(t).array, window) for t in range(count))
        contours = tuple(montage.contours(drawn) for drawn in masks.values())
        down, right, axis = montage.view.axes
        around, hearts = Box.around(montage.view.apply(heart)), None
        if around is not None:
            hearts = np.stack([montage.view.apply(drawn)[around.in_plane.slices] for drawn in masks.values()], -1)
        spacing = first.spacing[down], first.spacing[right], first.spacing[axis]
        return cls(montage, first.array.shape[axis], spacing, cine.times_ms, frames, tuple(masks), contours, hearts, first.warnings, fault)

    @property
    def nbytes(self) -> int:
        """Memory that it takes, roughly."""
        drawn = sum(len(path) for paths in self.contours for path in paths.values())
        return sum(map(len, self.frames)) + drawn + (0 if self.hearts is None else self.hearts.nbytes)

    def curve(self) -> VolumeCurve | None:
        """Volumes in ml of the ``labelled`` phases; None where there are none."""
        return None if self.hearts is None else VolumeCurve.from_masks(self.hearts, voxel_ml(self.spacing))

    def masks(self) -> dict[int, np.ndarray]:
        """By labelled phase, its mask as the montage looks at it, uint8 (rows, columns, slices)."""
        return {} if self.hearts is None else {t: self.hearts[..., n] for n, t in enumerate(self.labelled)}

    def pictures(self) -> dict[str, Any]:
        """What a browser draws, see docs/protocol/pages.md."""
        width, height = self.montage.size
        tiles = [{"slice": k, "x": x, "y": y} for k, (x, y) in zip(self.montage.slices, self.montage.corners())]
        return {
            **{"width": width, "height": height, "tiles": tiles, "parts": PARTS},
            "colours": {name: f"rgb{colour}" for name, colour in COLOURS_8BIT.items()},
            "frames": [f"data:image/jpeg;base64,{base64.b64encode(frame).decode()}" for frame in self.frames],
            "contours": {str(t): paths for t, paths in zip(self.labelled, self.contours)},
        }


class ViewCache:
    """The views of the last studies that somebody looked at; one is computed at a time.

    Args:
        max_bytes: memory that all may take together; one is kept whatever its size.
    """

    def __init__(self, max_bytes: int) -> None:
        self._lock = Lock()
        self._views: LRUCache[Hashable, StudyView] = LRUCache(max_bytes, getsizeof=lambda view: min(view.nbytes, max_bytes))

    def get(self, key: Hashable, compute: Callable[[], StudyView]) -> StudyView:
        """The view called ``key``, which ``compute`` makes where it is not at hand."""
        with self._lock:
            view = self._views.get(key)
            if view is None:
                view = self._views[key] = compute()
            return view


#: Of some twenty cines.
views = ViewCache(64 * 2**20)
