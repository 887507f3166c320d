"""A training state in files small enough to be transferred, half as large as it is in memory.

Weights, their running average and the optimiser's moments go from 32 bits to 16 when a training moves from one machine to another: it goes
on as it would have, but for that rounding. Where it stays on a machine, ``state.pt`` is exact.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

#: Bytes of tensors in a part: with what torch writes besides, less than 16 MB.
PART_BYTES = 15_000_000


def split_state(state_file: Path) -> list[Path]:
    """Replace ``state_file`` (``state.pt``) by ``state.0.part``, ``state.1.part``, ... beside it."""
    state = torch.load(state_file, map_location="cpu", weights_only=True)
    tensors: dict[str, Tensor] = {}
    rest = _without_tensors(state, "", tensors)
    parts: list[dict[str, Tensor]] = [{}]
    filled = 0
    for name, value in tensors.items():
        half = _halved(name, value)
        if filled and filled + half.nbytes > PART_BYTES:
            parts.append({})
            filled = 0
        parts[-1][name] = half
        filled += half.nbytes
    paths = [state_file.with_name(f"{state_file.stem}.{number}.part") for number in range(len(parts))]
    for number, (path, part) in enumerate(zip(paths, parts)):
        torch.save({"tensors": part, "parts": len(parts), "rest": rest if number == 0 else None}, path)
    state_file.unlink()
    return paths


def join_state(state_file: Path) -> None:
    """Make ``state_file`` of the parts beside it, and remove them; nothing where it is there, or no part is.

    Raises:
        ValueError: some of the parts are missing.
    """
    paths = sorted(state_file.parent.glob(f"{state_file.stem}.*.part"))
    if state_file.exists() or not paths:
        return
    stored = [torch.load(path, map_location="cpu", weights_only=True) for path in paths]
    if len(stored) != stored[0]["parts"] or stored[0]["rest"] is None:
        raise ValueError(
            f"{state_file.parent} holds {len(stored)} of the {stored[0]['parts']} parts of a training state: copy all of them."
        )
    tensors = {name: value for part in stored for name, value in part["tensors"].items()}
    whole = {name: value.float() if value.dtype in (torch.float16, torch.bfloat16) else value for name, value in tensors.items()}
    torch.save(_with_tensors(stored[0]["rest"], whole), state_file)
    for path in paths:
        path.unlink()


def _halved(name: str, value: Tensor) -> Tensor:
    """In 16 bits: of squares, whose size varies most, the exponent is kept; of weights, the digits. Single numbers stay."""
    if value.dtype != torch.float32 or value.ndim == 0:
        return value
    return value.bfloat16() if name.startswith("optimiser") else value.half()


def _without_tensors(value: Any, path: str, found: dict[str, Tensor]) -> Any:
    """``value`` with each tensor in it put into ``found``, and the name that it has there in its place."""
    if isinstance(value, Tensor):
        found[path] = value
        return {"tensor": path}
    if isinstance(value, dict):
        return {"items": [(key, _without_tensors(each, f"{path}{'.' if path else ''}{key}", found)) for key, each in value.items()]}
    if isinstance(value, (list, tuple)):
        return {"list": [_without_tensors(each, f"{path}.{number}", found) for number, each in enumerate(value)]}
    return {"value": value}


def _with_tensors(value: Any, found: dict[str, Tensor]) -> Any:
    """The inverse of :func:`_without_tensors`; tuples come back as lists."""
    if "tensor" in value:
        return found[value["tensor"]]
    if "items" in value:
        return {key: _with_tensors(each, found) for key, each in value["items"]}
    if "list" in value:
        return [_with_tensors(each, found) for each in value["list"]]
    return value["value"]
