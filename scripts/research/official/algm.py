"""ALGM beside tue-mps/algm-segmenter."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
import torch.nn.functional as F
from torch import Tensor

from scripts.common.results import Row
from scripts.research.baselines.algm import pairs_above, similar_cells
from scripts.research.baselines.tome import closest, match
from scripts.research.official.beside import outcome, small_host


@torch.no_grad()
def compare(folder: Path) -> list[Row]:
    """Which patches are together after merging cells, and after merging pairs from anywhere."""
    host, tokens, inputs = small_host("algm")
    like = F.interpolate(torch.randn(len(tokens), tokens.shape[2], 4, 4), size=inputs.grid).flatten(2).transpose(1, 2)
    like += 0.3 * torch.randn_like(like)  # some cells are alike
    z, space = tokens.shape[1], dict[str, Any]()
    local, far = (folder / "algm" / "algm" / name for name in ("local_merge.py", "global_merge.py"))
    for path in (local, far):
        exec(compile(path.read_text(encoding="utf-8"), str(path), "exec"), space)
    method = host.method
    with patch.object(torch.Tensor, "cuda", lambda self, *_: self):  # they put the threshold onto a GPU
        theirs = space["conditional_pooling"](torch.cat((like[:, :1], like), 1), method.threshold, (2, 2))
    cells = _differ(theirs, similar_cells(like, inputs.grid, method.threshold), z)
    # with their class token in front, even tokens are the second set, here the first
    swapped = torch.arange(z).view(-1, 2).flip(1).flatten()
    whole = torch.cat((tokens[:, :1], tokens), 1)
    theirs = space["turbo_matching"](whole, method.far, torch.empty(len(tokens), 1, 1), class_token=True)
    ours = tokens[:, swapped]
    pairs = _differ(theirs, match(ours, pairs_above(closest(ours)[0], method.far)), z, swapped)
    return [
        outcome(local, "which patches are together after merging cells", None, *cells),
        outcome(far, "which patches are together after merging pairs", None, *pairs),
    ]


def _differ(merge: Any, ours: tuple[Tensor, Tensor], z: int, order: Tensor | None = None) -> tuple[int, int]:
    """In how many pairs of patches "are together" differs, and of how many; ``order``: which patch each of our tokens is."""
    to, stay = ours
    batch = len(to)
    source = merge(torch.eye(1 + z).expand(batch, -1, -1), mode="amax")[:, :, 1:]  # tokens x patches
    theirs = (source.transpose(1, 2) @ source) > 0
    here = F.one_hot(to, stay.shape[1]).float()
    if order is not None:
        here = torch.zeros_like(here).index_copy(1, order, here)
    found = (here @ here.transpose(1, 2)) > 0
    return int((found != theirs).sum()), found.numel()
