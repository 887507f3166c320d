"""Whether a mask can be what its values say: whatever the orientation, the LV cavity lies in the myocardium, and the RV cavity does not."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import permutations
from typing import Literal

import numpy as np
from scipy.ndimage import find_objects
from scipy.spatial import ConvexHull, QhullError

from prato.data.structures import STRUCTURES

#: Share of a cavity's voxels within the hull of another structure, above which it lies in it, and below which it does not. In ACDC's 200
#: labels the LV cavity's share in the myocardium is 1.00 throughout, the RV cavity's at most 0.01.
_IN, _OUT = 0.7, 0.3
#: Share of the pixels that border on the LV cavity, in plane, which are no myocardium, from which it is open. In ACDC's labels the largest
#: is .017.
_OPEN = 0.05
#: Area of the LV cavity, mm2, below which a slice does not say whether it is open: near the apex the wall may be as wide as a pixel.
_SMALL = 100.0
#: Share of a mask's voxels that its smallest structure takes up, below which it is missing. In ACDC's labels it is .054 at least.
_MISSING = 0.01
#: On fewer slices than this there may well be two structures alone, or one.
FEW_SLICES = 4
#: Below this many pixels on a slice, or voxels in all, a structure says nothing.
_FEW = 10
_RV, _MYO, _LV = STRUCTURES.values()


@dataclass(frozen=True)
class Anatomy:
    """What the arrangement of the structures says of their numbers.

    Attributes:
        verdict: "confirmed" where the values can only be what they say, "contradicted" where they cannot be, "unknown" where too little
            is drawn to tell.
        sentence: what is wrong and what would fit, if contradicted.
    """

    verdict: Literal["confirmed", "contradicted", "unknown"]
    sentence: str = ""


def judge_anatomy(mask: np.ndarray, axis: int) -> Anatomy:
    """What ``mask``, (X, Y, Z) with the values of ``prato.data.structures``, says of its own numbers; ``axis`` lies across the slices."""
    slices = [_shares_inside(plane) for plane in np.moveaxis(mask, axis, 0)]
    inside = {
        pair: np.sum([found[pair] for found in slices if pair in found], axis=0)
        for pair in permutations((_RV, _MYO, _LV), 2)
        if any(pair in found for found in slices)
    }
    shares = {pair: float(count / total) for pair, (count, total) in inside.items() if total >= _FEW}
    right = shares.get((_MYO, _LV))
    # the hull of a crescent reaches into what it lies round, so it is the fullest that tells
    (wall, cavity), share = max(shares.items(), key=lambda found: found[1], default=((_MYO, _LV), 0.0))
    if share > _IN and (wall, cavity) != (_MYO, _LV) and (right is None or right < share - (_IN - _OUT)):
        return Anatomy("contradicted", _name_swap(wall, cavity))
    swapped = [k for k, found in enumerate(slices) if _is_swapped(found)]
    if swapped:
        where = ", ".join(str(k + 1) for k in swapped[:5]) + ", ..." * (len(swapped) > 5)
        return Anatomy("contradicted", f"RV and LV cavity are swapped on slice {where}: the LV cavity is the one inside the myocardium.")
    if right is not None and right > _IN and shares.get((_MYO, _RV), 0.0) < _OUT:
        return Anatomy("confirmed")
    return Anatomy("unknown")


def missing_structures(mask: np.ndarray) -> list[str]:
    """The structures of which ``mask``, values of ``prato.data.structures``, holds hardly a voxel, though it holds others."""
    counts = {name: np.count_nonzero(mask == value) for name, value in STRUCTURES.items()}
    return [name for name, count in counts.items() if count < _MISSING * sum(counts.values())]


def undrawn_structures(label: np.ndarray, axis: int) -> list[str]:
    """What whoever drew ``label``, (X, Y, Z) with slices across ``axis``, left out; nothing where too few slices are drawn to tell."""
    drawn = np.count_nonzero(label.any(tuple({0, 1, 2} - {axis})))
    return missing_structures(label) if drawn >= FEW_SLICES else []


def describe_lack(label: np.ndarray, axis: int) -> str:
    """:func:`undrawn_structures` of ``label`` as a sentence, "" for none: whoever learned from it would learn not to draw them."""
    missing = undrawn_structures(label, axis)
    return f"it lacks {' and '.join(f'the {name}' for name in missing)}." if missing else ""


def is_lv_open(mask: np.ndarray, spacing: tuple[float, ...]) -> bool:
    """Whether the myocardium does not enclose the LV cavity in plane, as it does where experts draw it.

    A network leaves it open where it does not know what it sees, and where it takes the outflow tract or the atrium for the LV.

    Args:
        mask: (X, Y, Z), values of ``prato.data.structures``, slices along Z.
        spacing: of its voxels, mm.
    """
    found = find_objects((mask == _LV).view(np.uint8))
    if not found:
        return False
    i, j, k = found[0]
    mask = np.pad(mask[max(i.start - 1, 0) : i.stop + 1, max(j.start - 1, 0) : j.stop + 1, k], ((1, 1), (1, 1), (0, 0)))
    cavity = mask == _LV
    cavity &= np.count_nonzero(cavity, (0, 1)) * math.prod(spacing[:2]) >= _SMALL
    border = np.zeros_like(cavity)
    for axis in (0, 1):
        for step in (1, -1):
            border |= np.roll(cavity, step, axis)
    border &= mask != _LV
    return bool(np.count_nonzero(border & (mask != _MYO)) > _OPEN * np.count_nonzero(border))


def _shares_inside(plane: np.ndarray) -> dict[tuple[int, int], np.ndarray]:
    """By pair of structures on a slice: how many pixels of the second lie within the convex hull of the first, and how many there are."""
    points = {value: np.argwhere(plane == value).astype(float) for value in (_RV, _MYO, _LV)}
    found = {}
    for outer in (_RV, _MYO, _LV):
        if len(points[outer]) < _FEW:
            continue
        try:
            planes = ConvexHull(points[outer]).equations
        except QhullError:  # all in one line
            continue
        for inner in (_RV, _MYO, _LV):
            if inner != outer and len(points[inner]):
                within = (points[inner] @ planes[:, :2].T + planes[:, 2] <= 1e-6).all(axis=1)
                found[outer, inner] = np.array([np.count_nonzero(within), len(within)])
    return found


def _is_swapped(found: dict[tuple[int, int], np.ndarray]) -> bool:
    """Whether on a slice the RV cavity lies in the myocardium and the LV cavity, which is there, too, does not."""
    (rv_in, rv), (lv_in, lv) = (found.get((_MYO, cavity), np.zeros(2)) for cavity in (_RV, _LV))
    return bool(rv >= _FEW and lv >= _FEW and rv_in > _IN * rv and lv_in < _OUT * lv)


def _name_swap(wall: int, cavity: int) -> str:
    """What is wrong where the value ``cavity`` lies in the value ``wall``, as only the LV cavity lies in the myocardium."""
    names = {value: name for name, value in STRUCTURES.items()}
    rest = next(value for value in names if value not in (wall, cavity))
    fits = ", ".join(f"{value} {name}" for value, name in sorted({wall: "myocardium", cavity: "LV cavity", rest: "RV cavity"}.items()))
    if {wall, cavity} == {_MYO, _RV} and wall == _MYO:
        return f"RV and LV cavity seem to be swapped, as the {names[cavity]} lies in the myocardium: the values fit {fits}."
    return f"its structures seem to be mixed up, as the {names[cavity]} lies in the {names[wall]}: the values fit {fits}."
