"""How two versions of a label differ, structure by structure."""

from __future__ import annotations

from typing import Any

import numpy as np

from prato.data.nifti import Volume
from prato.data.structures import STRUCTURES, voxel_counts
from prato.evaluation.metrics import case_metrics
from prato.labelling.version import LabelVersionError
from prato.labelling.versions import LabelVersions


def label_diff(versions: LabelVersions, old: int, new: int) -> dict[str, Any]:
    """What changed from version ``old`` to ``new``.

    Returns:
        ``image``, ``from``, ``to``, ``changed_voxels`` (of any structure), and under ``structures``, by name: ``changed_voxels`` (gained or
        lost), ``dice`` (0..1), ``hd95`` (mm), ``volume_ml`` (before and after), ``volume_change_ml``.

    Raises:
        LabelVersionError, VolumeError: no such version, or one that cannot be compared.
    """
    before, after = _pair(versions, old, new)
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


def likeness(versions: LabelVersions, one: int, other: int) -> dict[str, dict[str, float]]:
    """``dice`` (0..1) and ``hd95`` (mm) between two versions, by structure.

    Raises:
        LabelVersionError, VolumeError: as ``label_diff``.
    """
    first, second = _pair(versions, one, other)
    scores = case_metrics(first.array, second.array, first.spacing)
    return {name: {"dice": round(found["dice"], 4), "hd95": round(found["hd95"], 2)} for name, found in scores.items()}


def _pair(versions: LabelVersions, one: int, other: int) -> tuple[Volume, Volume]:
    first, second = versions.volume(one), versions.volume(other)
    if first.array.shape != second.array.shape or not np.allclose(first.affine, second.affine, atol=1e-3):
        raise LabelVersionError(
            f"Versions {one} and {other} of the label of {versions.study} lie on different grids: only labels of one image can be compared."
        )
    return first, second
