"""The structures that are segmented, by name. Numbers appear only where a mask is written or read."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

BACKGROUND = 0
#: Structure name -> value in a stored mask (the ACDC convention; M&Ms and UK Biobank swap RV and LV, so map names, never numbers).
STRUCTURES: Mapping[str, int] = {"RV cavity": 1, "myocardium": 2, "LV cavity": 3}
NUM_CLASSES = 1 + len(STRUCTURES)
#: Display colours (red, green, blue in 0..1), shared by every picture that the project makes.
COLOURS: Mapping[str, tuple[float, float, float]] = {
    "RV cavity": (0.26, 0.55, 0.96),
    "myocardium": (0.30, 0.78, 0.40),
    "LV cavity": (0.95, 0.33, 0.31),
}


def voxel_counts(mask: np.ndarray) -> dict[str, int]:
    """Voxels of each structure in ``mask`` (any shape, values as stored), structures that are not there left out."""
    counts = {name: int(np.count_nonzero(mask == value)) for name, value in STRUCTURES.items()}
    return {name: count for name, count in counts.items() if count}
