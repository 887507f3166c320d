"""Where networks compute, by the names that command lines and callers give; whether it is done there, and whether there was room."""

from __future__ import annotations

import torch


def default_device() -> str:
    """The device of those who name none: cuda where there is a GPU, else cpu."""
    return "cuda" if torch.cuda.is_available() else "cpu"


def device_name(device: str | torch.device, cpu: str = "cpu") -> str:
    """What tables call ``device``: a GPU by its name, else ``cpu``."""
    return torch.cuda.get_device_name(device) if torch.device(device).type == "cuda" else cpu


def synchronise(device: torch.device) -> None:
    """Wait until a GPU has computed what it was given; calls on a CPU return no earlier."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def find_device(name: str | torch.device) -> torch.device:
    """The device ``name``: cpu, cuda or cuda:N.

    Raises:
        ValueError: this machine, or this build of torch, has no such device. RuntimeError: it has one that does not work.
    """
    gpus = [f"cuda:{n}" for n in range(torch.cuda.device_count())] if torch.cuda.is_available() else []
    name = str(name)
    known = ["cpu", *(["cuda"] if gpus else []), *gpus]
    if name not in known:
        raise ValueError(f"There is no device {name!r} here: choose {' or '.join(known)}.")
    device = torch.device(name)
    torch.zeros(1, device=device)
    return device


def is_out_of_memory(error: BaseException | None) -> bool:
    """Whether ``error`` says that the machine or its GPU has no memory left; on a CPU, torch has no class of its own for that."""
    if isinstance(error, (MemoryError, torch.cuda.OutOfMemoryError)):
        return True
    return isinstance(error, RuntimeError) and any(words in str(error) for words in ("can't allocate memory", "not enough memory"))
