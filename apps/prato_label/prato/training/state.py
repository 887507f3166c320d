"""The state of a training on disk: what a killed run leaves, and a run of the same kind goes on from."""

from __future__ import annotations

import io
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from prato.data.atomic import write_bytes


def save_state(path: Path, state: Mapping[str, Any]) -> None:
    """Write ``state`` to ``path``, whose folder is made if need be, whole or not at all.

    Args:
        state: tensors, numbers and texts, also in dicts and lists; ``run`` says for :func:`load_state` which run it is of.

    Raises:
        OSError: it cannot be written.
    """
    buffer = io.BytesIO()
    torch.save(dict(state), buffer)
    os.makedirs(path.parent, exist_ok=True)
    write_bytes(path, buffer.getvalue())


def load_state(path: Path, run: Mapping[str, Any], device: torch.device) -> dict[str, Any] | None:
    """The state of ``run`` in ``path``, its tensors on ``device``; None where there is no such file.

    Raises:
        ValueError: not a state, or the state of another run.
    """
    if not path.exists():
        return None
    try:
        state: dict[str, Any] = torch.load(path, map_location=device, weights_only=True)
        stored = state.get("run")
    except Exception as error:  # damaged bytes lead the reader to any kind of error
        raise ValueError(f"{path} is not a training state that can be read: delete it, or train in another folder.") from error
    if stored is None:
        raise ValueError(f"{path} does not say which run it belongs to: delete it, or train in another folder.")
    other = [name for name in {**stored, **run} if stored.get(name) != run.get(name)]
    if other:
        raise ValueError(f"{path} belongs to a run with another {', '.join(other)}: use the same settings, or another folder.")
    return state
