"""What an experiment is: one row of the paper's tables."""

from __future__ import annotations

from collections.abc import Mapping
from inspect import signature
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from prato.pruning.plan import PruningPlan
from scripts.research.baselines.unetr import METHODS
from scripts.research.datasets.base import Sight, dataset_class
from scripts.research.experiments.sizes import size_arguments

#: Slices a step of what scripts/research/train_queue.py trains of the paper.
QUEUE_BATCH = 64
SeesBox = Literal["not at all", "as a channel", "as prompt", "as prompt and channel", "by cropping", "in a window"]

_PROMPTED, _CHANNEL = ("as prompt", "as prompt and channel"), ("as a channel", "as prompt and channel")
#: How many times as long as the box the network's view is, and its edge as a share of ``image``; others see the whole image.
_VIEWS = {"by cropping": (1.0, 0.5), "in a window": (1.5, 0.75)}


def slices_seen(run: Mapping[str, Any]) -> int:
    """How many slices, or images, the model of a run saw in training."""
    spent = run["spent"]
    return int(spent["steps"]) * int(spent["batch"])


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Spending(_Strict):
    """How long to train, and how many slices a step takes: ``steps`` or ``minutes``, or ``slices`` with the trainer that makes its batches
    on the device (scripts/research/train_queue.py)."""

    slices: int | None = Field(default=None, gt=0)
    steps: int | None = Field(default=None, gt=0)
    minutes: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    batch: int = Field(default=8, gt=0)

    @model_validator(mode="after")
    def _is_one_amount(self) -> Spending:
        if sum(given is not None for given in (self.slices, self.steps, self.minutes)) != 1:
            raise ValueError("a budget is either slices, steps or minutes")
        return self


class Experiment(_Strict):
    """One row of one or more tables.

    Attributes:
        network, size: which network, and whether as published ("full") or small enough for a CPU ("reduced").
        method: what decides which tokens are computed: "prato" or a registered baseline; baselines but "dense" run on UNETR.
        sees_box: how the box reaches the network. "by cropping": the image cut to the box and the cut stretched to half of ``image``.
            "in a window": a window one and a half times as long as the box, stretched to three quarters of ``image``; in it, the box is
            method prato's prompt.
        plan: of method "prato": fields of ``PruningPlan``.
        settings: of a baseline, where they are not its own.
        recipe: "paper": Dice + cross-entropy, at the plan alone. "engine": also the project's own supervision and levels.
        dense_first: of method "prato": share of the training, from its start, in which no token leaves.
        box: at evaluation.
        model_of: the experiment whose trained model is measured; None to train one.
        teacher: the experiment whose dense model a method such as dynamic_vit learns from.
        data: a registered data set; images: how many of its images, drawn by a hash; None for all.
        seed: everything random follows from it but the split and the boxes at evaluation, which are the same for all.
        image: edge of what the network sees, in pixels.
    """

    network: str
    size: Literal["reduced", "full"] = "reduced"
    method: str
    sees_box: SeesBox
    plan: dict[str, Any] | None = None
    recipe: Literal["paper", "engine"] = "paper"
    dense_first: float = Field(default=0.0, ge=0, lt=1)
    box: Literal["tight", "oversized", "partial", "misleading"] = "tight"
    settings: dict[str, Any] | None = None
    model_of: str | None = None
    teacher: str | None = None
    data: str
    images: int | None = Field(default=None, ge=10)
    seed: int = Field(default=0, ge=0)
    budget: Spending
    image: int = Field(default=128, ge=32, multiple_of=32)

    @model_validator(mode="after")
    def _fits_together(self) -> Experiment:
        size_arguments(self.network, self.size)
        dataset = dataset_class(self.data)
        if self.method not in (*METHODS, "prato"):
            raise ValueError(f"method must be prato or one of {', '.join(sorted(METHODS))}, not {self.method}")
        if (self.method == "prato") != (self.plan is not None):
            raise ValueError("method prato, and no other, has a plan")
        if self.dense_first and self.method != "prato":
            raise ValueError("method prato, and no other, has a share of training in which no token leaves")
        prompted = self.method != "prato" and METHODS[self.method].needs_prompts
        if prompted and self.sees_box != "as prompt":
            raise ValueError(f"method {self.method} sees the box as prompt")
        self._check_settings()
        if not prompted and ((self.sees_box not in (*_PROMPTED, "in a window")) if self.method == "prato" else self.sees_box in _PROMPTED):
            raise ValueError("method prato, and no other, sees the box as prompt, of the whole image or in a window")
        if self.network != "unetr" and (self.method not in ("dense", "prato") or self.sees_box in _CHANNEL):
            raise ValueError(f"{self.network} is run dense or with prato, without a channel for the box: baselines run on unetr")
        if self.sees_box == "by cropping" and self.method != "dense":
            raise ValueError("the image is cut to the box for method dense alone")
        if self.sees_box == "in a window" and self.method not in ("dense", "prato"):
            raise ValueError("a window follows the box for the methods dense and prato")
        needs_teacher = self.method != "prato" and METHODS[self.method].needs_teacher
        if needs_teacher != (self.teacher is not None):
            raise ValueError(f"method {self.method} {'needs a' if needs_teacher else 'has no'} teacher")
        if self.images is not None and not dataset.can_draw:
            raise ValueError(f"of {self.data} all images are taken: leave images out")
        self.pruning_plan()
        return self

    def _check_settings(self) -> None:
        if self.settings is None:
            return
        if self.method not in METHODS:
            raise ValueError("a baseline, and nothing else, has settings")
        offered = [*signature(METHODS[self.method]).parameters][1:]  # the first is the host
        if unknown := [name for name in self.settings if name not in offered]:
            raise ValueError(f"method {self.method} has no setting {unknown[0]}, only {', '.join(offered) or 'none at all'}")

    def pruning_plan(self) -> PruningPlan | None:
        """The plan as an object.

        Raises:
            ValueError: it is none.
        """
        if self.plan is None:
            return None
        try:
            return PruningPlan.from_dict(self.plan)
        except (TypeError, KeyError) as error:
            raise ValueError(f"plan is not a pruning plan: {error}") from error

    @property
    def needs(self) -> tuple[str, ...]:
        """The experiments whose trained models this one takes."""
        return tuple(name for name in (self.model_of, self.teacher) if name is not None)

    @property
    def is_baseline(self) -> bool:
        """Whether it runs in the baselines' UNETR."""
        return self.network == "unetr" and self.method in METHODS

    @property
    def has_box_channel(self) -> bool:
        """Whether the box is one more channel of the network's input."""
        return self.sees_box in _CHANNEL

    @property
    def sight(self) -> Sight:
        """How the network sees a case."""
        boxes, share = _VIEWS.get(self.sees_box, (0.0, 1.0))
        return Sight(self.image, int(self.image * share), boxes)


def is_same_experiment(stored: Any, experiment: Experiment) -> bool:
    """Whether ``stored``, as a result or model has it, describes ``experiment``; a key that it was written without has its default."""
    try:
        found = Experiment.model_validate(stored)
    except ValidationError:
        return False
    without_plan = (each.model_copy(update={"plan": None}) for each in (found, experiment))
    return next(without_plan) == next(without_plan) and found.pruning_plan() == experiment.pruning_plan()
