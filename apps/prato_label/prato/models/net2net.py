"""Widens a Swin UNETR of half the channels into one that computes the same."""

from __future__ import annotations

import torch
from torch import Tensor


def widen(state: dict[str, Tensor], own: dict[str, Tensor]) -> dict[str, Tensor]:
    """``state`` of a :class:`~prato.models.swin_unetr.PratoSwinUNETR` for one of twice its ``feature_size`` and as many heads.

    Net2Net's widening (Chen et al., ICLR 2016) in all layers at once: every channel stands twice, and a weight on it is dealt at random
    (torch's generator) to its two copies, so that these learn different things from the first step. Scalar products of what stands twice
    (queries on keys, prompt on tokens) are scaled back.

    Args:
        state: of the narrow network.
        own: of the wide one; tells the shapes.

    Returns:
        A state dict; tensors whose shape is neither the wide one nor half of it are left for ``load_state_dict`` to refuse.
    """
    return {name: _double(name, value, own[name].shape) if name in own else value for name, value in state.items()}


def is_half_of(state: dict[str, Tensor], own: dict[str, Tensor]) -> bool:
    """Whether ``state`` is that of a network with half the channels in its first layer."""
    first = "swinViT.patch_embed.proj.weight"
    return first in state and first in own and 2 * state[first].shape[0] == own[first].shape[0]


def _double(name: str, value: Tensor, wide: torch.Size) -> Tensor:
    if value.shape == wide or value.ndim != len(wide) or name.endswith("relative_position_bias_table"):  # that one has heads, no channels
        return value
    reads = 0 if "transp_conv" in name else 1  # the axis of a weight that its input channels lie on
    for axis, (old, new) in enumerate(zip(value.shape, wide)):
        if new != 2 * old:
            continue
        value = value.repeat_interleave(2, axis)
        if value.ndim > 1 and axis == reads:
            first = torch.rand_like(value.unflatten(axis, (old, 2)).select(axis + 1, 0))
            value = value * torch.stack((first, 1 - first), axis + 1).flatten(axis, axis + 1)
    if ".attn.qkv." in name:
        queries = value.shape[0] // 3
        value = torch.cat((value[:queries] * 0.5**0.5, value[queries:]))
    elif name.startswith("relevance."):
        value = value * 0.5**0.25  # both projections
    return value
