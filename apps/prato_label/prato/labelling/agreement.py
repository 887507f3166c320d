"""How far annotators agree on the hearts that several of them labelled."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from itertools import combinations
from typing import Any

import numpy as np

from prato.data.nifti import VolumeError
from prato.data.structures import STRUCTURES
from prato.labelling.comparison import likeness
from prato.labelling.studies import labelled_names
from prato.labelling.version import LabelVersionError, Version
from prato.labelling.versions import LabelVersions


def latest_by_annotator(versions: list[Version]) -> dict[str, int]:
    """Annotator -> number of the latest version that shows what they drew: who restores another's version has not drawn it."""
    makers: dict[int, str] = {}
    for version in versions:
        drawn_by = makers.get(version.restored_from or 0, version.annotator)
        makers[version.version] = drawn_by
    return {makers[v.version]: v.version for v in versions if makers[v.version] == v.annotator}


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
        {"annotators": [one, other], "structures": likeness(versions, latest[one], latest[other])} for one, other in combinations(latest, 2)
    ]
    return {"image": versions.study, "annotators": latest, "pairs": pairs}


def folder_agreement(
    studies: str | os.PathLike[str], tag: str = "final", watched: Callable[[list[str]], Iterable[str]] = iter
) -> dict[str, Any]:
    """The agreement on every study that at least two annotators labelled; ``watched`` may show a bar over the studies' names.

    Returns:
        ``images``: as ``study_agreement``, one each; ``pairs``: how many were compared; ``structures``: name -> mean ``dice`` and ``hd95``
        over all pairs, empty without a pair; ``left_out``: study -> why its versions cannot be compared.
    """
    found, left_out = [], {}
    for study in watched(labelled_names(studies, tag)):
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
