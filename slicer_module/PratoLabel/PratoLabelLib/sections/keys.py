"""The box of a cine by phase: keyed where the labeller says so, moved in between, and shown where it is in the phase that is shown."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import slicer
import slicer.util

from PratoLabelLib.scene.geometry import GeometryError
from PratoLabelLib.scene.phase_boxes import key_box, note_moved, read_keys, show_box, write_keys
from PratoLabelLib.scene.phase_edits import mark_ed_es
from PratoLabelLib.scene.study_nodes import is_of_study
from PratoLabelLib.sections import PanelServices, Section, show_text
from PratoLabelLib.sections.box import BoxSection
from PratoLabelLib.studies.cine_study import CineStudy
from PratoLabelLib.translation import translator

_ = translator(__file__)


class KeysSection(Section):
    """There while a cine is open. A box without a key serves for all phases; once it has one, moving it keys the phase that is shown."""

    def __init__(self, panel: PanelServices, box: BoxSection) -> None:
        super().__init__(panel)
        self._box = box
        self._shown: tuple[CineStudy, int] | None = None  # the study, and the phase of it, in which the boxes are shown
        self._ui.keyButton.connect("clicked()", self._on_key)
        self._ui.removeKeyButton.connect("clicked()", self._on_remove)
        self._ui.oneBoxButton.connect("clicked()", self._on_one_box)
        self._logic.phase_shown.connect(self._follow)
        box.moved.connect(self.note_moved)
        box.placing_cancelled.connect(self.show)  # another phase may be shown by now
        box.fitted.connect(self.take_proposal)

    @property
    def _roi(self) -> slicer.vtkMRMLMarkupsROINode | None:
        """The selected box."""
        return self._panel.parameters.roi if self._panel.parameters is not None else None

    def refresh(self) -> None:
        """Show which phases are keyed, and what can be done about it."""
        study, roi = self._logic.current_cine, self._roi
        self._ui.keysFrame.visible = study is not None
        if study is None:
            self._shown = None
            return
        if self._shown is None or self._shown[0] is not study:
            self._shown = study, study.phase
            self.show()
        keys = read_keys(roi, study.cine.count) if roi is not None else {}
        self._ui.keyButton.enabled = roi is not None and roi.GetNumberOfControlPoints() > 0 and study.phase not in keys
        self._ui.removeKeyButton.enabled = study.phase in keys
        self._ui.oneBoxButton.enabled = bool(keys)
        show_text(self._ui.keysLabel, _describe(keys, study.ed_es()))

    def note_moved(self) -> None:
        """Key the boxes that were moved, in the phase that they are shown in: what is sent is what is seen."""
        study = self._logic.current_cine
        if study is not None and self._shown is not None and self._shown[0] is study and self._box.is_at_rest:
            for roi in _boxes(study):
                note_moved(roi, study.volume_node, self._shown[1], study.cine.count)

    def show(self) -> None:
        """Move the boxes to where they are in the phase that is shown."""
        study = self._logic.current_cine
        if study is not None and self._box.is_at_rest:
            with self._box.moving():
                for roi in _boxes(study):
                    show_box(roi, study.volume_node, study.phase, study.cine.count)

    def take_proposal(self, roi: slicer.vtkMRMLMarkupsROINode, reply: Mapping[str, Any]) -> None:
        """The ROI is what the server proposes; if it is keyed, that is for the phase that was segmented."""
        study = self._logic.current_cine
        keys = read_keys(roi, study.cine.count) if study is not None else {}
        if keys:
            write_keys(roi, {**keys, reply["mask_phase"]: reply["box"]})
            self.show()

    def _follow(self) -> None:
        study = self._logic.current_cine
        if study is None:
            return
        self.note_moved()  # in the phase before
        self._shown = study, study.phase
        self.show()
        if not study.cine.is_playing:
            self.refresh()

    def _on_key(self) -> None:
        study, roi = self._logic.current_cine, self._roi
        if study is None or roi is None:
            return
        try:
            key_box(roi, study.volume_node, study.phase, study.cine.count)
        except GeometryError as error:
            self._panel.say(str(error), is_error=True)
        self.show()
        self._panel.refresh()

    def _on_remove(self) -> None:
        study, roi = self._logic.current_cine, self._roi
        if study is None or roi is None:
            return
        keys = read_keys(roi, study.cine.count)
        keys.pop(study.phase, None)
        write_keys(roi, keys)
        self.show()
        self._panel.refresh()

    def _on_one_box(self) -> None:
        if self._roi is not None:
            write_keys(self._roi, {})
        self._panel.refresh()


def _boxes(study: CineStudy) -> list[slicer.vtkMRMLMarkupsROINode]:
    """The boxes of the study, selected or not: none of them may be left behind in another phase."""
    return [roi for roi in slicer.util.getNodesByClass("vtkMRMLMarkupsROINode") if is_of_study(roi, study.study, study.server)]


def _describe(keys: Mapping[int, list[int]], ed_es: tuple[int | None, int | None]) -> str:
    if not keys:
        return ""
    names = mark_ed_es(keys, ed_es)
    if len(names) == 1:
        return _("Box keyed in phase {phase}: go to another phase and move it there.").format(phase=names[0])
    return _("Box keyed in phases {phases}; in between it is interpolated.").format(phases=", ".join(names))
