"""The network behind a click: a small U-Net that looks at a crop round what was clicked, and a perceptron that looks at where each pixel
lies as seen from the click; together they say how the mask there changes."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from prato.data.structures import NUM_CLASSES
from prato.models.registry import register_model

#: Channels of the input: the slice between its neighbours, the mask so far, all strokes by structure, the stroke that is new, what is
#: certain, the masks of both neighbours where these are right, the scores of the network that made the first mask, and in three ways how
#: alike the new stroke each pixel is.
_SEEN = 3 + NUM_CLASSES + NUM_CLASSES + 1 + 1 + 2 * NUM_CLASSES + NUM_CLASSES + 3
#: Further channels, which the perceptron sees as well: where each pixel lies (:func:`prato.refinement.geometry.geometry`).
PLACED = 4 * NUM_CLASSES + 20
INPUTS = _SEEN + PLACED


@register_model(
    "click_refiner",
    preset={
        "arguments": {"in_channels": INPUTS, "out_channels": NUM_CLASSES, "widths": [16, 32, 48], "hidden": 48},
        "window": 80,
        "pixel": 1.375,
        "centre": "clicks",
        "plan": None,
    },
)
class ClickRefiner(nn.Module):
    """What is to be added to the scores of the mask that there is; nothing before it is trained, as its last layers are zero-initialised.

    Args:
        in_channels, out_channels: of input and output; the last PLACED of the input are the perceptron's.
        widths: of the U-Net, channels at the full resolution, a half and a quarter of it. hidden: units of both layers of the perceptron.
    """

    def __init__(
        self,
        in_channels: int = INPUTS,
        out_channels: int = NUM_CLASSES,
        widths: tuple[int, int, int] = (16, 32, 48),
        hidden: int = 48,
    ) -> None:
        super().__init__()
        fine, middle, coarse = widths
        self.classes = out_channels
        self.enter = _conv(in_channels, fine)
        self.down1, self.down2 = nn.Sequential(_conv(fine, middle, 2), _conv(middle, middle)), _conv(middle, coarse, 2)
        self.bottom = nn.Sequential(_conv(coarse, coarse, dilation=2), _conv(coarse, coarse, dilation=4))
        self.up2, self.up1 = _conv(coarse + middle, middle), _conv(middle + fine, fine)
        self.out = nn.Conv2d(fine, out_channels, 3, padding=1)
        last = nn.Conv2d(hidden, 1, 1)
        entry = nn.Conv2d(PLACED + out_channels, hidden, 1)
        self.place = nn.Sequential(entry, nn.ReLU(inplace=True), nn.Conv2d(hidden, hidden, 1), nn.ReLU(inplace=True), last)
        for layer in (self.out, last):
            nn.init.zeros_(layer.weight)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)

    def forward(self, x: Tensor) -> Tensor:
        """(K, out_channels, h, w) for ``x`` (K, in_channels, h, w); h and w are multiples of 4."""
        placed, change = x[:, -PLACED:], self.unet(x)
        asked = placed[:, : self.classes]  # the new click's structure, one-hot: what the perceptron says is of that alone
        return change + asked * self.place(torch.cat([placed, change], 1))

    def unet(self, x: Tensor, added: Tensor | float = 0.0) -> Tensor:
        """What the U-Net says by itself; ``added`` (K, widths[2], h / 4, w / 4) comes to its coarsest features."""
        fine = self.enter(x)
        middle = self.down1(fine)
        coarse = self.bottom(self.down2(middle) + added)
        middle = self.up2(torch.cat([F.interpolate(coarse, scale_factor=2.0), middle], 1))
        change: Tensor = self.out(self.up1(torch.cat([F.interpolate(middle, scale_factor=2.0), fine], 1)))
        return change


def _conv(inputs: int, outputs: int, stride: int = 1, dilation: int = 1) -> nn.Sequential:
    conv = nn.Conv2d(inputs, outputs, 3, stride, padding=dilation, dilation=dilation, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(outputs), nn.ReLU(inplace=True))
