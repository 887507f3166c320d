"""Phantoms with few slices: a test that needs hearts seldom needs all of one."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from pathlib import Path
from unittest.mock import patch

import numpy as np

from prato.data.studies.folder import Manifest
from prato.phantom import frames
from prato.phantom.frames import Phantom, make_phantom, make_phantoms
from prato.training.click_bank import ClickBank
from prato.training.slice_bank import CANVAS


def make_thin_phantoms(folder: Path, patients: int, slices: int = 4, seed: int = 0) -> Manifest:
    """What ``make_phantoms(folder, patients, seed)`` writes, of each image and label the ``slices`` in the middle."""
    with patch.object(frames, "make_phantom", lambda seed, number: _thin(seed, number, slices)):
        return make_phantoms(folder, patients, seed)


def _thin(seed: int, number: int, slices: int) -> Phantom:
    made = _made(seed, number)
    first = (made.images["ED"].shape[2] - slices) // 2
    affine = made.affine.copy()
    affine[:3, 3] += first * affine[:3, 2]
    images, labels = ({phase: array[:, :, first : first + slices] for phase, array in each.items()} for each in (made.images, made.labels))
    return replace(made, affine=affine, images=images, labels=labels)


#: Painting a patient takes a second.
_made = cache(make_phantom)


def click_bank() -> ClickBank:
    """Three slices of a drawn heart, with masks that lie four pixels beside it."""
    rows, columns = np.indices((CANVAS, CANVAS))
    label = np.zeros((3, CANVAS, CANVAS), np.uint8)
    label[:, np.hypot(rows - 128, columns - 128) < 28] = 2
    label[:, np.hypot(rows - 128, columns - 128) < 18] = 3
    label[:, np.hypot(rows - 128, columns - 82) < 20] = 1
    scores = np.moveaxis((np.arange(4) == np.roll(label, 4, 2)[..., None]) * np.uint8(255), -1, 1)
    return ClickBank(label * 60, label, scores[None], np.array([0]), np.array([3]))
