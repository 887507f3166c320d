"""What the cardiac table shows: this study's volumes and flags and, with its patient's other phases, the function of the heart."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import slicer
import slicer.util

from PratoLabelLib.cardiac import Function, Volumes, flags, function, phases, volumes
from PratoLabelLib.volume_file import read_into

#: How study names end in a frame of a patient's cine: patient001_frame12, heart7_ED.
_FRAME = re.compile(r"[_-](frame[_-]?\d+|ED|ES|t\d+)$", re.IGNORECASE)


@dataclass(frozen=True)
class CardiacReport:
    """Volumes and ``flags`` of the study on show; ``ed`` and ``es``, its patient's studies with the largest and smallest LV, and the
    ventricles' function, where volumes of two phases are known ("" and None otherwise)."""

    volumes: Volumes
    flags: list[str]
    patient: str
    ed: str
    es: str
    lv: Function | None
    rv: Function | None


def patient_of(study: str) -> str:
    """The patient that ``study`` is a frame of, by its name; a name without a frame is a patient of its own."""
    return _FRAME.sub("", study)


def stored_volumes(path: Path, labels: Mapping[str, int]) -> Volumes:
    """The volumes of the label file ``path``.

    Raises:
        ValueError: it cannot be read.
    """
    node = slicer.vtkMRMLLabelMapVolumeNode()
    if not read_into(node, path):
        raise ValueError(f"The label {path.name} cannot be read: submit it anew.")
    return volumes(slicer.util.arrayFromVolume(node), dict(labels), node.GetSpacing()[::-1])


def report(mask: np.ndarray, volume_node: Any, labels: Mapping[str, int], study: str, known: Mapping[str, Volumes]) -> CardiacReport:
    """The table for ``mask`` (K, J, I), the segments of ``study`` on the grid of ``volume_node``.

    Args:
        known: volumes by study, of this patient and others; those of ``study`` itself are measured anew.
    """
    spacing = volume_node.GetSpacing()[::-1]
    own = volumes(mask, dict(labels), spacing)
    patient = patient_of(study)
    of_patient = {name: found for name, found in known.items() if patient_of(name) == patient} | {study: own}
    pair = phases({name: found for name, found in of_patient.items() if found.lv_ml > 0})
    ed, es = pair or ("", "")
    return CardiacReport(
        volumes=own,
        flags=flags(mask, dict(labels), int(np.argmax(spacing))) if mask.any() else [],
        patient=patient,
        ed=ed,
        es=es,
        lv=function(of_patient[ed].lv_ml, of_patient[es].lv_ml) if pair else None,
        rv=function(of_patient[ed].rv_ml, of_patient[es].rv_ml) if pair else None,
    )
