"""The contract that every network meets: all that the rest of the program may know of one.

An image is encoded once, as far as no prompt is needed; each prompt then decides which tokens go on, and a decoder gives the logits::

    embedding = network.encode_image(image, plan)                  # may be kept with the image
    output = network.predict(image, embedding, prompts, plan)      # output.logits: (B, classes, *image)

A new network is one file: a class that inherits from :class:`PrunableNetwork`, has ``relevance`` projections, tells how it encodes and
decodes, and is registered by a name (``prato.models.registry``).
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn

from prato.prompts.batch import PromptBatch
from prato.pruning.plan import PruningPlan
from prato.pruning.prompted_pruning import PromptedPruning
from prato.pruning.record import PrunedOutput, StageRecord
from prato.runtime.region import Region


@dataclass(frozen=True)
class ImageEmbedding:
    """What a network makes of an image before it looks at a prompt: the same for every prompt; nobody may change its tensors.

    Attributes:
        depth: blocks or stages that have run.
        features: by block or stage, 0 for the embedded patches: those that are needed later on. The encoder goes on from the deepest.
            Empty for a network all of whose work depends on the prompt, and where nothing is pruned: ``predict`` then does all of it.
    """

    depth: int = 0
    features: Mapping[int, Tensor] = field(default_factory=dict)

    @property
    def tokens(self) -> Tensor:
        """Those from which the encoder goes on: (B, Z, C) or (B, *grid, C), as the network has them."""
        return self.features[self.depth]

    def select(self, samples: Sequence[int]) -> ImageEmbedding:
        """That of some samples of the batch alone."""
        return ImageEmbedding(self.depth, {number: values[list(samples)] for number, values in self.features.items()})

    @property
    def nbytes(self) -> int:
        """Memory that it takes."""
        return sum({values.data_ptr(): values.nbytes for values in self.features.values()}.values())


@dataclass(frozen=True)
class EncoderOutput:
    """All that a network's decoder is given besides the image.

    Attributes:
        features: by block or stage, in the network's own layout.
        stages: what the pruning stages did.
    """

    features: Mapping[int, Tensor]
    stages: tuple[StageRecord, ...] = ()


class PrunableNetwork(nn.Module):
    """A segmentation network whose encoder can drop tokens by a prompt, and whose decoder can follow.

    Images are float (B, channels, *image), prompts in pixels of that image, logits (B, classes, *image). Tokens are removed in evaluation;
    in training they are gated, with a straight-through gradient to the relevance, so that every token is computed. What a call costs is
    counted on the call itself: :func:`prato.runtime.flops.count_flops`.

    Attributes:
        relevance: the :class:`~prato.pruning.relevance.Relevance` of each block or stage after which a plan may let tokens leave, by its
            number as text, counted from 1.
    """

    relevance: nn.ModuleDict

    @classmethod
    def missing_methods(cls) -> list[str]:
        """Which of the three methods that :meth:`predict` calls are not written; none of a network that has a ``predict`` of its own."""
        required = ("forward_dense", "encode", "decode") if cls.predict is PrunableNetwork.predict else ()
        return [name for name in required if getattr(cls, name) is getattr(PrunableNetwork, name)]

    @classmethod
    def decoder_norm(cls, arguments: Mapping[str, Any]) -> str:
        """How the decoder of a network with these constructor ``arguments`` normalises, as MONAI names it.

        Only with "batch" are the logits of a region those of the whole image, so that a plan may decode what is kept alone.
        """
        return "batch"

    def forward(self, x_in: Tensor, prompts: PromptBatch | None = None, plan: PruningPlan | None = None) -> Tensor:
        """Logits (B, classes, *image) of ``x_in`` (B, channels, *image); see :meth:`segment`."""
        return self.segment(x_in, prompts, plan).logits

    def segment(self, image: Tensor, prompts: PromptBatch | None = None, plan: PruningPlan | None = None) -> PrunedOutput:
        """:meth:`encode_image` and :meth:`predict` in one call; arguments and errors as theirs."""
        if plan is None or prompts is None or prompts.is_empty:
            return self.predict(image, ImageEmbedding(), prompts, plan)
        return self.predict(image, self.encode_image(image, plan), prompts, plan)

    def encode_image(self, image: Tensor, plan: PruningPlan | None) -> ImageEmbedding:
        """Everything that depends on no prompt, to be kept with the image.

        Args:
            image: float (B, channels, *image).
            plan: what :meth:`predict` will prune by. Plans with the same ``embedding_key`` have the same embedding.

        Raises:
            ValueError: the image does not fit the network.
        """
        return ImageEmbedding()

    def predict(self, image: Tensor, embedding: ImageEmbedding, prompts: PromptBatch | None, plan: PruningPlan | None) -> PrunedOutput:
        """Logits and the record of what was pruned.

        Args:
            image: float (B, channels, *image).
            embedding: what :meth:`encode_image` made of the same ``image`` and ``plan``.
            prompts: in pixels of ``image``; a sample without one keeps all its tokens.
            plan: what to prune; None for nothing, as without a prompt in the whole batch.

        Raises:
            KeyError: the plan prunes after a block or stage that this network has no relevance projections for.
            ValueError: the image does not fit the network.
        """
        if plan is None or prompts is None or prompts.is_empty:
            return PrunedOutput(self.forward_dense(image))
        pruning = PromptedPruning(self.relevance, plan, prompts.to(image.device), tuple(image.shape[2:]), self.training)
        encoded = self.encode(image, embedding, pruning)
        return PrunedOutput(self.decode(image, encoded, pruning.decoded_region()), encoded.stages)

    def static_shapes(self, plan: PruningPlan, prompts: PromptBatch, image_size: tuple[int, ...]) -> tuple[Any, ...] | None:
        """What fixes the shapes of a call before it is made, whichever tokens leave, so that a GPU can replay it; hashable.

        :meth:`encode` is then given a ``pruning`` with these ``shapes``, computes no more and no less, and asks the device nothing. None
        for a network that cannot: its shapes depend on which tokens leave.
        """
        return None

    @property
    def has_embedding(self) -> bool:
        """Whether any of its work depends on no prompt."""
        return type(self).encode_image is not PrunableNetwork.encode_image

    @property
    def has_static_shapes(self) -> bool:
        """Whether it has any: then its dense calls, too, ask the device nothing."""
        return type(self).static_shapes is not PrunableNetwork.static_shapes

    @abstractmethod
    def forward_dense(self, image: Tensor) -> Tensor:
        """Logits (B, classes, *image) of ``image`` (B, channels, *image) without pruning: the very numbers of the network that this one
        adds pruning to."""

    @abstractmethod
    def encode(self, image: Tensor, embedding: ImageEmbedding, pruning: PromptedPruning) -> EncoderOutput:
        """The part of the encoder that ``embedding`` does not hold, on the tokens that ``pruning`` lets live.

        Args:
            image: float (B, channels, *image).
            embedding: of :meth:`encode_image`; without features for a network that has none.
            pruning: scores tokens at each of the stages of :attr:`relevance` that its plan names, and says which of them go on.
        """

    @abstractmethod
    def decode(self, image: Tensor, encoded: EncoderOutput, region: Region) -> Tensor:
        """Logits (B, classes, *image) of ``image`` (B, channels, *image), decoded in ``region`` (of its pixels) alone and surely
        background elsewhere."""


def monai_norm(arguments: Mapping[str, Any]) -> str:
    """The norm that a MONAI network's constructor ``arguments`` choose, by name or by name and settings; MONAI's default is "instance"."""
    norm = arguments.get("norm_name", "instance")
    return str(norm if isinstance(norm, str) else norm[0])
