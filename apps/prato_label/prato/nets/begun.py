"""What a network makes of an image before it looks at a box: the same for every box drawn on it."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Begun:
    """The beginning of a call in evaluation, as a network's ``begin`` makes it; nobody may change its tensors.

    Attributes:
        tokens: those after the first ``blocks`` blocks (UNETR) or stages, without merging (Swin UNETR).
        blocks: 0 where a plan's stage 0 looks at the box before the first of them.
        hidden: by block or stage, 0 for the embedded patches, what is needed later on besides.
    """

    tokens: Tensor
    blocks: int
    hidden: dict[int, Tensor]

    @property
    def nbytes(self) -> int:
        """Memory that it takes."""
        return sum({values.data_ptr(): values.nbytes for values in (self.tokens, *self.hidden.values())}.values())
