"""A row of MONAI transformer blocks on a token grid, pruned after some of them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from torch import Tensor

from prato.pruning.prompted_pruning import PromptedPruning, first_gate
from prato.pruning.tokens import KeptTokens, relaxed_block


def run_dropping(blocks: Iterable[Any], canvas: Tensor, grid: tuple[int, ...], pruning: PromptedPruning) -> Tensor:
    """``blocks`` on the living tokens of ``canvas`` (B, Z, C) alone; a token that left keeps the value it had."""
    alive = pruning.start(grid)
    kept = KeptTokens(alive)
    tokens = kept.gather(canvas)
    for number, block in enumerate(blocks, start=1):
        tokens = kept.run(block, tokens)
        if number in pruning.plan.after:
            canvas = kept.scatter(canvas, tokens)
            alive = pruning.prune(f"block {number}", grid, pruning.score(number, canvas, grid, alive), alive).alive
            kept = KeptTokens(alive)
            tokens = kept.gather(canvas)
    return kept.scatter(canvas, tokens)


def run_relaxed(blocks: Iterable[Any], x: Tensor, grid: tuple[int, ...], pruning: PromptedPruning) -> Tensor:
    """The same numbers with every token computed and a gradient to the relevance; or, in mode "mask", eq. 5 as it stands."""
    masking = pruning.plan.mode == "mask"
    alive = pruning.start(grid)
    gate = first_gate(alive, x.dtype)
    if masking and gate is not None:
        x = x * gate.unsqueeze(-1)
    for number, block in enumerate(blocks, start=1):
        x = block(x) if gate is None or masking else relaxed_block(block, x, gate)
        if number in pruning.plan.after:
            record = pruning.prune(f"block {number}", grid, pruning.score(number, x, grid, alive), alive)
            gate, alive = pruning.gate(record, alive, gate), record.alive
            if masking:
                x = x * gate.unsqueeze(-1)  # eq. 5: beta * Y
    return x
