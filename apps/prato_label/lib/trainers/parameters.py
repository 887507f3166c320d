"""What may be asked of a training, checked before it is queued."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from lib.infers.devices import device_named, offered_devices
from prato.prompts.request import RequestError
from prato.retraining.order import TrainingParameters

#: Added by MONAI Label and its clients on a request's way to the task.
_SERVER = {"model", "client_id", "gpus", "multi_gpu", "local_rank"}
_LIMITS = {"max_epochs": (1, 10_000), "max_steps": (1, 1_000_000), "val_split": (0.05, 0.5), "seed": (0, 2**31 - 1)}


def shown_config() -> dict[str, Any]:
    """The options and defaults that clients show."""
    return {**asdict(TrainingParameters()), "device": offered_devices()}


def training_parameters(request: Mapping[str, Any]) -> TrainingParameters:
    """Read ``request``; numbers may come as text, and what is empty is the default.

    Raises:
        RequestError: an unknown name, or a value out of its range.
    """
    names = ("device", *_LIMITS)
    unknown = [name for name in request if name not in (*names, *_SERVER)]
    if unknown:
        raise RequestError(f"{unknown[0]!r:.60} is not a parameter of training: use {', '.join(names)}.")
    numbers = {name: _number(name, request[name]) for name in _LIMITS if request.get(name) not in (None, "")}
    return TrainingParameters(**numbers, device=device_named(request.get("device")))


def _number(name: str, value: Any) -> Any:
    low, high = _LIMITS[name]
    whole = isinstance(low, int)
    try:
        number = math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError):
        number = math.nan
    if not low <= number <= high or (whole and number != int(number)):
        raise RequestError(f"{name} must be a {'whole ' if whole else ''}number from {low} to {high}, not {value!r:.60}.")
    return int(number) if whole else number
