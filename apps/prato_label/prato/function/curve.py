"""The volume of each structure over a heartbeat, and where in it the ventricles are fullest and emptiest.

A cine shows one cycle that may begin anywhere: after the last phase comes the first.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from prato.data.structures import STRUCTURES
from prato.function.cycle import is_heartbeat, phase_probabilities

#: A cycle of fewer phases than these shows no shape: its extremes are taken.
_SHAPELESS = 8
#: Share of the highest probability from which a phase is about as probable.
_AS_PROBABLE = 0.97


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

    @property
    def is_heartbeat(self) -> bool:
        """Whether these phases, if they are all of one cycle, have the shape of a beat; fewer than 8 show none and are taken for one."""
        return len(self) < _SHAPELESS or is_heartbeat([self.lv, self.rv])


def find_ed_es(curve: VolumeCurve, *, is_cycle: bool) -> tuple[int, int] | None:
    """The phases of end-diastole and end-systole, from 0; None where fewer than two phases hold blood, or all as much.

    Each is the phase that is most probably the true one or next to it, as ``prato.function.cycle`` judges by the curve's shape; of phases
    about as probable, the fullest or emptiest. Where the curve has fewer than 8 phases, or a phase without blood, in which no heart was
    seen, or is no heartbeat's, they are its extremes.

    Args:
        is_cycle: whether these are all phases of one cycle, evenly spaced: a part of it, or phases with gaps between them, have extremes
            alone.
    """
    volume = curve.blood
    filled = volume > 0
    if filled.sum() < 2 or np.ptp(volume[filled]) == 0:
        return None
    if is_cycle and len(curve) >= _SHAPELESS and filled.all() and curve.is_heartbeat:
        near = [p + np.roll(p, 1) + np.roll(p, -1) for p in phase_probabilities([curve.lv, curve.rv])]
        ed, es = (int(np.where(p >= _AS_PROBABLE * p.max(), sign * volume, -np.inf).argmax()) for p, sign in zip(near, (1, -1)))
        if volume[ed] > volume[es]:
            return ed, es
    return int(volume.argmax()), int(np.where(filled, volume, np.inf).argmin())


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
