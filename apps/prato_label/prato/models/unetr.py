"""UNETR whose transformer drops the tokens that the prompted box makes irrelevant."""

from __future__ import annotations

from typing import Any

from monai.networks.nets import UNETR
from monai.utils import ensure_tuple_rep
from torch import Tensor, nn

from prato.models.base import Begun, Encoded
from prato.models.registry import register_model
from prato.prompts.batch import PromptBatch
from prato.pruning.plan import PrunedOutput, PruningPlan
from prato.pruning.prompted_pruning import PromptedPruning, first_gate
from prato.pruning.relevance import Relevance
from prato.pruning.tokens import relaxed_block, run_block
from prato.runtime.region import Region
from prato.runtime.region_decode import Part, Source, basic, given, projected_up, up
from prato.runtime.static_shapes import token_counts

#: After the blocks whose outputs are UNETR's skip connections, so that every skip is whole.
DEFAULT_PLAN = PruningPlan(after=(4, 7, 10), percentile=25.0)
_SKIPS = (4, 7, 10)
#: Stands for the output of the last block, normed.
LAST = 0


@register_model("unetr")
class PratoUNETR(UNETR):
    """MONAI's UNETR (2D or 3D) with prompt-driven token pruning.

    Takes UNETR's own arguments; loads its state dict strictly (the relevance projections, which it lacks, keep their initial values).
    Without a plan, or without a prompt in the whole batch, a call on an image of ``img_size`` is MONAI's own forward. A smaller image, its
    sides multiples of the patch size, takes the middle of the position embedding.

    Args:
        stages: blocks, counted from 1, after which a plan may prune (each owns relevance projections).
    """

    def __init__(self, *args: Any, stages: tuple[int, ...] = DEFAULT_PLAN.after, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        dims = len(self.patch_size)
        self.img_size: tuple[int, ...] = tuple(f * p for f, p in zip(self.feat_size, ensure_tuple_rep(16, dims)))
        self.relevance = nn.ModuleDict({str(stage): Relevance(self.hidden_size, dims) for stage in stages})

    def forward(self, x_in: Tensor, prompts: PromptBatch | None = None, plan: PruningPlan | None = None) -> Tensor:
        """Logits (B, classes, *image) of ``x_in`` (B, channels, *image); see :meth:`segment`."""
        return self.segment(x_in, prompts, plan).logits

    def segment(self, x_in: Tensor, prompts: PromptBatch | None, plan: PruningPlan | None) -> PrunedOutput:
        """Logits and the record of what was pruned.

        Args:
            x_in: float (B, channels, *image), every side a multiple of the patch size and at most ``img_size``.
            prompts: boxes in input pixels; a sample without one keeps all its tokens.
            plan: what to prune; None for nothing. Tokens are removed in evaluation and masked, with a straight-through gradient to the
                relevance, in training.

        Raises:
            KeyError: the plan prunes after a block that this network has no relevance projections for.
            ValueError: the image is larger than ``img_size``, or a side is no multiple of the patch size.
        """
        if plan is None or prompts is None or prompts.is_empty:
            return PrunedOutput(self._dense(x_in))
        if not self.training and plan.mode == "drop":
            return self.finish(x_in, self.begin(x_in, plan), prompts, plan)
        tokens, grid = self._embed(x_in)
        size = tuple(x_in.shape[2:])
        pruning = PromptedPruning(self.relevance, plan, prompts.to(x_in.device), size)
        hidden, last = self._encode_relaxed(tokens, grid, pruning)
        encoded = Encoded({**hidden, LAST: self.vit.norm(last)}, tuple(pruning.stages))
        return PrunedOutput(self.decode(x_in, encoded, pruning.decoded(self.training)), encoded.stages)

    def begin(self, x_in: Tensor, plan: PruningPlan) -> Begun:
        """What :meth:`segment` does with ``x_in`` by ``plan``, which drops tokens, in evaluation, before it looks at a box."""
        tokens, _ = self._embed(x_in)
        hidden = {}
        block: Any
        for number, block in enumerate(self.vit.blocks[: plan.unprompted], start=1):
            tokens = run_block(block, tokens)
            if number in _SKIPS or number in plan.after:
                hidden[number] = tokens
        return Begun(tokens, plan.unprompted, hidden)

    def finish(self, x_in: Tensor, begun: Begun, prompts: PromptBatch, plan: PruningPlan) -> PrunedOutput:
        """The rest of :meth:`segment`, for at least one box, after :meth:`begin` on the same ``x_in`` with the same ``plan``."""
        pruning = PromptedPruning(self.relevance, plan, prompts.to(x_in.device), tuple(x_in.shape[2:]))
        encoded = self.encode(begun, pruning)
        return PrunedOutput(self.decode(x_in, encoded, pruning.decoded(False)), encoded.stages)

    def shapes(self, plan: PruningPlan, prompts: PromptBatch, image_size: tuple[int, ...]) -> tuple[tuple[int, bool], ...]:
        """How many tokens the blocks run on: known before a call, see :class:`FixedPruning`."""
        return token_counts(plan, prompts, tuple(s // p for s, p in zip(image_size, self.patch_size)), image_size)

    def encode(self, begun: Begun, pruning: PromptedPruning) -> Encoded:
        """The blocks that ``begun`` has not run, on the tokens that ``pruning`` lets live."""
        grid = tuple(s // p for s, p in zip(pruning.image_size, self.patch_size))
        canvas, hidden = begun.tokens, dict(begun.hidden)
        alive = pruning.start(grid)
        kept = pruning.kept(alive)
        tokens = kept.gather(canvas)
        block: Any
        for number, block in enumerate(self.vit.blocks, start=1):
            if number > begun.blocks:
                tokens = kept.run(block, tokens)
                if number in _SKIPS or number in pruning.plan.after:
                    canvas = kept.scatter(canvas, tokens)
                    hidden[number] = canvas
            if number in pruning.plan.after:
                alive = pruning.prune(f"block {number}", grid, pruning.score(number, canvas, grid, alive), alive).alive
                kept = pruning.kept(alive)
                tokens = kept.gather(canvas)
        features = {number: values for number, values in hidden.items() if number in _SKIPS}
        return Encoded({**features, LAST: self.vit.norm(kept.scatter(canvas, tokens))}, tuple(pruning.stages))

    def decode(self, x_in: Tensor, encoded: Encoded, where: Region) -> Tensor:
        """Logits (B, classes, *image), decoded ``where`` alone and surely background elsewhere."""
        grid = tuple(s // p for s, p in zip(x_in.shape[2:], self.patch_size))

        def tokens(number: int) -> Source:  # MONAI's own proj_feat knows the whole grid alone
            return given(encoded.features[number].unflatten(1, grid).movedim(-1, 1).contiguous())

        x = up(self.decoder5, tokens(LAST), projected_up(self.encoder4, tokens(10)))
        x = up(self.decoder4, x, projected_up(self.encoder3, tokens(7)))
        x = up(self.decoder3, x, projected_up(self.encoder2, tokens(4)))
        x = up(self.decoder2, x, basic(self.encoder1, given(x_in)))
        return Part(self.out(x(where).values), where).spread()

    def _dense(self, x_in: Tensor) -> Tensor:
        if tuple(x_in.shape[2:]) == self.img_size:
            return super().forward(x_in)
        x, _ = self._embed(x_in)
        hidden: dict[int, Tensor] = {}
        for number, block in enumerate(self.vit.blocks, start=1):
            x = hidden[number] = block(x)
        return self.decode(x_in, Encoded({**hidden, LAST: self.vit.norm(x)}, ()), Region.whole(tuple(x_in.shape[2:])))

    def _embed(self, x_in: Tensor) -> tuple[Tensor, tuple[int, ...]]:
        """Tokens (B, Z, C) with their positions, and the grid that they lie on."""
        size, embedding = tuple(x_in.shape[2:]), self.vit.patch_embedding
        if any(s % p or s > most for s, p, most in zip(size, self.patch_size, self.img_size)):
            raise ValueError(f"The image must have sides that are multiples of {self.patch_size} and at most {self.img_size}, not {size}.")
        grid = tuple(s // p for s, p in zip(size, self.patch_size))
        if grid == tuple(self.feat_size):
            return embedding(x_in), grid
        middle = (slice(None), *(slice((f - g) // 2, (f - g) // 2 + g) for f, g in zip(self.feat_size, grid)))
        positions = embedding.position_embeddings.unflatten(1, tuple(self.feat_size))[middle].flatten(1, -2)
        return embedding.dropout(embedding.patch_embeddings(x_in).flatten(2).transpose(-1, -2) + positions), grid

    def _encode_relaxed(self, x: Tensor, grid: tuple[int, ...], pruning: PromptedPruning) -> tuple[dict[int, Tensor], Tensor]:
        masking, alive = pruning.plan.mode == "mask", pruning.start(grid)
        gate = first_gate(alive, x.dtype)
        if masking and gate is not None:
            x = x * gate.unsqueeze(-1)
        hidden: dict[int, Tensor] = {}
        block: Any
        for number, block in enumerate(self.vit.blocks, start=1):
            # the paper's mask leaves zeroed tokens in the computation; dropping, relaxed, holds them out of it
            x = block(x) if gate is None or masking else relaxed_block(block, x, gate)
            if number in _SKIPS:
                hidden[number] = x
            if number in pruning.plan.after:
                record = pruning.prune(f"block {number}", grid, pruning.score(number, x, grid, alive), alive)
                gate, alive = pruning.gate(record, alive, gate), record.alive
                if masking:
                    x = x * gate.unsqueeze(-1)  # eq. 5: beta * Y
        return hidden, x
