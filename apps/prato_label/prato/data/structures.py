"""The structures that are segmented, by name. Numbers appear only where a mask is written or read."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence

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
#: The same in 0..255, as browsers take them.
COLOURS_8BIT: Mapping[str, tuple[int, int, int]] = {
    name: (round(255 * r), round(255 * g), round(255 * b)) for name, (r, g, b) in COLOURS.items()
}

#: What people and programs call the structures, in lower case and without anything but letters and digits.
_SIDES = {
    "RV cavity": ("rv", "rightventricle", "rightventricular", "ventricleright", "heartventricleright"),
    "LV cavity": ("lv", "leftventricle", "leftventricular", "ventricleleft", "heartventricleleft"),
}
_CAVITY = ("", "c", "cav", "cavity", "bp", "blood", "bloodpool", "bloodcavity", "lumen", "chamber", "endo", "endocardium", "endocardial")
_MYOCARDIUM = ("myo", "myoc", "myocard", "myocardium", "myocardial", "wall", "muscle")
_SYNONYMS = {
    **{text: name for name, sides in _SIDES.items() for side in sides for part in _CAVITY for text in (side + part, part + side)},
    **{text: "myocardium" for side in _SIDES["LV cavity"] for part in _MYOCARDIUM for text in (side + part, part + side)},
    **dict.fromkeys(("myo", "myoc", "myocard", "myocardium", "heartmyocardium", "heartmuscle", "lvm"), "myocardium"),
    **dict.fromkeys(("background", "bg", "none", "unlabeled", "unlabelled", "clearlabel"), "background"),
}
#: The borders of the left ventricle's wall, as contours are called beside the names of structures: each encloses a structure.
_BORDERS = {
    text: structure
    for structure, layers in {
        "myocardium": ("epi", "epicardium", "epicardial"),
        "LV cavity": ("endo", "endocardium", "endocardial"),
    }.items()
    for layer in layers
    for side in ("", *_SIDES["LV cavity"])
    for text in (side + layer, layer + side)
}


def structure_from_name(text: str) -> str | None:
    """The structure that ``text`` names, as in ``STRUCTURES``, or "background"; None where it names neither.

    >>> structure_from_name("Left Ventricle"), structure_from_name("LV_myocardium"), structure_from_name("rv blood pool")
    ('LV cavity', 'myocardium', 'RV cavity')
    """
    return _SYNONYMS.get(re.sub(r"[^a-z0-9]", "", text.casefold()))


def border_from_name(text: str) -> str | None:
    """The structure of which ``text`` names the outer border: of the myocardium that of the wall, within which the LV cavity lies, too.

    >>> border_from_name("LV epicardium"), border_from_name("lvEndoContour"), border_from_name("RV endo")
    ('myocardium', 'LV cavity', None)
    """
    return _BORDERS.get(re.sub(r"(contours?|borders?)$", "", re.sub(r"[^a-z0-9]", "", text.casefold())))


def voxel_counts(mask: np.ndarray) -> dict[str, int]:
    """Voxels of each structure in ``mask`` (any shape, values as stored), structures that are not there left out."""
    counts = {name: int(np.count_nonzero(mask == value)) for name, value in STRUCTURES.items()}
    return {name: count for name, count in counts.items() if count}


def voxel_ml(spacing: Sequence[float]) -> float:
    """ml of a voxel of ``spacing`` mm, as its image has it; every volume is counted by it.

    It is the same to the last bit whatever the order of the axes: else one mask whose volume ends in a half would be 0.01 ml larger or
    smaller from place to place.

    >>> voxel_ml((1.25, 1.25, 8.0))
    0.0125
    """
    return math.prod(sorted(map(float, spacing))) / 1000
