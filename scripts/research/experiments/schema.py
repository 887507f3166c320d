"""What a plan file says, and which experiments are the rows of which table."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from prato.pruning.plan import PruningPlan
from scripts.research.baselines.unetr import METHODS

NetworkName = Literal["unetr", "swin_unetr", "transunet", "segformer"]
MethodName = Literal["dense", "prato", "dynamic_vit", "evo_vit", "dtop", "stp", "tram", "random", "tome"]
SeesBox = Literal["not at all", "as a channel", "as prompt", "by cropping", "in a window"]

#: How many times as long as the box the network's view is, and its edge as a share of ``image``; others see the whole image.
_VIEWS = {"by cropping": (1.0, 0.5), "in a window": (1.5, 0.75)}


class ExperimentError(ValueError):
    """An experiment that cannot be run; the message is one sentence."""


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Spending(_Strict):
    """How long to train, ``steps`` or ``minutes``, and how many slices a step takes."""

    steps: int | None = Field(default=None, gt=0)
    minutes: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    batch: int = Field(default=8, gt=0)

    @model_validator(mode="after")
    def _one_of_two(self) -> Spending:
        if (self.steps is None) == (self.minutes is None):
            raise ValueError("a budget is either steps or minutes")
        return self


class Experiment(_Strict):
    """One row of one or more tables.

    Attributes:
        network, size: which network, and whether as published ("full") or small enough for a CPU ("reduced").
        method: what decides which tokens are computed; all but "dense" and "prato" run on UNETR.
        sees_box: how the box reaches the network. "by cropping": the image cut to the box and the cut stretched to half of ``image``.
            "in a window": a window one and a half times as long as the box, stretched to three quarters of ``image``; in it, the box is
            method prato's prompt.
        plan: of method "prato": fields of ``PruningPlan``.
        recipe: "paper": Dice + cross-entropy, at the plan alone. "engine": also the project's own supervision and levels.
        dense_first: of method "prato": share of the training, from its start, in which no token leaves.
        box: at evaluation.
        model_of: the experiment whose trained model is measured; None to train one.
        teacher: the experiment whose dense model DynamicViT learns from.
        data: which; images: how many of ISIC's, drawn by a hash; None for all.
        seed: everything random follows from it but the split and the boxes at evaluation, which are the same for all.
        image: edge of what the network sees, in pixels.
    """

    network: NetworkName
    size: Literal["reduced", "full"] = "reduced"
    method: MethodName
    sees_box: SeesBox
    plan: dict[str, Any] | None = None
    recipe: Literal["paper", "engine"] = "paper"
    dense_first: float = Field(default=0.0, ge=0, lt=1)
    box: Literal["tight", "oversized", "partial", "misleading"] = "tight"
    model_of: str | None = None
    teacher: str | None = None
    data: Literal["acdc", "isic"]
    images: int | None = Field(default=None, ge=10)
    seed: int = Field(default=0, ge=0)
    budget: Spending
    image: int = Field(default=128, ge=32, multiple_of=32)

    @model_validator(mode="after")
    def _fits_together(self) -> Experiment:
        if (self.method == "prato") != (self.plan is not None):
            raise ValueError("method prato, and no other, has a plan")
        if self.dense_first and self.method != "prato":
            raise ValueError("method prato, and no other, has a share of training in which no token leaves")
        if (self.sees_box not in ("as prompt", "in a window")) if self.method == "prato" else self.sees_box == "as prompt":
            raise ValueError("method prato, and no other, sees the box as prompt, of the whole image or in a window")
        if self.network != "unetr" and (self.method not in ("dense", "prato") or self.sees_box == "as a channel"):
            raise ValueError(f"{self.network} is run dense or with prato, without a channel for the box: baselines run on unetr")
        if self.sees_box == "by cropping" and self.method != "dense":
            raise ValueError("the image is cut to the box for method dense alone")
        if self.sees_box == "in a window" and self.method not in ("dense", "prato"):
            raise ValueError("a window follows the box for the methods dense and prato")
        if (self.method == "dynamic_vit") != (self.teacher is not None):
            raise ValueError("method dynamic_vit, and no other, has a teacher")
        if self.images is not None and self.data != "isic":
            raise ValueError("images counts those of isic")
        self.pruning_plan()
        return self

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
    def baseline(self) -> bool:
        """Whether it runs in the baselines' host."""
        return self.network == "unetr" and self.method in METHODS

    @property
    def edge(self) -> int:
        """Edge of the network's input in pixels."""
        return int(self.image * _VIEWS.get(self.sees_box, (0.0, 1.0))[1])

    @property
    def boxes(self) -> float:
        """How many times as long as the box the network's view is; 0 where it sees the whole image."""
        return _VIEWS.get(self.sees_box, (0.0, 1.0))[0]


def same_plan(stored: Any, experiment: Experiment) -> bool:
    """Whether ``stored``, a plan as a result or model has it, is ``experiment``'s; a key that it was written without has its default."""
    try:
        return Experiment.model_validate(stored) == experiment
    except ValidationError:
        return False


def load_experiments(folder: Path) -> dict[str, Experiment]:
    """Every plan file below ``folder``, by name such as "table4/prato_acdc"; checked against each other.

    Raises:
        ExperimentError: there are none, one is not a plan, or one needs another that is not there.
    """
    found: dict[str, Experiment] = {}
    for path in sorted(folder.glob("*/*.json")):
        name = f"{path.parent.name}/{path.stem}"
        try:
            found[name] = Experiment.model_validate_json(path.read_bytes())
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(str(part) for part in first["loc"])
            raise ExperimentError(f"{path} is no plan of an experiment: {where + ': ' if where else ''}{first['msg']}.") from error
    if not found:
        raise ExperimentError(f"{folder} holds no plan files such as table4/prato_acdc.json.")
    for name, experiment in found.items():
        for needed in experiment.needs:
            if needed not in found:
                raise ExperimentError(f"{name} needs {needed}, of which there is no plan file.")
            _check_fit(name, experiment, needed, found[needed])
    return found


def _check_fit(name: str, experiment: Experiment, needed: str, other: Experiment) -> None:
    if other.model_of is not None:
        raise ExperimentError(f"{name} needs {needed}, which trains no model of its own.")
    same = ["network", "size", "data", "images", "image", "sees_box"]
    if experiment.model_of:
        same += ["method", "plan", "recipe", "dense_first", "seed", "budget"]
    elif other.method != "dense":
        raise ExperimentError(f"The teacher of {name} must be dense: {needed} is not.")
    differ = [field for field in same if getattr(experiment, field) != getattr(other, field)]
    if differ:
        raise ExperimentError(f"{name} and {needed}, whose model it takes, must agree in {', '.join(differ)}.")


def load_tables(path: Path, experiments: dict[str, Experiment]) -> dict[str, list[str]]:
    """The names of each table's experiments, in the table's order.

    Raises:
        ExperimentError: not such a file, or a row without a plan file.
    """
    try:
        rows = {
            table: list(dict.fromkeys(row["experiment"] for row in content["rows"]))
            for table, content in json.loads(path.read_bytes()).items()
        }
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ExperimentError(f"{path} does not say which experiments are the rows of which table.") from error
    for table, names in rows.items():
        for name in names:
            if name not in experiments:
                raise ExperimentError(f"{table} has the row {name}, of which there is no plan file.")
    return rows


def chosen(asked: list[str], tables: dict[str, list[str]], experiments: dict[str, Experiment]) -> list[str]:
    """The experiments that ``asked``, names of tables or experiments, comes to, each once.

    Raises:
        ExperimentError: a name that is neither.
    """
    names: list[str] = []
    for one in asked:
        if one not in tables and one not in experiments:
            raise ExperimentError(f"{one} is neither a table ({', '.join(tables)}) nor an experiment such as {next(iter(experiments))}.")
        names += tables.get(one, [one])
    return list(dict.fromkeys(names))
