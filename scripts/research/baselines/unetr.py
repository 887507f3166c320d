"""The UNETR in which every baseline runs: PrATo's own host, where another object decides which tokens are computed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from prato.models.base import EncoderOutput, ImageEmbedding
from prato.models.registry import register_model
from prato.models.unetr import LAST, PratoUNETR
from prato.prompts.batch import PromptBatch
from prato.pruning.plan import PruningPlan
from prato.pruning.record import PrunedOutput
from prato.runtime.region import Region
from scripts.research.baselines.box_channel import with_box
from scripts.research.baselines.method import METHODS, EncoderInput, Host, LossTerm, MethodOutput, TokenMethod


@dataclass(frozen=True)
class BaselineOutput(PrunedOutput):
    """Logits and records, with the auxiliary losses that a trainer adds to the task's (see
    :class:`scripts.research.baselines.loss.BaselineLoss`)."""

    losses: Mapping[str, LossTerm] = field(default_factory=dict)


@register_model("baseline_unetr")
class BaselineUNETR(PratoUNETR):
    """UNETR with a baseline token method instead of PrATo's relevance and plan.

    Takes UNETR's own arguments by name; loads its state dict once the method's own parameters (``method.``) are added.

    Args:
        in_channels: of the image, without the box. out_channels: classes.
        method: a registered baseline. settings: the method's own; its published ones by default.
        box_channel: the box is one more input channel ("with the same box"); else the network never learns of it ("as published").

    Raises:
        ValueError: no such method, or a setting out of its range.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        method: str,
        settings: Mapping[str, Any] | None = None,
        box_channel: bool = False,
        num_heads: int = 12,
        mlp_dim: int = 3072,
        **kwargs: Any,
    ) -> None:
        if method not in METHODS:
            raise ValueError(f"method must be one of {', '.join(sorted(METHODS))}, not {method!r}.")
        super().__init__(in_channels + box_channel, out_channels, num_heads=num_heads, mlp_dim=mlp_dim, stages=(), **kwargs)
        self.box_channel = box_channel
        host = Host(self.hidden_size, num_heads, mlp_dim, out_channels, len(self.patch_size))
        self.method: TokenMethod = METHODS[method](host, **settings or {})

    @property
    def has_static_shapes(self) -> bool:
        return False  # a method decides token by token

    def encode_image(self, image: Tensor, plan: PruningPlan | None) -> ImageEmbedding:
        return ImageEmbedding()  # the box may be a channel of the image

    def predict(self, image: Tensor, embedding: ImageEmbedding, prompts: PromptBatch | None, plan: PruningPlan | None) -> BaselineOutput:
        """Logits, records and losses of ``image`` (B, in_channels, *image).

        Raises:
            ValueError: a plan is given, or the image does not fit (as for :class:`PratoUNETR`).
        """
        if plan is not None:
            raise ValueError("A baseline decides by itself which tokens are computed: give no pruning plan.")
        image = with_box(image, prompts) if self.box_channel else image
        encoded, logits = self._run(image, prompts)
        return BaselineOutput(logits, encoded.stages, encoded.losses)

    def answer(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """A teacher's part: logits (B, classes, *image) and normalised last tokens (B, Z, C) of an input, its box channel included."""
        encoded, logits = self._run(image, None)
        return logits, encoded.last

    def _run(self, image: Tensor, prompts: PromptBatch | None) -> tuple[MethodOutput, Tensor]:
        tokens, grid = self._embed(image)
        told = prompts.to(image.device) if prompts is not None and (self.box_channel or self.method.needs_prompts) else None
        encoded = self.method.encode(self.vit, tokens, EncoderInput(image, grid, told, self._logits))
        logits = self._logits(image, encoded.hidden, encoded.last)
        return encoded, logits if encoded.early is None else encoded.early.over(logits)

    def _logits(self, image: Tensor, hidden: dict[int, Tensor], last: Tensor) -> Tensor:
        return self.decode(image, EncoderOutput({**hidden, LAST: last}), Region.whole(tuple(image.shape[2:])))
