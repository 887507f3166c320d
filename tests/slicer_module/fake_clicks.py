"""How the fake server replies to clicks: a disc of the structure where the last one is, certain voxels left out."""

from __future__ import annotations

import base64
import threading
import zlib
from typing import Any

import numpy as np

RADIUS = 2
VALUES = {"background": 0, "RV cavity": 1, "myocardium": 2, "LV cavity": 3}


def decode(sent: dict[str, Any]) -> np.ndarray:
    """A mask (I, J, K) that was sent whole."""
    assert sent["box"] == [bound for n in sent["shape"] for bound in (0, n)]
    return np.frombuffer(zlib.decompress(base64.b64decode(sent["data"])), np.uint8).reshape(sent["shape"]).copy()


def refine(mask: np.ndarray, click: dict[str, Any], certain: np.ndarray | None = None) -> tuple[np.ndarray, list[int]]:
    """``mask`` (I, J, K) after a click, and the region outside of which it is as before."""
    refined, points = mask.copy(), np.array(click["points"])
    low, stop = np.maximum(points.min(axis=0) - RADIUS, 0), np.minimum(points.max(axis=0) + RADIUS + 1, mask.shape)
    k = int(points[0, 2])
    grid = np.stack(np.meshgrid(*(np.arange(n) for n in mask.shape[:2]), indexing="ij"), -1)
    near = np.any([np.hypot(*np.moveaxis(grid - point[:2], -1, 0)) <= RADIUS for point in points], axis=0)
    if certain is not None:
        near &= certain[..., k] == 0
    near[points[:, 0], points[:, 1]] = True
    refined[near, k] = VALUES[click["structure"]]
    return refined, [int(low[0]), int(stop[0]), int(low[1]), int(stop[1]), k, k + 1]


class ClickReplies:
    """What a fake client needs to reply to clicks; ``click_gate`` holds replies back while it is not set."""

    def __init__(self) -> None:
        self.click_gate = threading.Event()
        self.click_gate.set()

    def correct(self, model: str, study: str, params: dict[str, Any]) -> dict[str, Any]:
        self._record("click", model, study, params)  # type: ignore[attr-defined]
        self.click_gate.wait(200)
        assert params["done"] == len(params["clicks"]) - 1
        mask, certain = decode(params["previous"]), decode(params["certain"]) if "certain" in params else None
        refined, box = refine(mask, params["clicks"][-1], certain)
        part = refined[box[0] : box[1], box[2] : box[3], box[4] : box[5]]
        data = base64.b64encode(zlib.compress(np.ascontiguousarray(part).tobytes(), 1)).decode()
        return {"refined": {"box": box, "changed_voxels": int((refined != mask).sum()), "model_version": "c1", "mask": {"data": data}}}
