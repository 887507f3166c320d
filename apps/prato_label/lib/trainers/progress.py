"""Where a training stands, for the log and for clients that ask."""

from __future__ import annotations

import json
import logging
import time
from pathlib import Path
from typing import Any

from prato.data.atomic import write_bytes

logger = logging.getLogger(__name__)
_EVERY_S = 2.0


class TrainingProgress:
    """Writes what is told to it to the log and to the file ``path`` (JSON, always whole); steps not more often than every two seconds.

    ``epoch``, ``total_epochs``, ``best_metric`` and ``total_time`` (seconds, once it is over) are what the stock 3D Slicer module shows.
    """

    def __init__(self, path: Path, epochs: int, steps: int, dice: float) -> None:
        """Args: epochs, steps: in all. dice: the current model's."""
        self.path, self.steps = path, steps
        self.started = self.shown = time.monotonic()
        self.state: dict[str, Any] = {
            **{"epoch": 0, "total_epochs": epochs, "step": 0, "total_steps": steps, "loss": None},
            **{"best_metric": round(dice, 4), "dice_before": round(dice, 4), "start_ts": int(time.time())},
        }
        logger.info("%d epochs, %d steps; validation Dice of the current model %.4f", epochs, steps, dice)
        _write(self.path, self.state)

    def step(self, step: int, loss: float) -> None:
        """``step`` optimiser steps are done."""
        epochs = self.state["total_epochs"]
        self.state |= {"step": step, "epoch": -(-step * epochs // self.steps), "loss": round(loss, 4)}
        if time.monotonic() - self.shown >= _EVERY_S or step == self.steps:
            self.shown = time.monotonic()
            logger.info("epoch %d/%d, step %d/%d, loss %.3f", self.state["epoch"], epochs, step, self.steps, loss)
            _write(self.path, self.state)

    def validation(self, dice: dict[str, float]) -> None:
        """Dice by structure and their "mean" on slices of validation patients, now."""
        logger.info("validation Dice: %s", ", ".join(f"{name} {value:.3f}" for name, value in dice.items()))
        self.state |= {"validation": dice, "best_metric": max(self.state["best_metric"], dice["mean"])}
        _write(self.path, self.state)

    def done(self, result: dict[str, Any]) -> None:
        """It is over, with ``result`` (see ``PratoTrainer``)."""
        before, after = (f"{result[f'dice_{when}']:.4f} ({result[f'model_version_{when}']})" for when in ("before", "after"))
        logger.info("validation Dice %s -> %s: %s", before, after, "published" if result["published"] else "not published")
        best = result["dice_after"] if result["published"] else result["dice_before"]
        self.state |= {**result, "best_metric": best, "total_time": round(time.monotonic() - self.started, 1)}
        _write(self.path, self.state)


def stored_progress(path: Path) -> dict[str, Any]:
    """What was last written to ``path``; empty before the first training."""
    try:
        stats: dict[str, Any] = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return {}
    return stats


def _write(path: Path, state: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_bytes(path, (json.dumps(state, indent=1) + "\n").encode())
