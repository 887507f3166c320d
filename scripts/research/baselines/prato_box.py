"""PrATo told of the box as the baselines are: as a channel, besides as prompt."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from prato.models.base import ImageEmbedding, PrunableNetwork, PrunedOutput
from prato.models.registry import register_model
from prato.models.unetr import PratoUNETR
from prato.prompts.batch import PromptBatch
from prato.pruning.plan import PruningPlan
from scripts.research.baselines.box_channel import with_box

#: The name under which model files know it.
PRATO_BOX = "unetr_box_channel"


@register_model(PRATO_BOX)
class BoxChannelUNETR(PratoUNETR):
    """:class:`PratoUNETR` whose image has one more channel, the box: nothing that it computes is independent of the prompt.

    Args:
        in_channels: of the image, without the box.
    """

    def __init__(self, in_channels: int, *args: Any, **kwargs: Any) -> None:
        super().__init__(in_channels + 1, *args, **kwargs)

    encode_image = PrunableNetwork.encode_image

    def predict(self, image: Tensor, embedding: ImageEmbedding, prompts: PromptBatch | None, plan: PruningPlan | None) -> PrunedOutput:
        boxed = with_box(image, prompts)
        return super().predict(boxed, PratoUNETR.encode_image(self, boxed, plan), prompts, plan)
