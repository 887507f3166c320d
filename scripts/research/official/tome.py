"""ToMe beside facebookresearch/ToMe."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from scripts.common.results import Row
from scripts.research.baselines.merged_tokens import merge
from scripts.research.baselines.token_buffer import take
from scripts.research.baselines.tome import match
from scripts.research.official.beside import BATCH, DIM, HEADS, outcome, small_host


@torch.no_grad()
def compare(folder: Path) -> list[Row]:
    """Merging in three blocks one after the other: every patch's value, and which patches are together."""
    path = folder / "tome" / "merge.py"
    space: dict[str, Any] = {}
    exec(compile(path.read_text(encoding="utf-8"), str(path), "exec"), space)
    tokens, keys = small_host("tome")[1], torch.randn(3, BATCH, 64, DIM // HEADS)
    ours, size = tokens, torch.ones(tokens.shape[:2])
    holder = torch.arange(tokens.shape[1]).expand(BATCH, -1)
    theirs: Any = tokens
    their_size: Any = None
    source: Any = None
    differences, differ, back = [], 0, torch.empty(0)
    for of_block in keys:  # the keys of a token are those of the first patch in it, on both sides
        to, stay = match(_of_first(of_block, holder), 8)
        found, _ = space["bipartite_soft_matching"](_of_first(of_block, holder), 8)
        if source is not None:  # both orders of tokens: here the grid's, there merged ones last
            theirs, their_size, source = [x.gather(1, back.expand_as(x)) for x in (theirs, their_size, source)]
        source = space["merge_source"](found, theirs, source)
        theirs, their_size = space["merge_wavg"](found, theirs, their_size)
        ours, size = merge(ours, size, to, stay.shape[1])
        holder = to.gather(1, holder)
        here = F.one_hot(holder, ours.shape[1]).float()
        differ += int(((here @ here.transpose(1, 2)) != (source.transpose(1, 2) @ source)).sum())
        differences.append((take(ours, holder) - source.transpose(1, 2) @ theirs).abs().amax())
        names = source.argmax(2)  # the first patch in each of their tokens
        back = holder.gather(1, names).argsort(1).unsqueeze(-1)
    return [
        outcome(path, "every patch's value, and which patches are together", torch.stack(differences).amax(), differ, 3 * BATCH * 64**2)
    ]


def _of_first(keys: Tensor, holder: Tensor) -> Tensor:
    """The keys (B, n, d) of n tokens: those (B, Z, d) of the first patch that each holds."""
    count = int(holder.amax()) + 1
    first = torch.stack([(holder == token).float().argmax(1) for token in range(count)], dim=1)
    return take(keys, first)
