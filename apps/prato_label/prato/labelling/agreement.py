"""How two versions of a label differ, structure by structure, and how far annotators agree."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from itertools import combinations, product
from typing import Any

import numpy as np

from prato.data.nifti import Volume, VolumeError
from prato.data.structures import STRUCTURES, voxel_counts
from prato.evaluation.metrics import case_metrics
from prato.labelling.files import list_labelled_studies
from prato.labelling.records import LabelVersionError, Version
from prato.labelling.versions import LabelVersions


def label_diff(versions: LabelVersions, old: int, new: int) -> dict[str, Any]:
    """What changed from version ``old`` to ``new``.

    Returns:
        ``image``, ``from``, ``to``, ``changed_voxels`` (of any structure), and under ``structures``, by name: ``changed_voxels`` (gained or
        lost), ``dice`` (0..1), ``hd95`` (mm), ``volume_ml`` (before and after), ``volume_change_ml``.

    Raises:
        LabelVersionError, VolumeError: no such version, or one that cannot be compared.
    """
    before, after = _read_pair(versions, old, new)
    scores = case_metrics(after.array, before.array, before.spacing)
    ml = float(np.prod(before.spacing)) / 1000
    counts = [voxel_counts(volume.array) for volume in (before, after)]
    structures = {}
    for name, value in STRUCTURES.items():
        volumes = [count.get(name, 0) * ml for count in counts]
        structures[name] = {
            "changed_voxels": int(np.count_nonzero((before.array == value) != (after.array == value))),
            "dice": round(scores[name]["dice"], 4),
            "hd95": round(scores[name]["hd95"], 2),
            "volume_ml": [round(volume, 3) for volume in volumes],
            "volume_change_ml": round(volumes[1] - volumes[0], 3),
        }
    changed = int(np.count_nonzero(before.array != after.array))
    return {"image": versions.study, "from": old, "to": new, "changed_voxels": changed, "structures": structures}


def _pair_scores(versions: LabelVersions, one: int, other: int) -> dict[str, dict[str, float]]:
    """``dice`` (0..1) and ``hd95`` (mm) between two versions, by structure.

    Raises:
        LabelVersionError, VolumeError: as ``label_diff``.
    """
    first, second = _read_pair(versions, one, other)
    scores = case_metrics(first.array, second.array, first.spacing)
    return {name: {"dice": round(found["dice"], 4), "hd95": round(found["hd95"], 2)} for name, found in scores.items()}


def _read_pair(versions: LabelVersions, one: int, other: int) -> tuple[Volume, Volume]:
    first, second = versions.read_volume(one), versions.read_volume(other)
    is_same = any(np.allclose(ours, theirs, atol=1e-3) for ours, theirs in product(first.readings, second.readings))
    if first.array.shape != second.array.shape or not is_same:
        raise LabelVersionError(
            f"Versions {one} and {other} of the label of {versions.study} lie on different grids: only labels of one image can be compared."
        )
    return first, second


def latest_by_annotator(versions: list[Version]) -> dict[str, int]:
    """Annotator -> number of the latest version that they drew: restoring another's version is not drawing it."""
    drawn_by_version: dict[int, str] = {}
    for version in versions:
        annotator = drawn_by_version.get(version.restored_from or 0, version.annotator)
        drawn_by_version[version.version] = annotator
    return {drawn_by_version[v.version]: v.version for v in versions if drawn_by_version[v.version] == v.annotator}


def study_agreement(versions: LabelVersions) -> dict[str, Any]:
    """The latest versions of a study's annotators, each against each.

    Returns:
        ``image``, ``annotators`` (name -> version), ``pairs``: a list of ``annotators`` (two) and ``structures`` (name -> ``dice`` in 0..1
        and ``hd95`` in mm; as ``prato.evaluation.metrics.case_metrics`` where one has drawn nothing).

    Raises:
        LabelVersionError, VolumeError: versions that cannot be compared.
    """
    latest = dict(sorted(latest_by_annotator(versions.all()).items()))
    pairs = [
        {"annotators": [one, other], "structures": _pair_scores(versions, latest[one], latest[other])}
        for one, other in combinations(latest, 2)
    ]
    return {"image": versions.study, "annotators": latest, "pairs": pairs}


def folder_agreement(
    studies: str | os.PathLike[str], tag: str = "final", progress: Callable[[list[str]], Iterable[str]] = iter
) -> dict[str, Any]:
    """The agreement on every study that at least two annotators labelled; ``progress`` may show a bar over the studies' names.

    Returns:
        ``images``: as ``study_agreement``, one each; ``pairs``: how many were compared; ``structures``: name -> mean ``dice`` and ``hd95``
        over all pairs, empty without a pair; ``left_out``: study -> why its versions cannot be compared.
    """
    found, left_out = [], {}
    for study in progress(list_labelled_studies(studies, tag)):
        versions = LabelVersions(studies, study, tag)
        try:
            agreement = study_agreement(versions)
        except (LabelVersionError, VolumeError) as error:
            left_out[study] = str(error)
            continue
        if agreement["pairs"]:
            found.append(agreement)
    pairs = [pair["structures"] for agreement in found for pair in agreement["pairs"]]
    structures = {
        name: {metric: round(float(np.mean([pair[name][metric] for pair in pairs])), 4) for metric in ("dice", "hd95")}
        for name in (STRUCTURES if pairs else ())
    }
    return {"images": found, "pairs": len(pairs), "structures": structures, "left_out": left_out}
