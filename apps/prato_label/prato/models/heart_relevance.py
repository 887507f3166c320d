"""How relevant an overview's tokens are: to the prompt, and to what has been learned of hearts, whatever the prompt."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from prato.models.overview import TOKEN
from prato.prompts.roi_align import roi_align
from prato.pruning.relevance import relevance

#: RoIAlign bins along each axis.
_BINS = 5


class HeartRelevance(nn.Module):
    """Relevance of the overview's tokens (arXiv 2506.16369, eqs. 2-4), with a query of its own for the heart beside those of the box.

    The box's queries say what the prompted region looks like; the learned one says what hearts look like, and is all that is asked where
    there is no box. Whether a token lies in the box counts by one learned weight.

    Args:
        dim: token width.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.project_prompt, self.project_token = nn.Linear(dim, dim, bias=False), nn.Linear(dim, dim, bias=False)
        nn.init.orthogonal_(self.project_prompt.weight)
        self.project_token.weight.data.copy_(self.project_prompt.weight.data)
        self.heart = nn.Parameter(torch.randn(dim) * dim**-0.5)
        self.offset = nn.Parameter(torch.tensor(-2.0))
        self.inside = nn.Parameter(torch.zeros(()))
        self.prompt_scale = nn.Parameter(torch.tensor(0.1))

    def forward(self, tokens: Tensor, box: Tensor, has_box: Tensor) -> Tensor:
        """Logits of relevance (B, S, h, w).

        Args:
            tokens: (B, S, h, w, dim).
            box: (B, 2, 2), start and stop in pixels of the network's input; that of a stack without a box means nothing.
            has_box: bool (B,).
        """
        batch, slices, height, width = tokens.shape[:4]
        with torch.autocast(tokens.device.type, enabled=False):
            flat = tokens.float().flatten(0, 1)
            own = (flat.flatten(1, 2) @ (self.heart @ self.project_token.weight)).view(batch, slices, height, width)
            if not torch.is_grad_enabled() and not bool(has_box.any()):  # a step of training may look at no value
                return self.offset + own
            cells = (box / TOKEN).repeat_interleave(slices, 0)
            sample = torch.arange(len(flat), device=flat.device)
            regions = roi_align(flat.permute(0, 3, 1, 2), cells, sample, _BINS).flatten(2).transpose(1, 2)
            # the tokens' projection is applied to what they are multiplied with, which are fewer
            queries, tokens = self.project_prompt(regions) @ self.project_token.weight, flat.flatten(1, 2)
            known = torch.ones(queries.shape[:2], dtype=torch.bool, device=flat.device)
            alive = torch.ones(tokens.shape[:2], dtype=torch.bool, device=flat.device)
            prompted = relevance(queries, tokens, known, alive).view(batch, slices, height, width)
            given = has_box.view(-1, 1, 1, 1).float()
            return self.offset + own + given * (self.prompt_scale * prompted + self.inside * coverage(box, (height, width)).unsqueeze(1))


def coverage(box: Tensor, grid: tuple[int, int]) -> Tensor:
    """(B, *grid) in [0, 1]: the share of each token that ``box`` (B, 2, 2), in pixels, covers."""
    shares = []
    for axis, cells in enumerate(grid):
        start = torch.arange(cells, device=box.device, dtype=box.dtype) * TOKEN
        low, high = box[:, 0, axis, None], box[:, 1, axis, None]
        shares.append(((high.minimum(start + TOKEN) - low.maximum(start)) / TOKEN).clamp(0, 1))
    return shares[0].unsqueeze(2) * shares[1].unsqueeze(1)


def box_features(box: Tensor, has_box: Tensor, corner: Tensor, grid: tuple[int, int]) -> Tensor:
    """What a token may know of the prompt: (B, *grid, 6), zeros without a box.

    Its share in the box, its distances to the box's four sides in tokens (at most 4, divided by 4), and that there is a box.

    Args:
        box: (B, 2, 2), start and stop in pixels. has_box: bool (B,).
        corner: (B, 2), the grid's first pixel. grid: tokens along each axis.
    """
    seen = box - corner.unsqueeze(1)
    sides = []
    for axis, cells in enumerate(grid):
        middle = (torch.arange(cells, device=box.device, dtype=box.dtype) + 0.5) * TOKEN
        for side in (seen[:, 0, axis, None], seen[:, 1, axis, None]):
            line = ((middle - side) / (4 * TOKEN)).clamp(-1, 1)
            sides.append((line.unsqueeze(2) if axis == 0 else line.unsqueeze(1)).expand(-1, *grid))
    features = torch.stack([coverage(seen, grid), *sides, torch.ones_like(sides[0])], -1)
    return features * has_box.view(-1, 1, 1, 1).to(features.dtype)
