"""ToMe: in every block, the most similar tokens become one (Bolya et al., "Token Merging: Your ViT But Faster", ICLR 2023)."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from monai.networks.nets import ViT
from torch import Tensor

from prato.pruning.record import StageRecord
from scripts.research.baselines.block import attend, mlp_residual
from scripts.research.baselines.method import (
    SKIPS,
    EncoderInput,
    Host,
    MethodOutput,
    TokenMethod,
    check_share,
    numbered_blocks,
    register_baseline,
)
from scripts.research.baselines.token_buffer import take, top


@register_baseline("tome")
class ToMe(TokenMethod):
    """Between attention and MLP of every block, a share ``merged`` of the grid's tokens (the paper's r, here free of the image's size) is
    merged into others.

    Tokens go in turn to two sets; each of the first finds its most similar partner in the second, by the cosine of keys averaged
    over heads; the closest pairs are merged, each token weighing as much as the patches in it. Attention adds the logarithm of that size
    to the keys' scores (proportional attention). Nothing is learned, there is no loss, training and evaluation are the same. Every patch
    is restored with the value of the token that holds it. A record's "relevance" is the size of the token that holds a patch; alive are
    the patches that a token is named after.
    """

    def __init__(self, host: Host, merged: float = 0.05) -> None:
        super().__init__()
        self.merged = check_share("merged", merged)

    def encode(self, vit: ViT, tokens: Tensor, inputs: EncoderInput) -> MethodOutput:
        batch, patches = tokens.shape[:2]
        size = tokens.new_ones(batch, patches)
        holder = torch.arange(patches, device=tokens.device).expand(batch, patches)  # by patch: which token it is in
        name = holder  # by token: the patch that it is named after
        hidden: dict[int, Tensor] = {}
        stages: list[StageRecord] = []
        for number, block in numbered_blocks(vit):
            attended = attend(block, tokens, proportional(size))
            tokens = tokens + attended.update
            count = min(round(self.merged * patches), tokens.shape[1] // 2)
            to, stay = match(attended.keys.detach().mean(1), count)
            tokens, size = merge(tokens, size, to, stay.shape[1])
            holder, name = to.gather(1, holder), name.gather(1, stay)
            tokens = mlp_residual(block, tokens)
            alive = torch.zeros(batch, patches, dtype=torch.bool, device=tokens.device).scatter(1, name, True)
            stages.append(StageRecord(f"block {number}", inputs.grid, size.gather(1, holder), alive))
            if number in SKIPS:
                hidden[number] = take(tokens, holder)
        return MethodOutput(hidden, vit.norm(take(tokens, holder)), tuple(stages))


def proportional(size: Tensor) -> Callable[[Tensor], Tensor]:
    """Softmax over keys that count as many times as there are patches in them: ``size`` (B, n)."""
    return lambda scores: (scores + size.log()[:, None, None]).softmax(-1)


def match(keys: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Bipartite soft matching.

    Args:
        keys: (B, n, d). count: tokens to merge away, at most n // 2.

    Returns:
        As :func:`join`: the ``count`` tokens of the first set that are closest to their partners go into these.
    """
    similarity, partner = closest(keys)
    leaving = top(similarity, count)  # places of the first set are even
    return join(2 * leaving, 2 * partner.gather(1, leaving) + 1, keys.shape[1])


def closest(keys: Tensor) -> tuple[Tensor, Tensor]:
    """For each token of the first set, which tokens at even places are, its partner in the second.

    Args:
        keys: (B, n, d).

    Returns:
        Cosine similarity, and int64 number of the partner in its set, both (B, (n + 1) // 2).
    """
    direction = F.normalize(keys.float(), dim=-1)
    similarity, partner = (direction[:, ::2] @ direction[:, 1::2].transpose(1, 2)).max(-1)
    return similarity, partner


def join(leaving: Tensor, joins: Tensor, n: int) -> tuple[Tensor, Tensor]:
    """Where tokens go when those at ``leaving`` (B, k) go into those at ``joins`` (B, k), which stay.

    Returns:
        int64 (B, n), the place that each of ``n`` tokens takes among the tokens afterwards, and int64 (B, n - k), which tokens those are
        named after, in ascending order.
    """
    stays = torch.ones(len(leaving), n, dtype=torch.bool, device=leaving.device).scatter(1, leaving, False)
    place = stays.cumsum(1) - 1
    return place.scatter(1, leaving, place.gather(1, joins)), top(stays.float(), n - leaving.shape[1])


def merge(tokens: Tensor, size: Tensor, to: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """The ``count`` tokens (B, count, C) that ``tokens`` (B, n, C) become, each the mean by ``size`` (B, n), and their sizes (B, count)."""
    total = size.new_zeros(len(size), count).scatter_add(1, to, size)
    weighted = tokens * size.unsqueeze(-1)
    summed = weighted.new_zeros(len(tokens), count, tokens.shape[-1]).scatter_add(1, to.unsqueeze(-1).expand_as(weighted), weighted)
    return summed / total.unsqueeze(-1), total
