"""ToMe: in every block, the most similar tokens become one (Bolya et al., "Token Merging: Your ViT But Faster", ICLR 2023)."""

from __future__ import annotations

from collections.abc import Callable

import torch.nn.functional as F
from monai.networks.nets import ViT
from torch import Tensor

from prato.pruning.record import StageRecord
from scripts.research.baselines.block import attend, mlp_residual
from scripts.research.baselines.merged_tokens import MergedTokens, join
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
from scripts.research.baselines.token_buffer import top


@register_baseline("tome")
class ToMe(TokenMethod):
    """Between attention and MLP of every block, a share ``merged`` of the grid's tokens (the paper's r, here free of the image's size) is
    merged into others.

    Tokens go in turn to two sets; each of the first finds its most similar partner in the second, by the cosine of keys averaged
    over heads; the closest pairs are merged, each token weighing as much as the patches in it. Attention adds the logarithm of that size
    to the keys' scores (proportional attention). Nothing is learned, there is no loss, training and evaluation are the same. Every patch
    is restored with the value of the token that holds it.
    """

    def __init__(self, host: Host, merged: float = 0.05) -> None:
        super().__init__()
        self.merged = check_share("merged", merged)

    def encode(self, vit: ViT, tokens: Tensor, inputs: EncoderInput) -> MethodOutput:
        merged, most = MergedTokens(tokens), round(self.merged * tokens.shape[1])
        hidden: dict[int, Tensor] = {}
        stages: list[StageRecord] = []
        for number, block in numbered_blocks(vit):
            attended = attend(block, merged.tokens, proportional(merged.size))
            merged.tokens = merged.tokens + attended.update
            merged.merge(*match(attended.keys.detach().mean(1), min(most, merged.tokens.shape[1] // 2)))
            merged.tokens = mlp_residual(block, merged.tokens)
            stages.append(merged.record(number, inputs.grid))
            if number in SKIPS:
                hidden[number] = merged.restored
        return MethodOutput(hidden, vit.norm(merged.restored), tuple(stages))


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
        keys: (B, n, d), by which tokens are compared.

    Returns:
        Cosine similarity, and int64 number of the partner in its set, both (B, (n + 1) // 2).
    """
    direction = F.normalize(keys.float(), dim=-1)
    similarity, partner = (direction[:, ::2] @ direction[:, 1::2].transpose(1, 2)).max(-1)
    return similarity, partner
