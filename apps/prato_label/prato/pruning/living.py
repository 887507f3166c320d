"""Which tokens of a grid take part in a call: what an encoder carries from one pruning stage to the next."""

from __future__ import annotations

from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor

from prato.runtime.region import Region


@dataclass(frozen=True)
class LivingTokens:
    """The tokens that have not been dropped.

    Attributes:
        alive: bool (B, *grid), at least one token per sample.
        gate: the same as numbers (B, *grid) that pass a gradient to the scores; None where tokens are dropped, not gated, and where every
            token lives from the start, so that blocks may run as they are.
    """

    alive: Tensor
    gate: Tensor | None = None

    @property
    def grid(self) -> tuple[int, ...]:
        """Tokens along each axis."""
        return tuple(self.alive.shape[1:])

    def merge(self) -> LivingTokens:
        """Those of a grid half as fine: a merged token lives if any of its children does."""
        return LivingTokens(largest_child(self.alive.float()) > 0, None if self.gate is None else largest_child(self.gate))

    def region(self) -> Region:
        """The smallest part of the grid that holds them all, of any sample."""
        return Region.from_mask(self.alive)


def largest_child(values: Tensor) -> Tensor:
    """(B, *grid) -> (B, *merged grid): the largest value of the two tokens along each axis that are merged into one."""
    pool = F.max_pool2d if values.ndim == 3 else F.max_pool3d
    return pool(values.unsqueeze(1), 2, ceil_mode=True).squeeze(1)
