"""How well masks give the ejection fraction, which is what the contours of a cine are drawn for."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from prato.function.ventricles import VentricleFunction


def ejection_errors(rows: Sequence[Mapping[str, Any]], structure: str) -> dict[str, tuple[float, float]]:
    """By patient, the ejection fraction of a cavity that the masks give, and the expert's, in percent.

    Args:
        rows: of ``evaluate_case``, one model and box. Of a patient's two studies, the one whose LV is larger in the expert's label is at
            end-diastole; patients with another number of studies are left out, and those whose label has none of that cavity at
            end-diastole: they have no ejection fraction to be wrong about. A mask without blood at end-diastole ejects nothing.
        structure: "RV cavity" or "LV cavity".
    """
    patients: dict[str, list[Mapping[str, Any]]] = {}
    for row in rows:
        patients.setdefault(str(row["patient"]), []).append(row["volumes_ml"])
    found = {}
    for patient, volumes in patients.items():
        if len(volumes) == 2:
            systole, diastole = sorted(volumes, key=lambda volume: float(volume["LV cavity"]["expert"]))
            mask, expert = (VentricleFunction.from_volumes(diastole[structure][who], systole[structure][who]) for who in ("mask", "expert"))
            if expert.edv_ml:
                found[patient] = (mask.ef_percent if mask.edv_ml else 0.0, expert.ef_percent)
    return found


def summarise(errors: Mapping[str, tuple[float, float]]) -> dict[str, float]:
    """Mean absolute error, mean error (bias) and the sample's standard deviation of errors, in points, of :func:`ejection_errors`; NaN for
    that of a single patient, and for all of none."""
    difference = np.array([mask - expert for mask, expert in errors.values()])
    if not len(difference):
        return dict.fromkeys(("mae", "bias", "sd"), math.nan)
    spread = float(difference.std(ddof=1)) if len(difference) > 1 else math.nan
    return {"mae": float(np.abs(difference).mean()), "bias": float(difference.mean()), "sd": spread}
