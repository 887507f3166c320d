"""What the server says, read into plain classes. ``docs/protocol.md`` defines it; anything else is a ValueError, KeyError or TypeError."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from email.message import Message
from json import loads
from typing import Any, TypeVar

#: What a running training's log says once its own numbers stand in the statistics; until then they are an earlier training's.
_UNDER_WAY = re.compile(r"\d+ steps;|step \d+/")
_RESULT = ("published", "dice_before", "dice_after", "model_version_before", "model_version_after")
_Kind = TypeVar("_Kind")


@dataclass(frozen=True)
class Cost:
    """What one slice costs the server: 10^9 operations, and ms on its default device."""

    gflops: float
    ms: float


@dataclass(frozen=True)
class Model:
    """A model that the server offers.

    Attributes:
        interactive: whether it expects a box; one that is not proposes its own.
        labels: structure name -> value in the mask.
        prune: what may be asked for, the default first.
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
    """The server, its models and strategies; ``round_trip_ms`` is what this very question took."""

    name: str
    version: str
    models: tuple[Model, ...]
    strategies: tuple[str, ...]
    round_trip_ms: float

    @property
    def costs_known(self) -> bool:
        """Whether the server has measured all its models."""
        return all(model.cost for model in self.models)


@dataclass(frozen=True)
class Study:
    """One study; ``labelled``: it has a final label, by ``annotator`` ("" if unknown)."""

    id: str
    labelled: bool
    annotator: str


@dataclass(frozen=True)
class Answer:
    """A segmentation: the mask as an NRRD file, and the JSON part of the reply."""

    mask: bytes
    reply: dict[str, Any]


@dataclass(frozen=True)
class TrainingState:
    """How far the latest training of a model is.

    Attributes:
        epoch, epochs, step, steps: done and in all; 0 before it begins.
        dice: validation Dice of the growing model, at first of the model that it started from; None before it begins.
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


def read_info(info: Any, round_trip_ms: float) -> ServerInfo:
    """``GET /info/``."""
    models = tuple(_model(name, model, name in info["trainers"]) for name, model in expected(dict, info["models"]).items())
    return ServerInfo(
        expected(str, info["name"]), expected(str, info["version"]), models, tuple(expected(dict, info["strategies"])), round_trip_ms
    )


def _model(name: str, model: Mapping[str, Any], trainable: bool) -> Model:
    return Model(
        name=name,
        interactive=expected(str, model["type"]) == "deepedit",
        labels={label: expected(int, value) for label, value in expected(dict, model["labels"]).items()},
        prune=tuple(expected(str, choice) for choice in expected(list, model["config"]["prune"])),
        trainable=trainable,
        cost={prune: Cost(float(c["gflops"]), float(c["ms"])) for prune, c in expected(dict, model.get("cost_per_slice", {})).items()},
    )


def read_studies(datastore: Any) -> list[Study]:
    """``GET /datastore/?output=all``, sorted by id."""
    found = []
    for study, entry in sorted(expected(dict, datastore["objects"]).items()):
        final = expected(dict, entry["labels"]).get("final")
        annotator = final["info"].get("annotator") if final else None
        found.append(Study(study, final is not None, annotator if isinstance(annotator, str) else ""))
    return found


def read_answer(content_type: str, body: bytes) -> Answer:
    """``POST /infer/{model}`` with a .nrrd asked for."""
    parts = _parts(content_type, body)
    mask, reply = parts["image"], expected(dict, loads(parts["params"]))
    if not mask.startswith(b"NRRD"):
        raise ValueError("the mask is no NRRD file")
    for key, kind in (("label_names", dict), ("box", list), ("warnings", list), ("model_version", str)):
        expected(kind, reply[key])
    return Answer(mask, reply)


def read_training(model: str, tasks: Any, info: Any) -> TrainingState:
    """``GET /train/?all=true`` (newest last) and ``GET /info/``."""
    stats = expected(dict, info["train_stats"].get(model, {}))
    own = [task for task in expected(list, tasks) if task["request"].get("model") == model]
    details = [str(line) for line in own[-1].get("details", [])] if own else []
    status = expected(str, own[-1]["status"]) if own else ""
    known = stats if status in ("", "DONE") or any(_UNDER_WAY.search(line) for line in details) else {}
    epoch, epochs, step, steps = (int(known.get(name, 0)) for name in ("epoch", "total_epochs", "step", "total_steps"))
    dice = known.get("validation", {}).get("mean", known.get("dice_before"))
    messages = {
        "": "",
        "SUBMITTED": "The training is about to start.",
        "RUNNING": f"Step {step} of {steps}." if steps else "Reading the labels and measuring the model as it is.",
        "STOPPED": "The training was stopped: the model is as it was.",
        "DONE": "The training has ended.",
        "ERROR": _failure(details),
    }
    return TrainingState(
        running=status in ("SUBMITTED", "RUNNING"),
        **{"epoch": epoch, "epochs": epochs, "step": step, "steps": steps},
        dice=None if dice is None else float(dice),
        message=messages[status],
        result={key: stats[key] for key in _RESULT} if "published" in stats else {},
    )


def _failure(details: Sequence[str]) -> str:
    """The sentence that the server's log ends with, where a training was refused."""
    sentences = [line.split("HTTPException: ", 1)[1] for line in details if "HTTPException: " in line]
    return re.sub(r"^\d+: ", "", sentences[-1]) if sentences else "The training failed: the server's log says why."


def _parts(content_type: str, body: bytes) -> dict[str, bytes]:
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


def expected(kind: type[_Kind], value: Any) -> _Kind:
    """``value``, if it is a ``kind``; TypeError else."""
    if not isinstance(value, kind):
        raise TypeError(f"{value!r:.60} is no {kind.__name__}")
    return value
