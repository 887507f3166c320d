"""StructSAM: tokens of flat places run as one, tokens at edges and under the prompt by themselves.

Source: Nguyen et al., "StructSAM: Structure- and Spectrum-Preserving Token Merging for Segment Anything Models", 2026 (arXiv 2603.07307).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from monai.networks.nets import ViT
from torch import Tensor

from prato.pruning.record import StageRecord
from scripts.research.baselines.cells import token_cells
from scripts.research.baselines.merged_tokens import join, merge
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
from scripts.research.baselines.token_buffer import mark, take, top


@register_baseline("struct_sam")
class StructSAM(TokenMethod):
    """From block ``first`` on, tokens are merged before each block and recovered after it, so that the grid stays whole.

    A token's energy is the length of the gradient of the features at its place. Of the cells of 2 x 2 tokens the share ``flat`` with the
    lowest mean energy merge, those that a prompt touches last, where the method is told of it: in each, the token of lowest energy stays,
    and the others go into the most similar of all that stay so. After the block each token is what it was, and what the block added to
    the token that holds it. Nothing is learned, there is no loss, training and evaluation are the same.

    The paper merges within the attention of SAM's encoder, whose window and global layers have their own rates; here whole blocks run on
    the merged tokens, all at one rate.
    """

    def __init__(self, host: Host, first: int = 2, flat: float = 0.5) -> None:
        super().__init__()
        self.first, self.flat = first, check_share("flat", flat)

    def encode(self, vit: ViT, tokens: Tensor, inputs: EncoderInput) -> MethodOutput:
        prompted = None if inputs.prompts is None else inputs.prompts.to(tokens.device).protected(inputs.grid)
        cells = token_cells(inputs.grid, tokens.device)
        hidden: dict[int, Tensor] = {}
        stages: list[StageRecord] = []
        for number, block in numbered_blocks(vit):
            if number < self.first:
                tokens = block(tokens)
            else:
                energy = token_energy(tokens.detach(), inputs.grid)
                chosen = flat_cells(energy, cells, prompted, max(1, round(self.flat * len(cells))))
                to, stay = merge_flat(tokens.detach(), energy, cells[chosen])
                merged, _ = merge(tokens, tokens.new_ones(tokens.shape[:2]), to, stay.shape[1])
                tokens = tokens + take(block(merged) - merged, to)
                stages.append(StageRecord(f"block {number}", inputs.grid, energy, mark(stay, tokens.shape[1])))
            if number in SKIPS:
                hidden[number] = tokens
        return MethodOutput(hidden, vit.norm(tokens), tuple(stages))


def token_energy(tokens: Tensor, grid: tuple[int, ...]) -> Tensor:
    """(B, Z): length of the gradient of layer-normed ``tokens`` (B, Z, C) on ``grid``, over channels and axes, by central differences."""
    features = F.layer_norm(tokens.float(), tokens.shape[-1:]).unflatten(1, grid)
    squares = torch.zeros_like(features[..., 0])
    for axis, count in enumerate(grid, start=1):
        places = torch.arange(count, device=tokens.device)
        ahead, behind = ((places + step).clamp(0, count - 1) for step in (1, -1))
        change = (features.index_select(axis, ahead) - features.index_select(axis, behind)) / 2
        squares = squares + change.square().sum(-1)
    return squares.sqrt().flatten(1)


def flat_cells(energy: Tensor, cells: Tensor, prompted: Tensor | None, count: int) -> Tensor:
    """int64 (B, count): which of ``cells`` (n, 2**D) have the lowest mean ``energy`` (B, Z), those with ``prompted`` (B, Z) tokens last."""
    flatness = -energy[:, cells].mean(2)
    if prompted is not None:
        flatness = torch.where(prompted[:, cells].any(2), flatness - 2 * energy.amax(1, keepdim=True) - 1, flatness)
    return top(flatness, count)


def merge_flat(tokens: Tensor, energy: Tensor, cells: Tensor) -> tuple[Tensor, Tensor]:
    """As ``merged_tokens.join`` of ``tokens`` (B, Z, C): those of ``cells`` (B, m, 2**D) go into the calmest tokens of these cells."""
    size = cells.shape[2]
    calmest = energy.gather(1, cells.flatten(1)).view_as(cells).argmin(2, keepdim=True)
    stays = cells.gather(2, calmest).squeeze(2)
    others = (torch.arange(size - 1, device=cells.device) + calmest + 1) % size  # the places in the cell but for the calmest
    leaving = cells.gather(2, others).flatten(1)
    direction = F.normalize(tokens.float(), dim=-1)
    nearest = (take(direction, leaving) @ take(direction, stays).transpose(1, 2)).argmax(2)
    return join(leaving, stays.gather(1, nearest), tokens.shape[1])
