"""What a training of the queue has left: its curve, and its weights, in the queue's folder or in the model file that the app ships of it.

Needs torch and MONAI alone, for a shipped model safetensors and pydantic, too.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch

from scripts.common.paths import MODELS


def read_points(folder: Path) -> list[dict[str, Any]]:
    """The points of the curve in ``folder``; the last may be cut short, where a run was killed as it wrote it.

    Raises:
        FileNotFoundError: no training has begun there.
    """
    lines = (folder / "curve.jsonl").read_text(encoding="utf-8").splitlines(keepends=True)
    return [json.loads(line) for line in lines if line.endswith("\n")]


def keep_weights(weights: dict[str, torch.Tensor], entry: dict[str, Any], recipe: dict[str, Any], folder: Path) -> None:
    """Write ``weights.pt`` to the ``folder`` of ``entry``, which took ``recipe`` to train."""
    halved = {name: value.half() if value.is_floating_point() else value for name, value in weights.items()}
    torch.save({"weights": halved, "entry": entry, "recipe": recipe}, folder / "weights.pt")


def load_weights(folder: Path) -> dict[str, Any]:
    """``weights``, ``entry`` and ``recipe``, as :func:`keep_weights` wrote them to ``folder``."""
    left: dict[str, Any] = torch.load(folder / "weights.pt", map_location="cpu", weights_only=False)
    return left


def read_weights(folder: Path) -> dict[str, Any]:
    """``weights`` (a state dict), ``entry`` (its ``network`` and ``arguments``) and ``recipe`` of the training that ``folder`` is of.

    Raises:
        FileNotFoundError: it has not ended here, and the app ships no model of its name.
    """
    if (folder / "weights.pt").exists():
        return load_weights(folder)
    if folder.name not in shipped_trainings():
        raise FileNotFoundError(f"{folder} holds no finished training: run scripts/research/train_queue.py --only {folder.name} first.")
    from prato.models.checkpoint import load_model

    network, spec, _ = load_model(MODELS / f"prato_{folder.name}.safetensors")
    entry = {"name": folder.name, "network": spec.network, "arguments": spec.arguments}
    return {"weights": network.state_dict(), "entry": entry, "recipe": spec.training["recipe"]}


def list_trainings(queue_out: Path) -> list[str]:
    """The names of all trainings whose weights are in the queue's folder or in the app."""
    return sorted({path.parent.name for path in queue_out.glob("*/weights.pt")} | set(shipped_trainings()))


def shipped_trainings() -> list[str]:
    """The names of the trainings whose weights the app ships; none where what reads model files is not installed."""
    try:
        from prato.models.checkpoint import CheckpointError, read_spec
    except ImportError:
        return []
    found = []
    for path in sorted(MODELS.glob("prato_*.safetensors")):
        try:
            found += [path.stem.removeprefix("prato_")] if "recipe" in read_spec(path).training else []
        except CheckpointError:  # such as one that is not here, but in a store of large files
            continue
    return found
