"""The convolutional half of the hybrid R50 + ViT: ResNet-50 without its last stage, group norms and standardised weights.

Source: Kolesnikov et al., "Big Transfer (BiT)", ECCV 2020; Dosovitskiy et al., "An Image is Worth 16x16 Words", ICLR 2021. Written here
because the libraries that have it import torchvision, which not every build of torch can.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn

_GROUPS = 32


class StandardConv2d(nn.Conv2d):
    """A convolution whose weights have mean 0 and variance 1 for each output channel."""

    def forward(self, x: Tensor) -> Tensor:
        mean = self.weight.mean((1, 2, 3), keepdim=True)
        variance = self.weight.var((1, 2, 3), keepdim=True, unbiased=False)
        weight = (self.weight - mean) * (variance + 1e-5).rsqrt()
        return F.conv2d(x, weight, self.bias, self.stride, self.padding, self.dilation, self.groups)


def group_norm(channels: int) -> nn.GroupNorm:
    """Groups of the published size where there are channels enough."""
    return nn.GroupNorm(min(_GROUPS, channels), channels, eps=1e-6)


class Bottleneck(nn.Module):
    """1 x 1, 3 x 3 and 1 x 1 convolutions, each with its norm, beside a shortcut."""

    def __init__(self, source: int, channels: int, stride: int) -> None:
        super().__init__()
        middle = channels // 4
        self.conv1, self.norm1 = StandardConv2d(source, middle, 1, bias=False), group_norm(middle)
        self.conv2, self.norm2 = StandardConv2d(middle, middle, 3, stride, padding=1, bias=False), group_norm(middle)
        self.conv3, self.norm3 = StandardConv2d(middle, channels, 1, bias=False), group_norm(channels)
        self.shortcut: nn.Module = nn.Identity()
        if stride > 1 or source != channels:
            # one channel a group, as published
            self.shortcut = nn.Sequential(StandardConv2d(source, channels, 1, stride, bias=False), nn.GroupNorm(channels, channels))

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.norm1(self.conv1(x)))
        y = F.relu(self.norm2(self.conv2(y)))
        return F.relu(self.norm3(self.conv3(y)) + self.shortcut(x))


class HybridResNet(nn.Module):
    """Features at 1/2, 1/4, 1/8 and 1/16 of the image.

    Args:
        in_channels: of the image. width: channels at 1/2. units: bottlenecks of each of the three stages.
    """

    def __init__(self, in_channels: int, width: int = 64, units: Sequence[int] = (3, 4, 9)) -> None:
        super().__init__()
        self.root = nn.Sequential(StandardConv2d(in_channels, width, 7, 2, padding=3, bias=False), group_norm(width), nn.ReLU())
        self.widths = (width, 4 * width, 8 * width, 16 * width)
        self.stages = nn.ModuleList(
            nn.Sequential(*(Bottleneck(a if n == 0 else b, b, stride if n == 0 else 1) for n in range(count)))
            for a, b, stride, count in zip(self.widths, self.widths[1:], (1, 2, 2), units)
        )

    def forward(self, x: Tensor) -> list[Tensor]:
        """(B, channels, H, W), H and W multiples of 16 -> four feature maps, the finest first."""
        levels = [self.root(x)]
        x = F.max_pool2d(F.pad(levels[0], (0, 1, 0, 1)), 3, 2)
        for stage in self.stages:
            x = stage(x)
            levels.append(x)
        return levels
