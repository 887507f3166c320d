"""Measurements from the labels of a cine: the volume of each structure in each phase and, for a whole beat or two phases, function."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from prato.data.structures import STRUCTURES, voxel_counts, voxel_ml
from prato.dicom.labels.labelled_cines import LabelledCine
from prato.dicom.origin.patient import Examination
from prato.function.measured import Heart, MeasuredHeart, NoFunctionError

#: The columns of the table of volumes; phases count from 0.
COLUMNS = ("study", "phase", *(f"{name} ml" for name in STRUCTURES), "label version", "annotator", "sop instance uid")


@dataclass(frozen=True)
class Measurements:
    """Volumes in ml by phase (from 0) and structure; ``heart``, where two phases give its function, else ``fault``, why there is none."""

    volumes: dict[int, dict[str, float]]
    heart: MeasuredHeart | None
    fault: str = ""


def measure(cine: LabelledCine, who: Examination | None = None) -> Measurements:
    """Measurements of the exported phases of ``cine``; height and weight are the manifest's, else the examination's."""
    ml, count = voxel_ml(cine.spacing), cine.reference.phases
    masks = {t: cine.phases[t].mask for t in sorted(cine.phases)}
    volumes = {t: {name: voxel_counts(mask).get(name, 0) * ml for name in STRUCTURES} for t, mask in masks.items()}
    heart = Heart(
        masks,
        cine.spacing,
        cine.named_ed_es(),
        count=count,
        names=[f"phase {t + 1} of {count}" for t in range(count)],
        height_cm=cine.height_cm or (who.height_cm if who else None),
        weight_kg=cine.weight_kg or (who.weight_kg if who else None),
    )
    try:
        return Measurements(volumes, heart.measure(trusted=masks.keys()))
    except NoFunctionError as error:
        return Measurements(volumes, None, str(error))


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
        "ed_es_source": measured.heart and measured.heart.ed_es_source,
        "function": measured.heart and measured.heart.function.to_dict(),
    }
    return (json.dumps(content, indent=1, ensure_ascii=False) + "\n").encode("utf-8", "replace")
