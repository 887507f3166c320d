"""Training: started, stopped, and followed until it has ended."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from PratoLabelLib.parameters import ParameterComboBox
from PratoLabelLib.sections import PanelServices, Section, show_text
from PratoLabelLib.server.responses import TrainingState
from PratoLabelLib.translation import translator

_ = translator(__file__)


class TrainSection(Section):
    """Starts, stops and follows a training, and shows its result."""

    def __init__(self, panel: PanelServices) -> None:
        super().__init__(panel)
        self._model = ParameterComboBox(self._ui.trainModelBox, lambda: panel.parameters, "train_model")
        self._ui.startButton.connect("clicked()", self._on_start)
        self._ui.stopButton.connect("clicked()", lambda: panel.request(self._logic.stop_training))

    def refresh(self) -> None:
        """Offer the models that can be trained, and show the progress of the training."""
        info, state = self._logic.info, self._logic.training_state
        running = state if state is not None and state.running else None
        ended = state if state is not None and not state.running else None
        self._model.set_entries([(model.name, model.name) for model in info.models if model.trainable] if info else [])
        self._ui.startButton.enabled = bool(self._model.value) and running is None
        self._ui.stopButton.enabled = running is not None
        bar = self._ui.trainProgress
        bar.enabled = running is not None
        bar.maximum = running.steps or 1 if running else 1
        bar.value = running.step if running else 0
        bar.format = _describe_progress(running) if running else ""
        show_text(self._ui.trainLabel, ended.message if ended else "")
        self._ui.diceLabel.text = _describe_dice(ended.result if ended else {})
        self._ui.versionLabel.text = _describe_version(ended.result if ended else {})

    def _on_start(self) -> None:
        epochs = self._parameters.max_epochs
        self._panel.request(lambda: self._logic.start_training(self._model.value, epochs))


def _describe_progress(state: TrainingState) -> str:
    if not state.steps:
        return state.message
    if state.dice is None:
        return _("epoch {epoch} of {epochs}").format(epoch=state.epoch, epochs=state.epochs)
    return _("epoch {epoch} of {epochs}, Dice {dice:.3f}").format(epoch=state.epoch, epochs=state.epochs, dice=state.dice)


def _describe_dice(result: Mapping[str, Any]) -> str:
    return f"{result['dice_before']:.3f} → {result['dice_after']:.3f}" if result else _("not trained yet")


def _describe_version(result: Mapping[str, Any]) -> str:
    if not result:
        return _("not trained yet")
    before, after = result["model_version_before"], result["model_version_after"]
    return f"{before} → {after}" if result["published"] else _("{version} stays: the new one was not as good").format(version=before)
