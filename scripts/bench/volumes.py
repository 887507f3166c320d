"""The same comparison in 3D: a whole volume in one call, of networks as they are published, without training."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from prato.models.swin_unetr import PratoSwinUNETR
from prato.models.unetr import PratoUNETR
from prato.prompts.batch import PromptBatch
from prato.prompts.box import BoxPrompt
from prato.pruning.plan import PruningPlan
from scripts.bench.timing import fold_norms, make_calls, time_interleaved

#: Edge of the volume and of its box, and where the box begins: an eighth of the volume, beside its middle and between two tokens.
_VOLUME, _BOX, _CORNER = 96, 48, 32
#: A little more than the share that goes must leave, so that no token but the box's own is left.
_ENGINE = PruningPlan(prune_after=(1,), percentile=80.0, decode="kept", protect_prompted=True, margin=16.0)
_COMMON = {"in_channels": 1, "out_channels": 4, "norm_name": "batch", "spatial_dims": 3}
#: Each network, how it is built, and the multiple that the edges of what it is given must be of.
_NETWORKS: dict[str, tuple[Callable[..., Any], dict[str, Any], int]] = {
    "UNETR 3D": (PratoUNETR, {"img_size": _VOLUME}, 16),
    "Swin UNETR 3D": (PratoSwinUNETR, {"feature_size": 24, "window_size": 6}, 32),
}


@torch.inference_mode()
def volume_rows(rounds: int, device: torch.device, dtype: torch.dtype) -> list[dict[str, Any]]:
    """A row for each network and each way: dense, cut to the box, without pruning the encoder, and the engine."""
    rows = []
    for name, (build, arguments, step) in _NETWORKS.items():
        torch.manual_seed(0)
        network = build(**_COMMON, **arguments, stages=_ENGINE.prune_after).eval().to(device)
        image = torch.rand(1, 1, *(_VOLUME,) * 3, device=device) * 2 - 1
        prompts = PromptBatch.of(BoxPrompt, [[((_CORNER,) * 3, (_CORNER + _BOX,) * 3)]], (_VOLUME,) * 3)
        edge = step * -(-_BOX // step)
        corner = min(_CORNER, _VOLUME - edge)
        folded = fold_norms(network)
        cut = image[(..., *(slice(corner, corner + edge),) * 3)].contiguous()
        ways = {
            "dense": (network, image, None, None),
            "dense, norms folded": (folded, image, None, None),
            "cut to the box": (network, cut, None, None),
            "cut to the box, norms folded": (folded, cut, None, None),
            "engine": (network, image, prompts, _ENGINE),
        }
        calls = make_calls(ways, device, dtype)
        gone = 1.0 - float(calls["engine"]().stages[-1].alive.float().mean())
        for row in time_interleaved(calls, rounds, device):
            dropped = {"tokens_dropped": round(gone, 3)} if row["way"].startswith("engine") else {}
            rows.append({"model": name, "batch": 1, "box_edge": _BOX, **_share(), **row, **dropped})
    return rows


def _share() -> dict[str, float]:
    return {"box_area": round((_BOX / _VOLUME) ** 3, 4)}
