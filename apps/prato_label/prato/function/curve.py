"""The volume of each structure over a heartbeat, and where in it the ventricles are fullest and emptiest.

A cine shows one cycle that may begin anywhere: after the last phase comes the first.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.signal import savgol_filter

from prato.data.structures import STRUCTURES

#: A phase counts as full, or empty, within this share of the stroke volume of the extreme: where the volume rests, its extreme is chance.
_RESTS = 0.04
#: End-diastole lies in the last so much of a cycle that is full before ejection: what lies before is a diastasis without an atrial kick.
_LAST_FULL = 0.15
#: Where in the full and in the empty phases end-diastole and end-systole lie: nearer to ejection, which one precedes and one follows.
_ED_AT, _ES_AT = 0.4, 0.37
#: Phases that smoothing for the search looks at, at least: volumes counted from masks flicker by some ml.
_WINDOW = 5


@dataclass(frozen=True)
class VolumeCurve:
    """Volumes in ml, float64 (T,), of the phases of one cine in order."""

    rv: np.ndarray
    myocardium: np.ndarray
    lv: np.ndarray

    @classmethod
    def from_masks(cls, masks: np.ndarray, voxel_ml: float) -> VolumeCurve:
        """Count the voxels of ``masks``, uint8 (X, Y, Z, T) with values of ``prato.data.structures``; each holds ``voxel_ml`` ml."""
        counts = np.stack([np.bincount(masks[..., t].ravel(order="K"), minlength=len(STRUCTURES) + 1) for t in range(masks.shape[-1])])
        return cls(*(counts[:, STRUCTURES[name]] * float(voxel_ml) for name in ("RV cavity", "myocardium", "LV cavity")))

    def __len__(self) -> int:
        return len(self.lv)

    @property
    def blood(self) -> np.ndarray:
        """What changes as the heart beats: both cavities together, whose errors are independent."""
        return self.lv + self.rv


def find_ed_es(curve: VolumeCurve) -> tuple[int, int] | None:
    """The phases of end-diastole and end-systole, from 0; None where fewer than two phases have any volume that changes."""
    volume, count = curve.blood, len(curve)
    if count < 2 or np.ptp(volume) == 0:
        return None
    smooth = smooth_cycle(volume)
    rests = _RESTS * float(np.ptp(smooth))
    empty = _run_round(int(smooth.argmin()), smooth <= smooth.min() + rests)
    es = empty[round(_ES_AT * (len(empty) - 1))]
    is_full = smooth >= smooth.max() - rests
    last = next(t for t in ((es - n) % count for n in range(1, count)) if is_full[t])
    full = _run_round(last, is_full)
    full = full[: full.index(last) + 1][-max(2, round(_LAST_FULL * count)) :]
    return full[round(_ED_AT * (len(full) - 1))], es


def smooth_cycle(values: np.ndarray) -> np.ndarray:
    """``values`` (T,) of one cycle without their flicker: local parabolas, over at least 5 phases and a sixth of the cycle."""
    window = max(_WINDOW, len(values) // 6 | 1)
    return values if len(values) <= window else savgol_filter(values, window, 2, mode="wrap")


def count_minima(values: np.ndarray) -> int:
    """How many minima a cycle ``values`` (T,) has that lie more than 5 % of its range below both maxima beside them; a beat has one."""
    span = float(np.ptp(values))
    if span == 0:
        return 0
    turned = np.roll(values, -int(np.argmax(values)))
    minima, low, high = 0, turned[0], turned[0]
    falling = True
    for value in [*turned[1:], turned[0]]:
        if falling:
            low = min(low, value)
            if value > low + 0.05 * span:
                minima, falling, high = minima + 1, False, value
        else:
            high = max(high, value)
            if value < high - 0.05 * span:
                falling, low = True, value
    return minima


def flicker(values: np.ndarray) -> float:
    """Root mean square of a cycle's second differences ``values`` (T,), in the values' unit: what changes from phase to phase and back."""
    return float(np.sqrt(np.mean((np.roll(values, -1) - 2 * values + np.roll(values, 1)) ** 2)))


def _run_round(middle: int, inside: np.ndarray) -> list[int]:
    """The phases round ``middle`` that are ``inside`` (bool (T,)), in the cycle's order."""
    count = len(inside)
    run = [middle]
    for step in (-1, 1):
        t = (middle + step) % count
        while inside[t] and len(run) < count and t not in run:
            run.insert(0, t) if step < 0 else run.append(t)
            t = (t + step) % count
    return run
