"""Between the model that was and the model that a few labels made of it: a blend of the weights is often better than either.

Wortsman et al., "Robust fine-tuning of zero-shot models", CVPR 2022: what fine-tuning learns of the new images is kept, while much of what
it forgets of all others comes back.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeVar

import torch
from torch import Tensor, nn

#: Shares of the fine-tuned weights that are tried.
SHARES = (0.25, 0.5, 0.75, 1.0)
Network = TypeVar("Network", bound=nn.Module)


def best_blend(start: Mapping[str, Tensor], tuned: Network, score: Callable[[Network], float]) -> float:
    """Give ``tuned`` the blend of its weights with those of ``start`` that has the highest ``score`` (of equal ones the larger share).

    Returns:
        The share of the fine-tuned weights in it, one of ``SHARES``.
    """
    end = {name: value.clone() for name, value in tuned.state_dict().items()}

    def blend(share: float) -> None:
        tuned.load_state_dict(
            {name: torch.lerp(start[name].to(value), value, share) if value.is_floating_point() else value for name, value in end.items()}
        )

    scores = {}
    for share in SHARES:
        blend(share)
        scores[share] = score(tuned)
    best = max(SHARES, key=lambda share: (scores[share], share))
    blend(best)
    return best
