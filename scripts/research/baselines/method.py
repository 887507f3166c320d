"""The common interface of token-pruning methods on a UNETR host: what a method is given, and what it returns."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, TypeVar

import torch.nn.functional as F
from monai.networks.nets import ViT
from torch import Tensor, nn

from prato.prompts.batch import PromptBatch
from prato.pruning.record import StageRecord
from prato.runtime.registry import Registry

#: Blocks, counted from 1, whose outputs are UNETR's skip connections.
SKIPS = (4, 7, 10)

#: An auxiliary loss that still awaits the host's logits (B, classes, *image) and the label, int64 (B, *image). Its weight is in it.
LossTerm = Callable[[Tensor, Tensor], Tensor]
#: Logits (B, classes, *image) and normalised last tokens (B, Z, C) that a trained dense network gives for an input.
Teacher = Callable[[Tensor], tuple[Tensor, Tensor]]


@dataclass(frozen=True)
class Host:
    """Sizes of the network that a method works in: token width, attention heads, width of the blocks' MLP, classes, image axes."""

    dim: int
    heads: int
    mlp_dim: int
    classes: int
    dims: int


@dataclass(frozen=True)
class EncoderInput:
    """One forward call: the network's input (B, channels, *image), tokens along each axis, the boxes (None where the method is not told of
    them), and what makes logits of an input, skip connections by block, and normalised last tokens."""

    image: Tensor
    grid: tuple[int, ...]
    prompts: PromptBatch | None
    decode: Callable[[Tensor, dict[int, Tensor], Tensor], Tensor] | None = None


@dataclass(frozen=True)
class EarlyLogits:
    """Predictions of tokens that left with one.

    Attributes:
        logits: (B, Z, classes), token by token.
        gone: bool (B, Z), the tokens that they stand for.
        grid: tokens along each axis.
    """

    logits: Tensor
    gone: Tensor
    grid: tuple[int, ...]

    def canvas(self, size: tuple[int, ...]) -> Tensor:
        """The logits interpolated to (B, classes, *size)."""
        tokens = self.logits.unflatten(1, self.grid).movedim(-1, 1)
        return F.interpolate(tokens, size=size, mode="bilinear" if len(size) == 2 else "trilinear")

    def over(self, logits: Tensor) -> Tensor:
        """``logits`` (B, classes, *image) with the pixels of tokens that left replaced by what these said."""
        size = tuple(logits.shape[2:])
        gone = F.interpolate(self.gone.to(logits.dtype).unflatten(1, self.grid).unsqueeze(1), size=size, mode="nearest") > 0.5
        return logits.where(~gone, self.canvas(size).to(logits.dtype))


@dataclass(frozen=True)
class MethodOutput:
    """What a method made of the tokens, restored to the whole grid.

    Attributes:
        hidden: the skip connections, by block number: (B, Z, C).
        last: the bottleneck (B, Z, C), normalised.
        stages: what each pruning stage did.
        losses: auxiliary losses by name; only in training.
        early: predictions made on the way; None for methods that make none.
    """

    hidden: dict[int, Tensor]
    last: Tensor
    stages: tuple[StageRecord, ...] = ()
    losses: Mapping[str, LossTerm] = field(default_factory=dict)
    early: EarlyLogits | None = None


class TokenMethod(nn.Module, ABC):
    """A way to spend less on some tokens, found by its registered name. Its constructor takes the :class:`Host` and its own settings.

    Attributes:
        needs_teacher: whether it learns from a trained dense network besides the labels; an experiment then names one.
        needs_prompts: whether the box is its prompt, whether or not it is a channel of the image too.
    """

    needs_teacher: ClassVar[bool] = False
    needs_prompts: ClassVar[bool] = False

    def teach(self, teacher: Teacher) -> None:
        """Learn from ``teacher``, too; called before training where the method ``needs_teacher``."""
        raise NotImplementedError(f"{type(self).__name__} learns from the labels alone.")

    def set_progress(self, share: float) -> None:
        """Called before each training step with the share of the budget (0..1) that is spent, for a method that trains in phases."""

    @abstractmethod
    def encode(self, vit: ViT, tokens: Tensor, inputs: EncoderInput) -> MethodOutput:
        """Run the blocks of ``vit`` on ``tokens`` (B, Z, C), which already hold their positions.

        Fewer tokens are computed in evaluation; in training, ``self.training``, a method may relax that.
        """


METHODS: Registry[type[Any]] = Registry("baselines")
_Registered = TypeVar("_Registered", bound=type[TokenMethod])


def register_baseline(name: str) -> Callable[[_Registered], _Registered]:
    """Class decorator: ``BaselineUNETR(method=name)`` and experiments use the method from now on.

    Raises:
        ValueError: another method is registered by that name.
    """
    return METHODS.register(name)


def numbered_blocks(vit: ViT) -> Iterator[tuple[int, Any]]:
    """The transformer blocks of ``vit``, counted from 1."""
    return enumerate(vit.blocks, start=1)


def check_share(name: str, value: float) -> float:
    """``value``, if it is a share of tokens that leaves some and takes some.

    Raises:
        ValueError: it is not above 0 and below 1.
    """
    if not 0 < value < 1:
        raise ValueError(f"{name} must be above 0 and below 1, not {value}.")
    return value
