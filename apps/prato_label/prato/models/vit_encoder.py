"""A row of MONAI transformer blocks on one token grid, pruned after some of them: the encoder of UNETR and TransUNet."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

from torch import Tensor, nn

from prato.models.base import ImageEmbedding
from prato.pruning.plan import PruningPlan
from prato.pruning.prompted_pruning import PromptedPruning
from prato.pruning.tokens import run_block


def embed_patches(embedding: Any, x: Tensor, whole: Sequence[int], grid: tuple[int, ...]) -> Tensor:
    """Tokens (B, Z, C) of ``x`` by MONAI's ``PatchEmbeddingBlock``, of convolutions: on a ``grid`` that is smaller than its ``whole`` one,
    with the positions in the middle of that."""
    if grid == tuple(whole):
        found: Tensor = embedding(x)
        return found
    tokens = embedding.patch_embeddings(x).flatten(2).transpose(1, 2)
    placed: Tensor = embedding.dropout(tokens + middle_positions(embedding.position_embeddings, whole, grid))
    return placed


def middle_positions(positions: Tensor, whole: Sequence[int], grid: Sequence[int]) -> Tensor:
    """Of position embeddings (1, Z, C) on a grid of ``whole`` tokens those in its middle, on ``grid``."""
    middle = (slice(None), *(slice((n - g) // 2, (n - g) // 2 + g) for n, g in zip(whole, grid)))
    return positions.unflatten(1, tuple(whole))[middle].flatten(1, -2)


def embed_blocks(blocks: nn.ModuleList, tokens: Tensor, plan: PruningPlan, skips: Collection[int] = ()) -> ImageEmbedding:
    """The blocks that no prompt has a say in, on all ``tokens`` (B, Z, C), in evaluation.

    Args:
        skips: blocks, counted from 1, whose outputs the decoder needs.
    """
    features = {0: tokens} if plan.unprompted_depth == 0 else {}
    block: Any
    for number, block in enumerate(blocks[: plan.unprompted_depth], start=1):
        tokens = run_block(block, tokens)
        if number in skips or number in plan.prune_after:
            features[number] = tokens
    return ImageEmbedding(plan.unprompted_depth, features)


def encode_blocks(
    blocks: nn.ModuleList, embedding: ImageEmbedding, grid: tuple[int, ...], pruning: PromptedPruning, skips: Collection[int] = ()
) -> tuple[dict[int, Tensor], Tensor]:
    """The ``blocks`` that ``embedding`` does not hold, on the tokens that ``pruning`` lets live: dropped, gated or in static shapes.

    Args:
        embedding: tokens (B, Z, C) on ``grid``.
        skips: blocks, counted from 1, whose outputs the decoder needs.

    Returns:
        The outputs of ``skips`` and of the last block, each (B, Z, C): a token that has left keeps the value it had.
    """
    canvas, outputs = embedding.tokens, dict(embedding.features)
    living = pruning.start(grid, canvas.dtype)
    buffer = pruning.buffer(living)
    tokens = buffer.gather(canvas)
    block: Any
    for number, block in enumerate(blocks, start=1):
        is_pruned = number in pruning.plan.prune_after
        if number > embedding.depth:
            tokens = buffer.run(block, tokens)
            if number in skips or is_pruned:
                canvas = outputs[number] = buffer.scatter(canvas, tokens)
        if is_pruned:
            score = pruning.score(number, canvas, living)
            living = pruning.prune(score, living)
            pruning.record(f"block {number}", score, living)
            buffer = pruning.buffer(living)
            tokens = buffer.gather(canvas)
    return {number: outputs[number] for number in skips}, buffer.scatter(canvas, tokens)
