"""What a user would pick instead: a plain U-Net (MONAI's DynUNet) on the same windows, without box, overview or tokens."""

from __future__ import annotations

from typing import Any

from monai.networks.nets import DynUNet, SwinUNETR
from torch import Tensor

from prato.models.registry import register_model
from prato.prompts.batch import PromptBatch
from prato.pruning.plan import PruningPlan
from prato.pruning.record import PrunedOutput


@register_model("unet")
class WindowUNet(DynUNet):
    """A 2D U-Net of as many levels as ``filters`` has numbers, trained as the app's networks are.

    Args:
        filters: channels by level, the first at full resolution.

    Attributes:
        multiple: of so many pixels the sides of its input must be.
    """

    def __init__(self, in_channels: int = 3, out_channels: int = 4, filters: tuple[int, ...] = (24, 48, 96, 192, 256)) -> None:
        levels = len(filters)
        strides = [1] + [2] * (levels - 1)
        super().__init__(2, in_channels, out_channels, [3] * levels, strides, strides[1:], filters=list(filters), norm_name="batch")
        self.multiple = 2 ** (levels - 1)

    def train_windows(self, window: Tensor, *_: Any) -> tuple[Tensor, None]:
        """Logits (B * S, classes, h, w) of windows (B, S, channels, h, w), and no relevance."""
        return self(window.flatten(0, 1)), None


@register_model("dyn_unet")
class DynamicUNet(DynUNet):
    """A 2D U-Net in the manner of nnU-Net: instance normalisation, leaky ReLU, strided convolutions, channels doubled up to 320; without
    nnU-Net's deep supervision and ensembles. The anchor from outside among the paper's rows.

    Args:
        filters: channels by level, the first at full resolution; at 128 pixels the last level has 8.
        stages: none, as it prunes nothing.
    """

    def __init__(
        self,
        in_channels: int = 3,
        out_channels: int = 4,
        filters: tuple[int, ...] = (32, 64, 128, 256, 320),
        stages: tuple[int, ...] = (),
    ) -> None:
        strides = [1] + [2] * (len(filters) - 1)
        super().__init__(2, in_channels, out_channels, [3] * len(filters), strides, strides[1:], filters=list(filters))

    def segment(self, image: Tensor, prompts: PromptBatch | None = None, plan: PruningPlan | None = None) -> PrunedOutput:
        """Logits (B, classes, *image) of ``image`` (B, in_channels, *image); it knows no prompts and prunes nothing."""
        return PrunedOutput(self(image))


@register_model("window_swin_unetr")
class WindowSwinUNETR(SwinUNETR):
    """MONAI's Swin UNETR on the same windows, without box, overview or pruning: the dense twin."""

    #: Of so many pixels the sides of its input must be.
    multiple = 32

    def train_windows(self, window: Tensor, *_: Any) -> tuple[Tensor, None]:
        """Logits (B * S, classes, h, w) of windows (B, S, channels, h, w), and no relevance."""
        return self(window.flatten(0, 1)), None
