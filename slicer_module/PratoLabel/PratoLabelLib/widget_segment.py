"""Section 4: segmenting."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from PratoLabelLib.choices import Choices
from PratoLabelLib.styles import WARNING_STYLE

#: The contract's warnings, for the labeller.
WARNINGS = {
    "box_cut_by_target": "The heart reaches out of the box: draw it larger.",
    "box_far_larger_than_target": "The box is far wider than the heart: draw it tighter.",
    "box_misses_target": "There is hardly any heart in the box: draw it elsewhere.",
}
BOX_SOURCES = {
    "roi": "your box",
    "points": "box round your points",
    "proposed": "proposed box",
    "whole_image": "no heart found, whole image",
}
PRUNING = {"default": "as the model was trained", "off": "off: keep every token"}


class SegmentSection:
    """Model, pruning, the request and what came back."""

    def __init__(self, panel: Any) -> None:
        self._panel, self._ui, self._logic = panel, panel.ui, panel.logic
        self._model = Choices(self._ui.modelBox, lambda: panel.parameters, "model")
        self._prune = Choices(self._ui.pruneBox, lambda: panel.parameters, "prune")
        self._ui.runButton.connect("clicked()", self._on_run)
        self._ui.cancelButton.connect("clicked()", self._logic.cancel)

    @property
    def model(self) -> str:
        """The model that is chosen; "" where there is none."""
        return self._model.value

    @property
    def ready(self) -> bool:
        """Whether there is a study to segment and a model to do it."""
        return self._logic.open is not None and bool(self.model)

    def run(self, rois: list[Any], dialog: bool = True) -> None:
        """Segment in ``rois``; if that fails, say so in a ``dialog`` as well."""
        show_tokens = self._panel.parameters.show_tokens
        self._panel.ask(lambda: self._logic.predict(self.model, self._prune.value, rois, show_tokens), dialog)

    def refresh(self) -> None:
        """Offer the server's models, say what the request would cost, and show the latest reply."""
        info = self._logic.info
        self._model.offer([(model.name, model.name) for model in info.models] if info else [])
        model = self._logic.model(self.model)
        self._prune.offer([(choice, PRUNING.get(choice, f"{choice} % at each stage")) for choice in model.prune] if model else [])
        self._ui.runButton.enabled = self.ready
        self._ui.cancelButton.enabled = self._panel.working
        cost = self._logic.expected_cost(self.model, self._prune.value, self._panel.box.rois()) if self.ready else None
        self._ui.costLabel.visible = cost is not None
        self._ui.costLabel.text = f"≈ {cost.gflops:.1f} GFLOP, {cost.ms:.0f} ms" if cost else ""
        self._show(self._logic.open.reply if self._logic.open else None)

    def _on_run(self) -> None:
        self._panel.box.forget_proposal()
        self.run(self._panel.box.rois())

    def _show(self, reply: Mapping[str, Any] | None) -> None:
        ui = self._ui
        ui.resultLabel.visible = reply is not None
        ui.resultLabel.text = described(reply) if reply else ""
        warnings = [WARNINGS.get(name, name) for name in reply["warnings"]] if reply else []
        ui.warningLabel.visible = bool(warnings)
        ui.warningLabel.text = "\n".join(warnings)
        ui.warningLabel.styleSheet = WARNING_STYLE


def described(reply: Mapping[str, Any]) -> str:
    """The reply's JSON part in one line."""
    kept = list(reply["kept_fraction"].values())
    tokens = f"{kept[-1]:.0%} of the tokens kept" if kept else "every token kept"
    work = f"{reply['gflops']:.1f} of {reply['gflops_dense']:.1f} GFLOP"
    source = BOX_SOURCES.get(reply["box_source"], reply["box_source"])
    return f"{reply['latency_ms']['total']:.0f} ms, {source}, {tokens}, {work}, version {reply['model_version']}"
