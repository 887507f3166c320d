"""A model measured on labelled studies, through the same predictor that the server answers with."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from prato.data.cases import StudyReader
from prato.data.labels.anatomy import undrawn_structures
from prato.data.nifti import Volume, VolumeError
from prato.data.stack import slice_axis
from prato.data.structures import STRUCTURES, voxel_ml
from prato.data.studies.folder import StudyFile
from prato.evaluation.box_conditions import BoxCondition, perturb_box, seeded_rng
from prato.evaluation.metrics import case_metrics
from prato.inference.predictor import Predictor
from prato.prompts.box import Box, BoxPrompt

logger = logging.getLogger(__name__)
METRICS = ("dice", "iou", "hd95")


def evaluate_case(
    predictor: Predictor, files: StudyFile, condition: BoxCondition, prune: str | None, seed: int, reader: StudyReader | None = None
) -> dict[str, Any] | None:
    """One study's or phase's row: metrics by structure and their means, volumes, the box and what the answer said of itself; None where
    its label is empty.

    The box depends on ``seed``, ``condition`` and the study's name alone.

    Raises:
        VolumeError: image or label cannot be used.
    """
    volume, label = (reader or StudyReader()).read(files)
    return evaluate_volume(predictor, volume, label.mask, files, condition, prune, seed)


def evaluate_volume(
    predictor: Predictor, volume: Volume, truth: np.ndarray, files: StudyFile, condition: BoxCondition, prune: str | None, seed: int
) -> dict[str, Any] | None:
    """The row of a study that has been read, as :func:`evaluate_case` describes it.

    Args:
        truth: uint8, of the shape of ``volume``: the expert's label. A structure that its expert did not draw has no scores, and no part in
            the means.
        files: which study it is.
    """
    tight = Box.around(truth > 0)
    if tight is None:
        return None
    shape = volume.array.shape
    axis = slice_axis(shape, volume.spacing)
    box = perturb_box(tight, shape, condition, seeded_rng(seed, condition.value, files.name), axis)
    predictor.set_image(volume)
    prediction = predictor.predict([] if box is None else [BoxPrompt(box)], prune)
    undrawn = undrawn_structures(truth, axis)
    drawn = {name: value for name, value in STRUCTURES.items() if name not in undrawn}
    scores = case_metrics(prediction.mask, truth, volume.spacing, drawn)
    ml = voxel_ml(volume.spacing)
    volumes = {name: {"mask": _ml(prediction.mask == value, ml), "expert": _ml(truth == value, ml)} for name, value in STRUCTURES.items()}
    return {
        "study": files.name,
        "patient": files.patient,
        "scores": scores,
        **{f"mean_{metric}": float(np.mean([found[metric] for found in scores.values()])) for metric in METRICS},
        "volumes_ml": volumes,
        **{key: value for key, value in prediction.reply().items() if key not in ("label_names", "model_version")},
    }


def _ml(voxels: np.ndarray, ml: float) -> float:
    return round(float(np.count_nonzero(voxels) * ml), 2)


def evaluate_cases(
    predictor: Predictor,
    files: Sequence[StudyFile],
    condition: BoxCondition = BoxCondition.tight,
    prune: str | None = None,
    seed: int = 0,
    report: Callable[[dict[str, Any]], object] = lambda row: None,
) -> list[dict[str, Any]]:
    """The rows of all ``files`` that can be read and have a structure in their label; ``report`` sees each row as it comes. Which cannot be
    used is logged."""
    rows, reader = [], StudyReader()
    for each in files:
        try:
            row = evaluate_case(predictor, each, condition, prune, seed, reader)
        except VolumeError as error:
            logger.warning("%s is left out: %s", each.name, error)
            continue
        if row is None:
            continue
        rows.append(row)
        report(row)
    return rows


def summary(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Of ``rows``, at least one: means over cases (each structure's metrics and their mean), kept tokens, GFLOP, and median latency in ms
    by step; not rounded, so that whoever shows them rounds once. A structure's means are over the labels with it, of which there are
    ``cases``."""
    drawn = {name: [row["scores"][name] for row in rows if name in row["scores"]] for name in STRUCTURES}
    structures = {
        name: {"cases": len(found), **{metric: _mean(scores[metric] for scores in found) for metric in METRICS}}
        for name, found in drawn.items()
        if found
    }
    # a case whose box is too small for a prompt keeps all its tokens, and names no stage
    stages = {stage: None for row in rows for stage in row["kept_fraction"]}
    return {
        "cases": len(rows),
        "patients": len({row["patient"] for row in rows}),
        "structures": structures,
        **{f"mean_{metric}": _mean(row[f"mean_{metric}"] for row in rows) for metric in METRICS},
        "kept_fraction": {stage: _mean(row["kept_fraction"].get(stage, 1.0) for row in rows) for stage in stages},
        "gflops": _mean(row["gflops"] for row in rows),
        "gflops_dense": _mean(row["gflops_dense"] for row in rows),
        "latency_ms": {step: float(np.median([row["latency_ms"][step] for row in rows])) for step in rows[0]["latency_ms"]},
    }


def _mean(values: Iterable[float]) -> float:
    return float(np.mean([*values]))
