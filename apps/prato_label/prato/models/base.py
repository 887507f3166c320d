"""What a network makes of an image on its way to logits: before it looks at a box, and before it decodes."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from prato.pruning.plan import StageRecord


@dataclass(frozen=True)
class Begun:
    """The beginning of a call in evaluation, as a network's ``begin`` makes it: the same for every box; nobody may change its tensors.

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


@dataclass(frozen=True)
class Encoded:
    """All that a network's decoder is given besides the image.

    Attributes:
        features: by block or stage; UNETR's are (B, Z, C), Swin UNETR's (B, *grid, C).
        stages: what the pruning stages did.
    """

    features: dict[int, Tensor]
    stages: tuple[StageRecord, ...]
