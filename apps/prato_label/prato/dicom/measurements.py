"""What the labels of a cine measure: the volume of each structure in each phase and, of a whole heartbeat or of two phases, function."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from prato.data.structures import STRUCTURES, voxel_counts
from prato.dicom.labelled_cines import LabelledCine
from prato.dicom.patient import Examination
from prato.function.ventricles import CardiacFunction, cardiac_function

#: The columns of the table of volumes; phases count from 1.
COLUMNS = ("study", "phase", *(f"{name} ml" for name in STRUCTURES), "label version", "annotator", "sop instance uid")


@dataclass(frozen=True)
class Measurements:
    """Volumes in ml by phase (from 0) and structure; ``function``, whose phases are the cine's, needs two phases, and ``ed_es_source``
    says whose choice those of end-diastole and end-systole are: "marked", "manifest" or "found"."""

    volumes: dict[int, dict[str, float]]
    function: CardiacFunction | None
    ed_es_source: str | None = None


def measure(cine: LabelledCine, who: Examination | None = None) -> Measurements:
    """Of the exported phases of ``cine``; height and weight are the manifest's, else the examination's."""
    spacing = np.linalg.norm(np.array(cine.reference.affine_ras_mm)[:3, :3], axis=0)
    voxel_ml = math.prod(spacing) / 1000
    order = sorted(cine.phases)
    volumes = {t: {name: voxel_counts(cine.phases[t].mask).get(name, 0) * voxel_ml for name in STRUCTURES} for t in order}
    if len(order) < 2:
        return Measurements(volumes, None)
    told = cine.named_ed_es()
    named = next((each for each in told if {*each.pair} <= {*order}), None)
    function = cardiac_function(
        np.stack([cine.phases[t].mask for t in order], axis=3),
        (float(spacing[0]), float(spacing[1]), float(spacing[2])),
        phases=None if named is None else (order.index(named.ed), order.index(named.es)),
        height_cm=cine.height_cm or (who.height_cm if who else None),
        weight_kg=cine.weight_kg or (who.weight_kg if who else None),
    )
    if function is None:
        return Measurements(volumes, None)
    doubts = function.warnings if named or not told else (told[0].why_found(str(told[0].ed), str(told[0].es)), *function.warnings)
    function = replace(function, ed=order[function.ed], es=order[function.es], warnings=doubts)
    return Measurements(volumes, function, named.source if named else "found")


def volumes_csv(cine: LabelledCine, measured: Measurements, uids: Mapping[int, str]) -> bytes:
    """A row a phase; ``uids`` are those of the segmentations."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(COLUMNS)
    for t, volumes in measured.volumes.items():
        label = cine.phases[t]
        values = [f"{volumes[name]:.2f}" for name in STRUCTURES]
        writer.writerow([cine.reference.study, t, *values, label.version, label.annotator, uids[t]])
    return stream.getvalue().encode("utf-8", "replace")


def values_json(cine: LabelledCine, measured: Measurements, uids: Mapping[int, str]) -> bytes:
    """Volumes and function; ``ed`` and ``es`` count from 0, as ``CardiacFunction`` does."""
    content: dict[str, Any] = {
        "study": cine.reference.study,
        "phases": [
            {"phase": t, "volumes_ml": {name: round(ml, 2) for name, ml in volumes.items()}, "sop_instance_uid": uids[t]}
            for t, volumes in measured.volumes.items()
        ],
        "ed_es_source": measured.ed_es_source,
        "function": None if measured.function is None else measured.function.to_dict(),
    }
    return (json.dumps(content, indent=1, ensure_ascii=False) + "\n").encode("utf-8", "replace")
