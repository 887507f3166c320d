"""The device that a script measures on: which one, what results call it, and when it is done."""

from __future__ import annotations

import torch


def default_device() -> torch.device:
    """The GPU where there is one, as in the app; else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def device_name(device: torch.device, cpu: str = "cpu") -> str:
    """What results call ``device``: a GPU as its maker does, the CPU ``cpu``."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else cpu


def wait_for(device: torch.device) -> None:
    """Return when ``device`` has done all that it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
