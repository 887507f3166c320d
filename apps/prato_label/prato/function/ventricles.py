"""The function of both ventricles from a segmented cine, with what makes its numbers doubtful."""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from prato.data.labels.anatomy import is_lv_open
from prato.data.orientation import ORIENTATION_WARNINGS
from prato.data.structures import STRUCTURES, voxel_ml
from prato.data.wording import counted
from prato.function.curve import VolumeCurve, find_ed_es

#: g/ml, as the literature on cardiac MR takes it.
MYOCARDIAL_DENSITY = 1.05
#: Least and largest height (cm), weight (kg) and weight by squared height (kg/m2) of a person. Others are in another unit: metres, inches.
_PERSON = ((30.0, 275.0), (0.5, 650.0), (5.0, 120.0))
#: Fewer phases than these miss end-systole, which takes some 60 ms of a beat.
_FEW_PHASES = 15
#: Largest difference between the ventricles' stroke volumes, as a share of the larger one: without shunt or leaking valve they are equal.
_STROKE_DIFFERENCE = 0.2
#: What is repaired of an image and makes its volumes doubtful.
_OF_SIZE = ("orientation_from_qform", "voxel_size_uncertain", "voxel_size_unknown", "unit_ignored")
_NO_BEAT = (
    "The volumes do not rise and fall as in a heartbeat, so the phases are out of order, or some masks are wrong: end-diastole and "
    "end-systole are the fullest and the emptiest phase."
)
_OPEN = "The myocardium does not enclose the LV cavity at end-{}: check the basal slices."


@dataclass(frozen=True)
class VentricleFunction:
    """One ventricle: volumes (ml) at end-diastole and end-systole, stroke volume (ml), ejection fraction (percent; NaN without blood)."""

    edv_ml: float
    esv_ml: float
    sv_ml: float
    ef_percent: float

    @classmethod
    def from_volumes(cls, edv_ml: float, esv_ml: float) -> VentricleFunction:
        return cls(edv_ml, esv_ml, edv_ml - esv_ml, 100 * (edv_ml - esv_ml) / edv_ml if edv_ml > 0 else math.nan)


@dataclass(frozen=True)
class CardiacFunction:
    """What a cine says of a heart.

    Attributes:
        ed, es: phases of end-diastole and end-systole, from 0.
        lv, rv: their function.
        lv_mass_g: of the LV's myocardium at end-diastole.
        bsa_m2: body surface area; None where height or weight is unknown, or nobody's.
        warnings: what makes these numbers doubtful, a sentence each.
    """

    ed: int
    es: int
    lv: VentricleFunction
    rv: VentricleFunction
    lv_mass_g: float
    bsa_m2: float | None
    warnings: tuple[str, ...]

    def indexed(self) -> dict[str, float]:
        """Volumes (ml/m2) and mass (g/m2) by body surface area; empty where that is unknown."""
        if self.bsa_m2 is None:
            return {}
        volumes = {f"{side}_{name}": getattr(getattr(self, side), name) for side in ("lv", "rv") for name in ("edv_ml", "esv_ml", "sv_ml")}
        return {f"{name}_per_m2": value / self.bsa_m2 for name, value in {**volumes, "lv_mass_g": self.lv_mass_g}.items()}

    def to_dict(self) -> dict[str, Any]:
        """All of it as JSON values: phases, volumes to .01 ml; NaN becomes None."""

        def plain(value: Any) -> Any:
            if isinstance(value, dict):
                return {name: plain(inner) for name, inner in value.items()}
            if isinstance(value, float):
                return None if math.isnan(value) else round(value, 2)
            return list(value) if isinstance(value, tuple) else value

        return {**plain(asdict(self)), "indexed": plain(self.indexed())}


def cardiac_function(
    masks: np.ndarray,
    spacing: tuple[float, float, float],
    *,
    phases: tuple[int, int] | None = None,
    found_among: int | None = None,
    count: int | None = None,
    height_cm: float | None = None,
    weight_kg: float | None = None,
    image_warnings: Collection[str] = (),
) -> CardiacFunction | None:
    """The function of the heart segmented in ``masks``; None where no phase differs from another.

    Args:
        masks: uint8 (X, Y, Z, T), values of ``prato.data.structures``, slices along Z.
        spacing: voxel size in mm along X, Y, Z.
        phases: end-diastole and end-systole where they are known; None to find them.
        found_among: how many phases ``phases`` were found among, which may be too few; None where somebody chose them.
        count: phases of the cine, of which ``masks`` may hold some alone; None: all of them.
        image_warnings: of the images, as ``Volume.warnings``: those about the voxel size become doubts.

    Raises:
        ValueError: ``phases`` are none of the cine's.
    """
    curve = VolumeCurve.from_masks(masks, voxel_ml(spacing))
    if phases is not None and not all(0 <= t < len(curve) for t in phases):
        raise ValueError(f"The cine has phases 0 to {len(curve) - 1}: end-diastole and end-systole cannot be {phases[0]} and {phases[1]}.")
    found = phases or find_ed_es(curve, is_cycle=count in (None, len(curve)))
    if found is None:
        return None
    ed, es = found
    lv, rv = (VentricleFunction.from_volumes(float(volume[ed]), float(volume[es])) for volume in (curve.lv, curve.rv))
    mass = MYOCARDIAL_DENSITY * float(curve.myocardium[ed])
    doubts = _doubts(masks, lv, rv, len(curve) if phases is None else found_among, count or len(curve))
    doubts += [_OPEN.format(name) for name, t in (("diastole", ed), ("systole", es)) if is_lv_open(masks[..., t], spacing)]
    if (phases is None or found_among is not None) and len(curve) == (count or len(curve)) and not curve.is_heartbeat:
        doubts.insert(0, _NO_BEAT)
    if height_cm is not None and weight_kg is not None and not _is_person(height_cm, weight_kg):
        doubts.append(f"A height of {height_cm:g} cm and a weight of {weight_kg:g} kg cannot be right: nothing is given by body surface.")
    sizes = (f"The image's {ORIENTATION_WARNINGS[name].removeprefix('its ')}." for name in _OF_SIZE if name in image_warnings)
    return CardiacFunction(ed, es, lv, rv, mass, body_surface(height_cm, weight_kg), (*sizes, *doubts))


def body_surface(height_cm: float | None, weight_kg: float | None) -> float | None:
    """Body surface area in m2 (Mosteller, N Engl J Med 1987); None where height or weight is unknown, or nobody's."""
    if height_cm is None or weight_kg is None or not _is_person(height_cm, weight_kg):
        return None
    return math.sqrt(height_cm * weight_kg / 3600)


def _is_person(height_cm: float, weight_kg: float) -> bool:
    heights, weights, of_both = _PERSON
    is_in_each = heights[0] <= height_cm <= heights[1] and weights[0] <= weight_kg <= weights[1]
    return is_in_each and of_both[0] <= weight_kg / (height_cm / 100) ** 2 <= of_both[1]


def _doubts(masks: np.ndarray, lv: VentricleFunction, rv: VentricleFunction, among: int | None, count: int) -> list[str]:
    """What makes the numbers doubtful; end-diastole and end-systole were found ``among`` so many of ``count`` phases, or chosen (None)."""
    doubts = []
    if among is not None and among < count:
        doubts.append(
            f"{among} of {count} phases {'is' if among == 1 else 'are'} measured: end-diastole and end-systole are the fullest and the "
            "emptiest of these, which may not be those of the heartbeat."
        )
    elif among is not None and among < _FEW_PHASES:
        few = counted(among, "phase is", "phases are")
        doubts.append(f"Only {few} measured: with fewer than {_FEW_PHASES} the smallest volume may lie between two of them.")
    larger = max(abs(lv.sv_ml), abs(rv.sv_ml))
    if lv.sv_ml + rv.sv_ml < 0:
        doubts.append("The heart holds more blood at end-systole than at end-diastole: are the two phases swapped?")
    elif min(lv.edv_ml, rv.edv_ml) > 0 and abs(lv.sv_ml - rv.sv_ml) > _STROKE_DIFFERENCE * larger:
        doubts.append(
            f"The stroke volumes differ (LV {lv.sv_ml:.0f} ml, RV {rv.sv_ml:.0f} ml), and should not without a shunt or a leaking "
            "valve: check the basal slices."
        )
    return doubts + _basal_doubts(masks)


def _basal_doubts(masks: np.ndarray) -> list[str]:
    """A cavity leaves its outermost slice once a beat, as the valve plane comes down, and comes back once; one that does so more often was
    judged differently from phase to phase.
    """
    doubts = []
    for side in ("LV", "RV"):
        filled = (masks == STRUCTURES[f"{side} cavity"]).any((0, 1))  # (Z, T)
        changes = (filled != np.roll(filled, 1, axis=1)).sum(1)
        often = [str(k + 1) for k in np.flatnonzero(changes > 2)]
        if often:
            where = f"slices {', '.join(often[:-1])} and {often[-1]}" if often[1:] else f"slice {often[0]}"
            doubts.append(f"The {side} cavity comes and goes in {where} from phase to phase: its volumes jump there.")
    return doubts
