"""How far a training is, for the log and for clients that ask."""

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
    """Writes what is reported to it to the log and to the file ``path`` (JSON, always whole); steps at most every two seconds.

    ``epoch``, ``total_epochs``, ``best_metric`` and ``total_time`` (seconds, once it is over) are what the stock 3D Slicer module shows.
    ``seconds`` is the time spent on steps since this process started or resumed the training; ``eta_seconds`` is what is left at that
    speed, None before the second step.
    """

    def __init__(self, path: Path, epochs: int, steps: int, dice: float, job: str = "") -> None:
        """Args: epochs, steps: in all. dice: the current model's. job: whose training it is, by its id."""
        self.path, self.steps = path, steps
        self._start_time = self._last_write = time.monotonic()
        self._first: tuple[int, float] | None = None
        self.state: dict[str, Any] = {
            **{"epoch": 0, "total_epochs": epochs, "step": 0, "total_steps": steps, "loss": None},
            **{"best_metric": round(dice, 4), "dice_before": round(dice, 4), "start_ts": int(time.time())},
            **{"seconds": 0.0, "eta_seconds": None, "job": job},
        }
        logger.info("%d epochs, %d steps; Dice of the current model on whole validation volumes %.4f", epochs, steps, dice)
        self._write()

    def report_step(self, step: int, loss: float) -> None:
        """``step`` optimiser steps are done, counted from the beginning however often it was stopped."""
        now, epochs = time.monotonic(), self.state["total_epochs"]
        is_first = self._first is None
        self._first = self._first or (step, now)
        done, seconds = step - self._first[0], now - self._first[1]
        eta = round((self.steps - step) * seconds / done, 1) if done else None
        self.state |= {"step": step, "epoch": -(-step * epochs // self.steps), "loss": round(loss, 4)}
        self.state |= {"seconds": round(seconds, 1), "eta_seconds": eta}
        if is_first or now - self._last_write >= _EVERY_S or step == self.steps:
            self._last_write = now
            logger.info("epoch %d/%d, step %d/%d, loss %.3f", self.state["epoch"], epochs, step, self.steps, loss)
            self._write()

    def report_validation(self, dice: dict[str, float]) -> None:
        """Dice by structure and their "mean" on slices of validation patients, now."""
        logger.info("Dice on validation slices: %s", ", ".join(f"{name} {value:.3f}" for name, value in dice.items()))
        # the first compares with nothing: the Dice of whole volumes, which was there before, is another
        best = max(self.state["best_metric"], dice["mean"]) if "validation" in self.state else dice["mean"]
        self.state |= {"validation": dice, "best_metric": best}
        self._write()

    def report_result(self, result: dict[str, Any]) -> None:
        """The training is over, with ``result`` (see ``train_round``)."""
        logger.info("%s: %s", "published" if result["published"] else "not published", result["reason"])
        self.state |= {**_ended(result), "total_time": round(time.monotonic() - self._start_time, 1)}
        self._write()

    def _write(self) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        write_bytes(self.path, (json.dumps(self.state, indent=1) + "\n").encode())


def complete_progress(path: Path, result: dict[str, Any]) -> None:
    """As :meth:`TrainingProgress.report_result`, of a training whose process ended before it could say so."""
    state = load_progress(path)
    if state and "published" not in state:
        write_bytes(path, (json.dumps({**state, **_ended(result)}, indent=1) + "\n").encode())


def _ended(result: dict[str, Any]) -> dict[str, Any]:
    return {**result, "best_metric": result["dice_after"] if result["published"] else result["dice_before"], "eta_seconds": 0.0}


def load_progress(path: Path) -> dict[str, Any]:
    """What was last written to ``path``; empty before the first training, and where the file is damaged."""
    try:
        state = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return {}
    return state if isinstance(state, dict) else {}
