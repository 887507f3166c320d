"""Section 7: training."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from PratoLabelLib.choices import Choices


class TrainSection:
    """Starts, stops and follows a training, and shows what came of it."""

    def __init__(self, panel: Any) -> None:
        self._panel, self._ui, self._logic = panel, panel.ui, panel.logic
        self._model = Choices(self._ui.trainModelBox, lambda: panel.parameters, "train_model")
        self._ui.startButton.connect("clicked()", self._on_start)
        self._ui.stopButton.connect("clicked()", lambda: panel.ask(self._logic.stop_training))

    def refresh(self) -> None:
        """Offer the models that learn, and show how far the training is."""
        info, state = self._logic.info, self._logic.training
        self._model.offer([(model.name, model.name) for model in info.models if model.trainable] if info else [])
        running = state is not None and state.running
        self._ui.startButton.enabled = bool(self._model.value) and not running
        self._ui.stopButton.enabled = running
        bar = self._ui.trainProgress
        bar.enabled = running
        bar.maximum = state.steps or 1 if running else 1
        bar.value = state.step if running else 0
        bar.format = _progress(state) if running else ""
        message = state.message if state is not None and not running else ""
        self._ui.trainLabel.visible = bool(message)
        self._ui.trainLabel.text = message
        result = state.result if state is not None and not running else {}
        self._ui.diceLabel.text = _change(result, "dice", "{:.3f}")
        self._ui.versionLabel.text = _version(result)

    def _on_start(self) -> None:
        epochs = self._panel.parameters.max_epochs
        self._panel.ask(lambda: self._logic.start_training(self._model.value, epochs))


def _progress(state: Any) -> str:
    if not state.steps:
        return state.message
    dice = "" if state.dice is None else f", Dice {state.dice:.3f}"
    return f"epoch {state.epoch} of {state.epochs}{dice}"


def _change(result: Mapping[str, Any], name: str, form: str) -> str:
    return f"{form} → {form}".format(result[f"{name}_before"], result[f"{name}_after"]) if result else "not trained yet"


def _version(result: Mapping[str, Any]) -> str:
    if not result:
        return "not trained yet"
    before, after = result["model_version_before"], result["model_version_after"]
    return f"{before} → {after}" if result["published"] else f"{before} stays: the new one was not as good"
