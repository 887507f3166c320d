"""A narrower U-Net that begins with what a wide one has learned: of each convolution, the channels that its readers weigh most.

As in network slimming (Liu et al., arXiv 1708.06519), a channel's worth is the scale of its batch normalisation; here times the norm of the
weights with which what comes next reads it.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from prato.models.overview import TOKEN
from prato.models.overview_unet import PratoOverviewUNet

State = dict[str, Tensor]
#: The level whose features are told what the overview knows: those of a token's size.
_TOLD = TOKEN.bit_length() - 1


def narrow_state(wide: State, narrow: PratoOverviewUNet) -> State:
    """The state dict with which ``narrow`` begins: of the channels of a wider network, whose state dict is ``wide``, those worth most.

    The overview must be as wide in both, and is taken as it is. Attention along the stack begins anew, at zero.

    Raises:
        ValueError: ``narrow`` is wider somewhere, or differs in levels, overview, inputs or classes.
    """
    own = {name: value.clone() for name, value in narrow.state_dict().items()}
    if own.keys() != wide.keys() or not all(_fits(name, value.shape, wide[name].shape) for name, value in own.items()):
        raise ValueError(
            "A network begins with the channels of another only where that one is as wide at every level, and has as many levels, "
            "the same overview, inputs and classes."
        )
    wide = {name: value.to(own[name].dtype) for name, value in wide.items()}
    _Narrowing(wide, own).run()
    return own


def _fits(name: str, narrow: Sequence[int], wide: Sequence[int]) -> bool:
    """Whether the weight ``name`` may be taken from a wider one."""
    if name.startswith("overview."):
        return narrow == wide
    if name == "input_block.conv1.conv.weight" and narrow[1] != wide[1]:
        return False
    if name == "output_block.conv.conv.weight" and narrow[0] != wide[0]:
        return False
    return all(a <= b for a, b in zip(narrow, wide))


class _Narrowing:
    """``own``, the state dict of the narrow network, filled from ``wide``."""

    def __init__(self, wide: State, own: State) -> None:
        self.wide, self.own = wide, own
        levels = sum(name.startswith("downsamples.") and name.endswith("conv1.conv.weight") for name in own) + 2
        self.down = ["input_block", *(f"downsamples.{level}" for level in range(levels - 2)), "bottleneck"]
        self.up = [f"upsamples.{step}" for step in range(levels - 1)]

    def run(self) -> None:
        for name in self.own:
            if name.startswith(("overview.", "heart_relevance.", "guidance.0.")):
                self.own[name] = self.wide[name]
        skips = self._encoder()
        for name in ("context", "guidance.2"):
            for part in (".weight", ".bias"):
                self.own[name + part] = self.wide[name + part][skips[_TOLD]]
        kept = skips[-1]
        for step, block in enumerate(self.up):
            kept = self._decoder_block(block, kept, skips[-2 - step], step)
        last = "output_block.conv.conv"
        self.own[last + ".weight"], self.own[last + ".bias"] = self.wide[last + ".weight"][:, kept], self.wide[last + ".bias"]

    def _encoder(self) -> list[Tensor]:
        """The channels kept of each level's features."""
        skips, kept = [], torch.arange(self.wide["input_block.conv1.conv.weight"].shape[1])
        for level, block in enumerate(self.down):
            if block == self.down[-1]:
                readers = [self.wide[f"{self.up[0]}.transp_conv.conv.weight"].transpose(0, 1)]
            else:
                skip = self.wide[f"{self.up[-1 - level]}.conv_block.conv1.conv.weight"]
                readers = [self.wide[f"{self.down[level + 1]}.conv1.conv.weight"], skip[:, skip.shape[1] // 2 :]]
            kept = self._pair(block, kept, readers)
            skips.append(kept)
        return skips

    def _decoder_block(self, block: str, kept: Tensor, skip: Tensor, step: int) -> Tensor:
        """The channels kept of its output, of whose inputs ``kept`` come from below and ``skip`` from the encoder."""
        upward, joined = self.wide[f"{block}.transp_conv.conv.weight"], self.wide[f"{block}.conv_block.conv1.conv.weight"]
        half = joined.shape[1] // 2
        worth = _norms(joined[:, :half]) * _norms(upward)
        raised = _best(worth, self.own[f"{block}.transp_conv.conv.weight"].shape[1])
        self.own[f"{block}.transp_conv.conv.weight"] = upward[kept][:, raised]
        if step + 1 < len(self.up):
            reader = self.wide[f"{self.up[step + 1]}.transp_conv.conv.weight"].transpose(0, 1)
        else:
            reader = self.wide["output_block.conv.conv.weight"]
        return self._pair(f"{block}.conv_block", torch.cat([raised, half + skip]), [reader])

    def _pair(self, block: str, kept: Tensor, readers: Sequence[Tensor]) -> Tensor:
        """Fill a block of two convolutions that reads ``kept``; returns the channels kept of what it gives to ``readers``."""
        second = self.wide[f"{block}.conv2.conv.weight"]
        for number, of_next in ((1, [second]), (2, readers)):
            weight, norm = f"{block}.conv{number}.conv.weight", f"{block}.norm{number}"
            worth = self.wide[f"{norm}.weight"].abs() * sum(_norms(each).square() for each in of_next).sqrt()  # type: ignore[union-attr]
            best = _best(worth, len(self.own[weight]))
            self.own[weight] = self.wide[weight][best][:, kept]
            for part in ("weight", "bias", "running_mean", "running_var"):
                self.own[f"{norm}.{part}"] = self.wide[f"{norm}.{part}"][best]
            kept = best
        return kept


def _norms(weight: Tensor) -> Tensor:
    """How much lies in each channel of the second axis of a convolution's ``weight``: of its inputs, or a transposed one's outputs."""
    return weight.transpose(0, 1).flatten(1).norm(dim=1)


def _best(worth: Tensor, count: int) -> Tensor:
    return worth.topk(count).indices.sort().values
