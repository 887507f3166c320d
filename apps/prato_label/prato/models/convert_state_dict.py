"""Weights of one network as a start for the same network with other pruning stages, a larger field of view or twice the channels."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from prato.models.net2net import is_half_of, widen
from prato.models.vit_encoder import middle_positions

_POSITIONS = "vit.patch_embedding.position_embeddings"


def convert_state_dict(state: dict[str, Tensor], network: nn.Module) -> dict[str, Tensor]:
    """``state`` made to fit ``network``.

    Relevance projections of stages that ``state`` does not know keep the values that ``network`` has; those of its own are left out where
    ``network`` lacks the stage. Position embeddings of a smaller grid lie in the middle of the larger one, whose rim repeats the outermost;
    of a larger grid the middle is taken; both are square. A Swin UNETR of half the channels is widened, by torch's generator. What else
    differs is left for ``load_state_dict`` to refuse. Neither ``state`` nor ``network`` is changed.
    """
    own = network.state_dict()
    if is_half_of(state, own):
        state = widen(state, own)
    out = {name: value for name, value in state.items() if name in own or not name.startswith("relevance.")}
    out.update({name: value for name, value in own.items() if name.startswith("relevance.") and name not in state})
    if _POSITIONS in out and out[_POSITIONS].shape != own[_POSITIONS].shape:
        out[_POSITIONS] = _resize_positions(out[_POSITIONS], own[_POSITIONS].shape[1])
    return out


def _resize_positions(positions: Tensor, tokens: int) -> Tensor:
    """Square 2D position embeddings (1, Z, C) on a square grid of ``tokens``."""
    old, new = round(positions.shape[1] ** 0.5), round(tokens**0.5)
    if new <= old:
        return middle_positions(positions, (old, old), (new, new)).contiguous()
    before = (new - old) // 2
    grid = positions.transpose(1, 2).unflatten(2, (old, old))
    return F.pad(grid, (before, new - old - before) * 2, mode="replicate").flatten(2).transpose(1, 2).contiguous()
