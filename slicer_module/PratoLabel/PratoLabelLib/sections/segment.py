"""Segmenting: the request, its result in one line, and under Advanced what it cost."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import slicer

from PratoLabelLib.parameters import ParameterComboBox
from PratoLabelLib.scene.phase_edits import name_phases
from PratoLabelLib.sections import WARNING_STYLE, PanelServices, Section, show_text
from PratoLabelLib.sections.box import BoxSection
from PratoLabelLib.sections.keys import KeysSection
from PratoLabelLib.translation import translator

_ = translator(__file__)

#: The contract's warnings, for the labeller.
WARNINGS = {
    "box_cut_by_target": _("The heart extends beyond the box: draw it larger."),
    "box_far_larger_than_target": _("The box is far larger than the heart: draw it tighter."),
    "box_misses_target": _("There is hardly any heart in the box: draw it elsewhere."),
    "whole_image": _("No heart was found, so the whole image was segmented: draw a box."),
    "mask_is_empty": _("Nothing was found: draw a box around the heart."),
    "structure_is_missing": _("One of the three structures was not found: check the image and the mask."),
    "lv_cavity_is_open": _("The myocardium does not enclose the LV cavity: check the mask, starting at the base."),
    "orientation_unknown": _("The image's file gives no orientation: left and right may be swapped."),
    "orientation_from_qform": _("The image's sform cannot be used: orientation and voxel size are those of its qform."),
    "voxel_size_uncertain": _("The image's file gives more than one voxel size: volumes may be wrong."),
    "voxel_size_unknown": _("The image's file does not say how thick its slice is: volumes are those of a slice of 1 mm."),
    "unit_ignored": _("The image's file names a unit of length that cannot be right: its values are taken as millimetres."),
    "voxels_not_finite": _("Some voxels are not finite numbers: they are taken as the darkest."),
    "intensity_outliers": _("A fill value or an artefact far outside the other grey values was left out of their range."),
    "intensity_range_wide": _("A few voxels are far brighter than all others: check the mask."),
    "image_is_constant": _("All voxels of the image have the same grey value."),
    "phase_times_unknown": _("The cine's file gives no times: its phases are taken as one heartbeat, in order."),
}
NO_HEART = _("No heart was found: place a box around both ventricles.")
BOX_SOURCES = {
    "roi": _("your box"),
    "points": _("box around your points"),
    "proposed": _("proposed box"),
    "whole_image": _("whole image"),
}
PRUNING = {"default": _("as the model was trained"), "off": _("off: keep every token")}


class SegmentSection(Section):
    """Model, pruning, the request and its reply."""

    def __init__(self, panel: PanelServices, box: BoxSection, keys: KeysSection) -> None:
        super().__init__(panel)
        self._box, self._keys = box, keys
        self._model = ParameterComboBox(self._ui.modelBox, lambda: panel.parameters, "model")
        self._prune = ParameterComboBox(self._ui.pruneBox, lambda: panel.parameters, "prune")
        self._ui.runButton.connect("clicked()", self.run_in_box)
        self._ui.fitButton.connect("clicked()", self.propose)
        self._ui.cancelButton.connect("clicked()", self._logic.cancel)
        box.rested.connect(self._on_rest)

    @property
    def model(self) -> str:
        """The model that is chosen; "" where there is none."""
        return self._model.value

    @property
    def is_ready(self) -> bool:
        """Whether there is a study to segment and a model to do it."""
        return self._logic.current_study is not None and bool(self.model)

    def run(self, rois: list[slicer.vtkMRMLMarkupsROINode]) -> None:
        """Segment in ``rois``."""
        self._keys.note_moved()
        show_tokens = self._parameters.show_tokens
        self._panel.request(lambda: self._logic.predict(self.model, self._prune.value, rois, show_tokens))

    def run_all_phases(self, rois: list[slicer.vtkMRMLMarkupsROINode]) -> None:
        """Segment all phases of the open cine in ``rois``."""
        self._keys.note_moved()
        self._panel.request(lambda: self._logic.predict_all_phases(self.model, self._prune.value, rois))

    def propagate(self, rois: list[slicer.vtkMRMLMarkupsROINode]) -> None:
        """Let phases of the open cine follow those that are corrected."""
        self._keys.note_moved()
        self._panel.request(lambda: self._logic.propagate(self.model, self._prune.value, rois))

    def refresh(self) -> None:
        """Offer the server's models, show the expected cost of a request, and the latest reply."""
        info = self._logic.info
        self._model.set_entries([(model.name, model.name) for model in info.models] if info else [])
        model = self._logic.find_model(self.model)
        self._prune.set_entries(
            [(ratio, PRUNING.get(ratio, _("{share} % at each stage").format(share=ratio))) for ratio in model.prune] if model else []
        )
        self._ui.runButton.enabled = self._ui.fitButton.enabled = self.is_ready
        self._ui.cancelButton.enabled = self._panel.is_waiting
        cost = self._logic.expected_cost(self.model, self._prune.value, self._box.selected_rois()) if self.is_ready else None
        show_text(self._ui.costLabel, _("≈ {gflops:.1f} GFLOP, {ms:.0f} ms").format(gflops=cost.gflops, ms=cost.ms) if cost else "")
        study = self._logic.current_study
        self._show_reply(study.reply if study else None)

    def run_in_box(self) -> None:
        """Segment in the box that is drawn, or else in the one that the server proposes."""
        self._box.discard_proposal()
        self.run(self._box.selected_rois())

    def propose(self) -> None:
        """Segment in the box that the server proposes, and draw that box."""
        self._box.expect_proposal()
        self.run([])

    def _on_rest(self) -> None:
        if self.is_ready:
            self.run(self._box.selected_rois())

    def _show_reply(self, reply: Mapping[str, Any] | None) -> None:
        show_text(self._ui.resultLabel, describe_reply(reply) if reply else "")
        show_text(self._ui.detailLabel, describe_details(reply) if reply else "")
        show_text(self._ui.warningLabel, "\n".join(describe_warnings(reply)) if reply else "", WARNING_STYLE)


def describe_reply(reply: Mapping[str, Any]) -> str:
    """What a labeller wants to know of a prediction: how long it took, and where it looked."""
    seconds = reply["latency_ms"]["total"] / 1000
    source = BOX_SOURCES.get(reply["box_source"], reply["box_source"])
    return _("{seconds:.1f} s, {source}").format(seconds=seconds, source=source)


def describe_warnings(reply: Mapping[str, Any]) -> list[str]:
    """What a labeller should know of a prediction, a sentence each; of several phases, with those that it is about, unless it is all."""
    about, phases = reply.get("warned_phases") or {}, reply.get("phases") or []
    found = []
    for name in reply["warnings"]:
        is_of_some = name in WARNINGS and len(about.get(name, phases)) < len(phases)
        found.append(f"{name_phases(about[name])}: {WARNINGS[name]}" if is_of_some else WARNINGS.get(name, name))
    return found + [NO_HEART] * (reply["box_source"] == "whole_image")


def describe_details(reply: Mapping[str, Any]) -> str:
    """The rest of the reply's JSON part in one line."""
    kept = list(reply["kept_fraction"].values())
    tokens = _("{share:.0%} of the tokens kept").format(share=kept[-1]) if kept else _("every token kept")
    sentence = _("{tokens}, {gflops:.1f} of {dense:.1f} GFLOP, version {version}")
    return sentence.format(tokens=tokens, gflops=reply["gflops"], dense=reply["gflops_dense"], version=reply["model_version"])
