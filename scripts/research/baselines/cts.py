"""CTS: neighbours that a policy says are of one class share a token from the start.

Source: Lu et al., "Content-aware Token Sharing for Efficient Semantic Segmentation with Vision Transformers", CVPR 2023.
"""

from __future__ import annotations

from typing import Any

import torch.nn.functional as F
from monai.networks.nets import ViT
from torch import Tensor, nn

from scripts.research.baselines.cells import join_cells, token_cells
from scripts.research.baselines.merged_tokens import MergedTokens
from scripts.research.baselines.method import (
    SKIPS,
    EncoderInput,
    Host,
    LossTerm,
    MethodOutput,
    TokenMethod,
    check_share,
    numbered_blocks,
    register_baseline,
)
from scripts.research.baselines.token_buffer import top

_WIDTH = 16
#: The policy looks at the image with so many pixels along each axis made one: it is to cost little.
_POOLED = 4


@register_baseline("cts")
class CTS(TokenMethod):
    """Of the cells of 2 x 2 tokens, the share ``shared`` that a small policy network finds likeliest to hold one class have one token each,
    from the first block to the last; every patch is restored with the value of the token that holds it.

    The policy is trained with the cross-entropy of "the cell holds one class", at the same time as the network (in the paper: before, an
    EfficientNet). A shared token is the mean of its four (in the paper: the embedding of the cell at half the resolution).
    """

    def __init__(self, host: Host, shared: float = 0.4) -> None:
        super().__init__()
        self.shared, self.dims = check_share("shared", shared), host.dims
        conv, norm = (nn.Conv2d, nn.BatchNorm2d) if host.dims == 2 else (nn.Conv3d, nn.BatchNorm3d)
        layers: list[nn.Module] = []
        for inputs in (1, _WIDTH):
            layers += [conv(inputs, _WIDTH, 3, 2, 1, bias=False), norm(_WIDTH), nn.ReLU()]
        self.policy = nn.Sequential(*layers, conv(_WIDTH, 1, 1))

    def encode(self, vit: ViT, tokens: Tensor, inputs: EncoderInput) -> MethodOutput:
        cells, says = token_cells(inputs.grid, tokens.device), self._policy(inputs)
        chosen = top(says.detach(), round(self.shared * len(cells)))
        merged = MergedTokens(tokens)
        merged.merge(*join_cells(cells[chosen], tokens.shape[1]))
        stages = (merged.record(0, inputs.grid),)
        hidden: dict[int, Tensor] = {}
        for number, block in numbered_blocks(vit):
            merged.tokens = block(merged.tokens)
            if number in SKIPS:
                hidden[number] = merged.restored
        losses: dict[str, LossTerm] = {}
        if self.training:
            losses["policy"] = lambda logits, label: F.binary_cross_entropy_with_logits(says, holds_one_class(label, inputs.grid))
        return MethodOutput(hidden, vit.norm(merged.restored), stages, losses)

    def _policy(self, inputs: EncoderInput) -> Tensor:
        """(B, cells): log-odds that a cell holds one class, from the mean of the image's channels, pooled."""
        average = F.avg_pool2d if self.dims == 2 else F.avg_pool3d
        grey = average(inputs.image.mean(1, keepdim=True), _POOLED)
        pool: Any = F.adaptive_avg_pool2d if self.dims == 2 else F.adaptive_avg_pool3d
        return pool(self.policy(grey), tuple(n // 2 for n in inputs.grid)).flatten(1)


def holds_one_class(label: Tensor, grid: tuple[int, ...]) -> Tensor:
    """float (B, cells): 1 where all pixels of a cell of ``grid`` have one value in ``label`` (B, *image)."""
    whole = tuple(n // 2 for n in grid)
    used = label[(slice(None), *(slice(0, 2 * w * (side // n)) for w, side, n in zip(whole, label.shape[1:], grid)))]
    values, pool = used.float().unsqueeze(1), F.adaptive_max_pool2d if len(grid) == 2 else F.adaptive_max_pool3d
    return (pool(values, whole) == -pool(-values, whole)).float().flatten(1)
