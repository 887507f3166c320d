"""Clicks on the wire: what is sent for one, and what the reply changes. Numpy alone.

The wire has masks as (I, J, K) in the order of the stored image, which may have the slices of the volume node in reverse.
"""

from __future__ import annotations

import base64
import zlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from PratoLabelLib.errors import UserError
from PratoLabelLib.measures.click_history import Step, Stroke
from PratoLabelLib.translation import translator

_ = translator(__file__)

#: The contract's limits.
MAX_STROKES, MAX_VOXELS = 256, 4096
BACKGROUND = "background"


def describe_clicks(strokes: Sequence[Stroke], slices: int | None) -> list[dict[str, Any]]:
    """The strokes as the contract has them, oldest first, as many of the newest as it takes.

    A voxel that was clicked on again is what it was last said to be.

    Args:
        slices: how many the image has, where the stored one has them in reverse; None where it has not.
    """
    seen: dict[tuple[int, ...], str] = {}
    described: list[dict[str, Any]] = []
    count = 0
    for stroke in reversed(strokes):
        points = [voxel for voxel in map(tuple, stroke.voxels.tolist()) if seen.setdefault(voxel, stroke.structure) == stroke.structure]
        count += len(points)
        if len(described) == MAX_STROKES or count > MAX_VOXELS:
            break
        if points:
            stored = [[i, j, k if slices is None else slices - 1 - k] for i, j, k in points]
            described.append({"structure": stroke.structure, "points": stored})
    return described[::-1]


def describe_steps(steps: Sequence[Step], slices: int | None) -> list[dict[str, Any]]:
    """Every click, oldest first, with what it did: for the record, which has no limit; ``slices`` as for :func:`describe_clicks`."""
    return [{**click, **step.effect} for step in steps for click in describe_clicks([step.stroke], slices)]


def make_params(strokes: Sequence[Stroke], mask: np.ndarray, certain: np.ndarray, is_reversed: bool) -> dict[str, Any]:
    """The parameters of a request for the last of ``strokes``; ``mask``, uint8 (K, J, I), knows the others, and ``certain`` was painted."""
    clicks = describe_clicks(strokes, len(mask) if is_reversed else None)
    params: dict[str, Any] = {"clicks": clicks, "done": len(clicks) - 1, "previous": encode_mask(mask, is_reversed)}
    return {**params, "certain": encode_mask(certain, is_reversed)} if certain.any() else params


def encode_mask(mask: np.ndarray, is_reversed: bool) -> dict[str, Any]:
    """A mask (K, J, I), or voxels that are certain, as the contract carries it."""
    stored = np.ascontiguousarray((mask[::-1] if is_reversed else mask).T, np.uint8)
    data = base64.b64encode(zlib.compress(stored.tobytes(), 1)).decode("ascii")
    return {"shape": list(stored.shape), "box": [bound for n in stored.shape for bound in (0, n)], "encoding": "zlib+base64", "data": data}


def apply_reply(mask: np.ndarray, refined: Mapping[str, Any], is_reversed: bool) -> np.ndarray:
    """``mask`` (K, J, I) with what the reply's ``refined`` says of its region.

    Raises:
        UserError: it is not what ``docs/protocol/clicks.md`` describes.
    """
    if refined["box"] is None:
        return mask
    try:
        i0, i1, j0, j1, k0, k1 = refined["box"]
        region = np.frombuffer(zlib.decompress(base64.b64decode(refined["mask"]["data"])), np.uint8).reshape(i1 - i0, j1 - j0, k1 - k0)
        changed = (mask[::-1] if is_reversed else mask).copy()
        changed[k0:k1, j0:j1, i0:i1] = region.T
    except (KeyError, TypeError, ValueError, zlib.error) as error:
        raise UserError(_("The server's answer to a click cannot be read: server and module are of different versions.")) from error
    return changed[::-1].copy() if is_reversed else changed
