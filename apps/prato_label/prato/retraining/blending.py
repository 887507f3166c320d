"""Between the model that was and the model that a few labels made of it: a blend of the weights is often better than either.

Wortsman et al., "Robust fine-tuning of zero-shot models", CVPR 2022: what fine-tuning learns of the new images is kept, while much of what
it forgets of all others comes back.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn


def blend(start: Mapping[str, Tensor], tuned: nn.Module, share: float) -> None:
    """Give ``tuned`` the weights ``share`` of the way (0..1) from those of ``start`` to its own; what counts or indexes stays its own."""
    tuned.load_state_dict(
        {
            name: torch.lerp(start[name].to(value), value, share) if value.is_floating_point() else value
            for name, value in tuned.state_dict().items()
        }
    )
