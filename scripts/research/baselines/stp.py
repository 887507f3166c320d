"""STP: soft top-k token pruning, and assembly of all levels for the dense output.

Source: Zhou et al., "Token Sparsification for Faster Medical Image Segmentation", IPMI 2023.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from monai.networks.blocks import TransformerBlock
from monai.networks.blocks.pos_embed_utils import build_sincos_position_embedding
from monai.networks.nets import ViT
from torch import Tensor, nn

from prato.pruning.record import StageRecord
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
from scripts.research.baselines.scorer import TokenScorer
from scripts.research.baselines.token_buffer import TokenBuffer, mark, put, take, top


@register_baseline("stp")
class STP(TokenMethod):
    """After the blocks ``after`` equal shares of the living tokens leave, so that the share ``pruned`` of the grid has left after the last.
    (In the authors' code that share of the living leaves at each: of the few tokens of a slice, hardly one would be left.)

    A scorer's log-sigmoid ranks them. In training Gumbel noise is added, and a straight-through estimator joins the hard choice with the
    softmax (temperature ``tau``) over the living: kept tokens are multiplied by m, those that leave by 1 - m, all 1 in value. Tokens are
    removed in training too. No loss of its own.

    Restore (the paper's multi-layer token assembly): the tokens of each level, those that left at a stage and those that stayed to the end,
    pass a layer norm and linear layer of their level, get a level embedding, and are put back on the grid; a sine-cosine position, one
    full transformer block, a layer norm and a linear layer follow. The same tensor feeds every skip and the bottleneck.
    """

    def __init__(self, host: Host, after: tuple[int, ...] = (3, 6, 9), pruned: float = 0.75, tau: float = 1.0) -> None:
        super().__init__()
        if not tau > 0:
            raise ValueError(f"tau must be above 0, not {tau}.")
        self.after, self.tau = tuple(after), tau
        self.keep = (1 - check_share("pruned", pruned)) ** (1 / len(self.after))
        self.score = nn.ModuleDict({str(number): TokenScorer(host.dim, 1) for number in self.after})
        levels = len(self.after) + 1
        self.levels = nn.ModuleList(nn.Sequential(nn.LayerNorm(host.dim), nn.Linear(host.dim, host.dim)) for _ in range(levels))
        self.level_embedding = nn.Parameter(torch.zeros(levels, host.dim))
        nn.init.trunc_normal_(self.level_embedding, std=0.02)
        self.assemble = TransformerBlock(host.dim, host.mlp_dim, host.heads, qkv_bias=True)
        self.project = nn.Sequential(nn.LayerNorm(host.dim), nn.Linear(host.dim, host.dim))

    def encode(self, vit: ViT, tokens: Tensor, inputs: EncoderInput) -> MethodOutput:
        buffer, canvas = TokenBuffer(tokens), torch.zeros_like(tokens)
        stages: list[StageRecord] = []
        for number, block in numbered_blocks(vit):
            buffer.tokens = block(buffer.tokens)
            if number in self.after:
                before, score = buffer.index, F.logsigmoid(self.score[str(number)](buffer.tokens)).squeeze(-1)
                count = max(1, round(tokens.shape[1] * self.keep ** (len(stages) + 1)))
                chosen, mask = self._choice(score, count)
                if mask is not None:
                    buffer.tokens = buffer.tokens * mask.unsqueeze(-1)
                gone = _others(chosen, before.shape[1])
                canvas = self._level(len(stages), canvas, before.gather(1, gone), take(buffer.tokens, gone))
                buffer.keep(chosen)
                stages.append(buffer.record(number, inputs.grid, score.detach(), before))
        canvas = self._level(len(stages), canvas, buffer.index, buffer.tokens)
        where = build_sincos_position_embedding(list(inputs.grid), canvas.shape[-1], len(inputs.grid)).to(canvas)
        restored = self.project(self.assemble(canvas + where))
        return MethodOutput(dict.fromkeys(SKIPS, restored), restored, tuple(stages))

    def _choice(self, score: Tensor, count: int) -> tuple[Tensor, Tensor | None]:
        """Places (B, count) of the tokens that stay and, in training, what to multiply the tokens by: (B, n), 1 in value."""
        if not self.training:
            return top(score, count), None
        noise = -torch.log(-torch.log(torch.rand_like(score).clamp(1e-9, 1 - 1e-6)))
        noisy = score + noise
        chosen, soft = top(noisy, count), (noisy / self.tau).softmax(-1)
        hard = torch.zeros_like(soft).scatter(1, chosen, 1.0)
        mask = hard + (soft - soft.detach())
        return chosen, torch.where(hard > 0.5, mask, 1 - mask)

    def _level(self, level: int, canvas: Tensor, places: Tensor, tokens: Tensor) -> Tensor:
        return put(canvas, places, self.levels[level](tokens) + self.level_embedding[level])


def _others(places: Tensor, count: int) -> Tensor:
    """int64 (B, count - k): the places that are not in ``places`` (B, k), in ascending order."""
    return top((~mark(places, count)).float(), count - places.shape[1])
