"""The server's replies, parsed into plain classes.

``docs/protocol`` defines them; anything else raises ValueError, KeyError or TypeError.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from email.message import Message
from json import loads
from typing import Any, NamedTuple, TypeVar

from PratoLabelLib.translation import translator

_ = translator(__file__)

#: What a running training's log says once the statistics are its own; until then they are an earlier training's.
_OWN_STATISTICS = re.compile(r"\d+ steps;|step \d+/")
_RESULT_KEYS = ("published", "dice_before", "dice_after", "model_version_before", "model_version_after")
_T = TypeVar("_T")


@dataclass(frozen=True)
class Cost:
    """What one slice costs the server: 10^9 operations, and ms on its default device."""

    gflops: float
    ms: float


@dataclass(frozen=True)
class ModelInfo:
    """A model that the server offers.

    Attributes:
        interactive: whether it expects a box; one that is not proposes its own.
        labels: structure name -> value in the mask.
        prune: the pruning ratios it takes, the default first.
        trainable: whether submitted labels can train it.
        cost: by ``prune``; empty while the server has not measured it.
    """

    name: str
    interactive: bool
    labels: dict[str, int]
    prune: tuple[str, ...]
    trainable: bool
    cost: dict[str, Cost]


@dataclass(frozen=True)
class ServerInfo:
    """The server, its models and strategies; ``round_trip_ms`` is what this very request took.

    Attributes:
        contract: version of the wire contract that it keeps; 1 where it does not say.
    """

    name: str
    version: str
    models: tuple[ModelInfo, ...]
    strategies: tuple[str, ...]
    round_trip_ms: float
    contract: int = 1

    @property
    def takes_clicks(self) -> bool:
        """Whether it corrects a mask where it is clicked."""
        return self.contract >= 3

    @property
    def has_costs(self) -> bool:
        """Whether the server has measured all its models."""
        return all(model.cost for model in self.models)


@dataclass(frozen=True)
class Study:
    """One study; ``labelled``: it has a final label, by ``annotator`` ("" if unknown).

    Attributes:
        review: "skipped", "rejected" or "open", as an annotator decided for a ``reason``.
        phases: more than 1 of a cine.
        times_ms: of a cine's phases; None where they are not known.
        marked: the phases of end-diastole and end-systole of a cine; None where nobody has marked them.
    """

    id: str
    labelled: bool
    annotator: str
    review: str = "open"
    reason: str = ""
    phases: int = 1
    times_ms: tuple[float, ...] | None = None
    marked: tuple[int, int] | None = None


class NextStudy(NamedTuple):
    """The study to label next; of a cine, the phase that is to be corrected next, else None."""

    id: str
    phase: int | None


@dataclass(frozen=True)
class Prediction:
    """A segmentation: the mask as a file, and the JSON part of the reply."""

    mask: bytes
    reply: dict[str, Any]


@dataclass(frozen=True)
class TrainingState:
    """The progress of the latest training of a model.

    Attributes:
        epoch, epochs, step, steps: done and in all; 0 before it begins.
        dice: validation Dice of the model in training, at first of the one that it started from; None before it begins.
        message: one sentence; "" if no training was started since the server was.
        result: of the last training that finished: ``published``, ``dice_before``, ``dice_after``, ``model_version_before``,
            ``model_version_after``; empty if there is none.
    """

    running: bool
    epoch: int
    epochs: int
    step: int
    steps: int
    dice: float | None
    message: str
    result: dict[str, Any]


def parse_server_info(info: Any, round_trip_ms: float) -> ServerInfo:
    """``GET /info/``."""
    models = tuple(_parse_model(name, model, name in info["trainers"]) for name, model in require_type(dict, info["models"]).items())
    strategies = tuple(require_type(dict, info["strategies"]))
    name, version = (require_type(str, info[key]) for key in ("name", "version"))
    return ServerInfo(name, version, models, strategies, round_trip_ms, require_type(int, info.get("contract", 1)))


def _parse_model(name: str, model: Mapping[str, Any], trainable: bool) -> ModelInfo:
    return ModelInfo(
        name=name,
        interactive=require_type(str, model["type"]) == "deepedit",
        labels={label: require_type(int, value) for label, value in require_type(dict, model["labels"]).items()},
        prune=tuple(require_type(str, ratio) for ratio in require_type(list, model["config"]["prune"])),
        trainable=trainable,
        cost={prune: Cost(float(c["gflops"]), float(c["ms"])) for prune, c in require_type(dict, model.get("cost_per_slice", {})).items()},
    )


def parse_next_study(data: Any) -> NextStudy:
    """The reply to ``POST /activelearning/{strategy}``."""
    phase = require_type(dict, data).get("phase")
    return NextStudy(require_type(str, data["id"]), None if phase is None else require_type(int, phase))


def parse_studies(datastore: Any) -> list[Study]:
    """``GET /datastore/?output=all``, sorted by id."""
    studies = []
    for study, entry in sorted(require_type(dict, datastore["objects"]).items()):
        final = require_type(dict, entry["labels"]).get("final")
        annotator = final["info"].get("annotator") if final else None
        info = entry.get("image", {}).get("info", {})
        review = info.get("review", {})
        state, reason = (review.get("state"), review.get("reason")) if isinstance(review, dict) else (None, None)
        decided = (state, reason if isinstance(reason, str) else "") if state in ("skipped", "rejected") else ("open", "")
        phases, times_ms, marked = _parse_cine(info)
        by = annotator if isinstance(annotator, str) else ""
        studies.append(Study(study, final is not None, by, decided[0], decided[1], phases, times_ms, marked))
    return studies


def _parse_cine(info: Mapping[str, Any]) -> tuple[int, tuple[float, ...] | None, tuple[int, int] | None]:
    """Number and times of the phases of a study, and those that were marked."""
    times, marked = info.get("times_ms"), info.get("marked") or {}
    ed, es = marked.get("ed"), marked.get("es")
    return (
        require_type(int, info.get("phases", 1)),
        None if times is None else tuple(map(float, times)),
        (ed, es) if isinstance(ed, int) and isinstance(es, int) else None,
    )


def parse_prediction(content_type: str, body: bytes) -> Prediction:
    """``POST /infer/{model}`` for a mask as NRRD or, of several phases, as gzipped NIfTI."""
    parts = _split_multipart(content_type, body)
    mask, reply = parts["image"], require_type(dict, loads(parts["params"]))
    if not mask.startswith((b"NRRD", b"\x1f\x8b")):
        raise ValueError("the mask is neither NRRD nor gzipped")
    for key, kind in (("label_names", dict), ("box", list), ("warnings", list), ("model_version", str)):
        require_type(kind, reply[key])
    return Prediction(mask, reply)


def parse_training_state(model: str, tasks: Any, info: Any) -> TrainingState:
    """``GET /train/?all=true`` (newest last) and ``GET /info/``."""
    stats = require_type(dict, info["train_stats"].get(model, {}))
    own = [task for task in require_type(list, tasks) if task["request"].get("model") == model]
    details = [str(line) for line in own[-1].get("details", [])] if own else []
    status = require_type(str, own[-1]["status"]) if own else ""
    is_own = status in ("", "DONE") or any(_OWN_STATISTICS.search(line) for line in details)
    progress = stats if is_own else {}
    epoch, epochs, step, steps = (int(progress.get(name, 0)) for name in ("epoch", "total_epochs", "step", "total_steps"))
    dice = progress.get("validation", {}).get("mean", progress.get("dice_before"))
    running = _("Step {step} of {steps}.") if steps else _("Reading the labels and evaluating the current model.")
    messages = {
        "": "",
        "SUBMITTED": _("The training is about to start."),
        "RUNNING": running.format(step=step, steps=steps),
        "STOPPED": _("The training was stopped: the model is unchanged."),
        "DONE": _("The training has ended."),
        "ERROR": _failure_sentence(details),
    }
    return TrainingState(
        running=status in ("SUBMITTED", "RUNNING"),
        epoch=epoch,
        epochs=epochs,
        step=step,
        steps=steps,
        dice=None if dice is None else float(dice),
        message=messages[status],
        result={key: stats[key] for key in _RESULT_KEYS} if "published" in stats else {},
    )


def _failure_sentence(details: Sequence[str]) -> str:
    """The sentence at the end of the server's log, where a training was refused."""
    sentences = [line.split("HTTPException: ", 1)[1] for line in details if "HTTPException: " in line]
    return re.sub(r"^\d+: ", "", sentences[-1]) if sentences else _("The training failed: the server's log says why.")


def _split_multipart(content_type: str, body: bytes) -> dict[str, bytes]:
    """A multipart body by the names of its parts."""
    header = Message()
    header["Content-Type"] = content_type
    boundary = header.get_boundary()
    if boundary is None:
        raise ValueError(f"not multipart but {content_type!r}")
    parts = {}
    for piece in (b"\r\n" + body).split(b"\r\n--" + boundary.encode())[1:-1]:
        head, _, content = piece.partition(b"\r\n\r\n")
        name = re.search(rb'[; ]name="([^"]*)"', head)
        if name:
            parts[name[1].decode()] = content
    return parts


def require_type(kind: type[_T], value: Any) -> _T:
    """``value``, if it is a ``kind``; TypeError else."""
    if not isinstance(value, kind):
        raise TypeError(f"{value!r:.60} is no {kind.__name__}")
    return value
