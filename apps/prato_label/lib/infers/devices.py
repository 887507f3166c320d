"""The names under which a client may ask for a device."""

from __future__ import annotations

from typing import Any

import torch
from monailabel.utils.others.generic import device_list, device_map

from prato.inference.request import RequestError


def offered_devices() -> list[str]:
    """Names for a client's device list, the default first: the GPUs by name, if there are any, then the CPU."""
    return [*device_list(), "cpu"] if torch.cuda.is_available() else ["cpu"]


def device_named(name: Any) -> str:
    """The torch device that a request's ``device`` means: a name of ``offered_devices``, "cuda:<n>", "cpu" or nothing for the default.

    A plain "cuda" is what stock clients and MONAI Label's own defaults send without looking: it is the first GPU, or the CPU without one.

    Raises:
        RequestError: no such device here.
    """
    gpus = [f"cuda:{n}" for n in range(torch.cuda.device_count())]
    default = gpus[0] if gpus else "cpu"
    if not name or isinstance(name, (list, tuple)):  # a list is the config's, handed back untouched
        return default
    known = {"cpu": "cpu", "cuda": default, **dict(zip(gpus, gpus))}
    known.update({label: default if device == "cuda" else device for label, device in device_map().items()})
    if not isinstance(name, str) or name not in known:
        raise RequestError(f"device {name!r:.60} is not one of this server's: choose {', '.join(offered_devices())}.")
    return known[name]
