"""How two versions of a label differ, structure by structure, and how well annotators agree."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from itertools import combinations
from typing import Any

import numpy as np

from prato.data.labels.names import MisplacedLabelError
from prato.data.nifti import Volume, VolumeError
from prato.data.structures import STRUCTURES, voxel_counts, voxel_ml
from prato.evaluation.metrics import case_metrics
from prato.labelling.files import list_labelled_studies
from prato.labelling.phases import phase_count, phase_of
from prato.labelling.records import LabelVersionError, Version, person_of
from prato.labelling.versions import LabelVersions


def label_diff(versions: LabelVersions, old: int, new: int) -> dict[str, Any]:
    """What changed from version ``old`` to ``new``.

    Returns:
        ``image``, ``from``, ``to``, ``changed_voxels`` (of any structure), and under ``structures``, by name: ``changed_voxels`` (gained or
        lost), ``dice`` (0..1), ``hd95`` (mm), ``volume_ml`` (before and after), ``volume_change_ml``. Of a cine, ``phases`` instead: each
        that changed, by number, with its ``changed_voxels`` and ``structures``.

    Raises:
        LabelVersionError, VolumeError: no such version, or one that cannot be compared.
    """
    before, after = _read_pair(versions, old, new)
    count = phase_count(before.array)
    arrays = {n: (phase_of(before.array, n), phase_of(after.array, n)) for n in range(count)}
    changed = {n: int(np.count_nonzero(one != other)) for n, (one, other) in arrays.items()}
    found = {"image": versions.study, "from": old, "to": new, "changed_voxels": sum(changed.values())}
    if count == 1:
        return {**found, "structures": _diff_structures(*arrays[0], before.spacing)}
    phases = {
        str(n): {"changed_voxels": voxels, "structures": _diff_structures(*arrays[n], before.spacing)}
        for n, voxels in changed.items()
        if voxels
    }
    return {**found, "phases": phases}


def _diff_structures(before: np.ndarray, after: np.ndarray, spacing: tuple[float, float, float]) -> dict[str, dict[str, Any]]:
    """By structure, what changed between two masks (X, Y, Z) of voxels of ``spacing`` mm; see ``label_diff``."""
    scores, ml = case_metrics(after, before, spacing), voxel_ml(spacing)
    counts = [voxel_counts(mask) for mask in (before, after)]
    structures = {}
    for name, value in STRUCTURES.items():
        volumes = [count.get(name, 0) * ml for count in counts]
        structures[name] = {
            "changed_voxels": int(np.count_nonzero((before == value) != (after == value))),
            "dice": round(scores[name]["dice"], 4),
            "hd95": round(scores[name]["hd95"], 2),
            "volume_ml": [round(volume, 3) for volume in volumes],
            "volume_change_ml": round(volumes[1] - volumes[0], 3),
        }
    return structures


def _pair_scores(first: Volume, second: Volume, phase: int) -> dict[str, dict[str, float]]:
    """``dice`` (0..1) and ``hd95`` (mm) between two versions of a phase, by structure."""
    scores = case_metrics(phase_of(first.array, phase), phase_of(second.array, phase), first.spacing)
    return {name: {"dice": found["dice"], "hd95": found["hd95"]} for name, found in scores.items()}


def _rounded(agreement: dict[str, Any]) -> dict[str, Any]:
    """``agreement`` as replies have it: whoever takes means does so before."""
    pairs = [{**pair, "structures": {name: _round(found) for name, found in pair["structures"].items()}} for pair in agreement["pairs"]]
    return {**agreement, "pairs": pairs}


def _round(scores: Mapping[str, float]) -> dict[str, float]:
    return {"dice": round(scores["dice"], 4), "hd95": round(scores["hd95"], 2)}


def _read_pair(versions: LabelVersions, one: int, other: int) -> tuple[Volume, Volume]:
    """Both versions as what they mean, in the index order of the first."""
    first = versions.read_mask(one)
    try:
        return first, versions.read_mask(other, first)
    except MisplacedLabelError as error:
        raise LabelVersionError(
            f"Versions {one} and {other} of the label of {versions.study} lie on different grids: only labels of one image can be compared."
        ) from error


def latest_by_annotator(versions: list[Version]) -> dict[int, dict[str, int]]:
    """Phase -> annotator, by the name that they gave last -> number of the latest version in which they drew it: restoring another's is not
    drawing it."""
    names: dict[str, str] = {}
    latest: dict[int, dict[str, int]] = {}
    for version in versions:
        for number in sorted(version.drawn_phases()):
            editor = version.phases[number].editor
            person = person_of(editor)
            if version.origin != "restored" or person == person_of(version.annotator):
                names[person] = editor
                latest.setdefault(number, {})[person] = version.version
    return {number: {names[person]: drawn for person, drawn in found.items()} for number, found in sorted(latest.items())}


def study_agreement(versions: LabelVersions) -> dict[str, Any]:
    """The latest versions of a study's annotators, each against each, in every phase that two of them drew.

    Returns:
        ``image``, ``annotators`` (name -> latest version), ``pairs``: a list of ``annotators`` (two) and ``structures`` (name -> ``dice``
        in 0..1 and ``hd95`` in mm; as ``prato.evaluation.metrics.case_metrics`` where one has drawn nothing), of a cine with the ``phase``.

    Raises:
        LabelVersionError, VolumeError: versions that cannot be compared.
    """
    return _rounded(_compare_annotators(versions))


def _compare_annotators(versions: LabelVersions) -> dict[str, Any]:
    """``study_agreement``, not rounded."""
    by_phase = latest_by_annotator(versions.all())
    annotators: dict[str, int] = {}
    pairs = []
    for phase, latest in by_phase.items():
        annotators |= {name: max(number, annotators.get(name, 0)) for name, number in latest.items()}
        for one, other in combinations(sorted(latest), 2):
            masks = _read_pair(versions, latest[one], latest[other])
            where = {"phase": phase} if phase_count(masks[0].array) > 1 else {}
            pairs.append({"annotators": [one, other], **where, "structures": _pair_scores(*masks, phase)})
    return {"image": versions.study, "annotators": dict(sorted(annotators.items())), "pairs": pairs}


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
            agreement = _compare_annotators(versions)
        except (LabelVersionError, VolumeError) as error:
            left_out[study] = str(error)
            continue
        if agreement["pairs"]:
            found.append(agreement)
    pairs = [pair["structures"] for agreement in found for pair in agreement["pairs"]]
    structures = {
        name: _round({metric: float(np.mean([pair[name][metric] for pair in pairs])) for metric in ("dice", "hd95")})
        for name in (STRUCTURES if pairs else ())
    }
    return {"images": [_rounded(agreement) for agreement in found], "pairs": len(pairs), "structures": structures, "left_out": left_out}
