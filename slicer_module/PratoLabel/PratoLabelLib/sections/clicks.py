"""Clicks and scribbles: the tool that corrects what it points at, its keys, and undo click by click."""

from __future__ import annotations

from collections import Counter
from typing import Any

import slicer
import slicer.util

from PratoLabelLib.clicks.click_markers import ClickMarkers
from PratoLabelLib.measures.click_request import BACKGROUND
from PratoLabelLib.sections import PanelServices, Section, show_text
from PratoLabelLib.sections.box import BoxSection
from PratoLabelLib.sections.correct import CorrectSection
from PratoLabelLib.sections.shortcuts import Shortcuts
from PratoLabelLib.translation import translator

_ = translator(__file__)

#: Said of a server that would take a click for a point round which it is to draw a box.
_TOO_OLD = _("This server is too old for clicks: update PrATo Label there, and connect again. Painting is as before.")


class ClicksSection(Section, slicer.util.VTKObservationMixin):
    """While the tool is on, the Segment Editor's keys are the tool's: digits choose the structure, undo and redo go click by click."""

    def __init__(self, panel: PanelServices, box: BoxSection, correct: CorrectSection) -> None:
        slicer.util.VTKObservationMixin.__init__(self)
        Section.__init__(self, panel)
        self._box, self._correct = box, correct
        self._markers = ClickMarkers(self._logic)
        self._is_on = self._is_starting = False
        self._structures: list[str] = []
        self._before: tuple[Any, str | None, int] = None, None, 0  # what Slicer placed, and whether one after the other
        self._ui.clickButton.connect("toggled(bool)", self._on_toggled)
        self._ui.clickStructureBox.connect("activated(int)", lambda index: self._aim())
        self._ui.scribbleCheckBox.connect("toggled(bool)", lambda is_on: self._aim())
        self._ui.undoClickButton.connect("clicked()", self._logic.undo_click)
        self._ui.redoClickButton.connect("clicked()", self._logic.redo_click)
        self._ui.deleteClicksButton.connect("clicked()", self._logic.delete_clicks)
        self._logic.clicks_changed.connect(self.refresh)
        digits = {str(n): lambda n=n: self._choose(n) for n in range(4)}
        undo = {"Ctrl+Z": self._logic.undo_click, "Ctrl+Y": self._logic.redo_click, "Ctrl+Shift+Z": self._logic.redo_click}
        self.shortcuts = Shortcuts(panel.ui, {**digits, **undo, "Esc": self.stop})

    def refresh(self) -> None:
        """Offer the open study's structures, and tell what was clicked."""
        logic, ui = self._logic, self._ui
        study = logic.current_study
        is_open = study is not None and logic.info is not None and logic.info.takes_clicks
        structures = [*sorted(study.labels, key=lambda name: study.labels[name]), BACKGROUND] if study is not None else []
        if structures != self._structures:
            self._structures = structures
            ui.clickStructureBox.clear()
            for name in structures:
                ui.clickStructureBox.addItem(f"{0 if study is None or name == BACKGROUND else study.labels[name]} {name}", name)
        if not is_open:
            self.stop()
        self._check_aim()
        for widget in (ui.clickButton, ui.clickStructureBox, ui.scribbleCheckBox):
            widget.enabled = is_open
        ui.undoClickButton.enabled, ui.redoClickButton.enabled = logic.can_undo_click, logic.can_redo_click
        ui.deleteClicksButton.enabled = logic.can_undo_click
        is_old = logic.info is not None and not logic.info.takes_clicks
        show_text(ui.clicksLabel, _TOO_OLD if is_old else _describe([stroke.structure for stroke in logic.strokes]))

    def stop(self) -> None:
        """The tool is put down: clicks in the views are Slicer's again, and the digits the Segment Editor's."""
        self._ui.clickButton.checked = False

    def close(self) -> None:
        """The module is closed: no marker stays."""
        self.stop()
        self._markers.clear()

    def _choose(self, value: int) -> None:
        study = self._logic.current_study
        names = {0: BACKGROUND, **({number: name for name, number in study.labels.items()} if study is not None else {})}
        index = self._ui.clickStructureBox.findData(names.get(value))
        if index >= 0:
            self._ui.clickStructureBox.setCurrentIndex(index)
            self._aim()

    def _on_toggled(self, is_on: bool) -> None:
        if is_on == self._is_on:
            return
        self._is_on = is_on
        interaction, selection = _interaction(), slicer.app.applicationLogic().GetSelectionNode()
        mode = (interaction, interaction.InteractionModeChangedEvent, self._on_mode)
        target = (selection, selection.ActivePlaceNodeIDChangedEvent, self._on_target)
        removal = (slicer.mrmlScene, slicer.mrmlScene.NodeRemovedEvent, self._on_target)  # of which the selection node does not tell
        if is_on:
            self._box.end_placing()
            self._correct.pause()
            self._before = _placed(selection), selection.GetActivePlaceNodeClassName(), interaction.GetPlaceModePersistence()
            self.shortcuts.install()
            self._aim()
            for observation in (mode, target, removal):
                self.addObserver(*observation)
        else:
            for observation in (mode, target, removal):
                self.removeObserver(*observation)
            self.shortcuts.remove()
            # where nothing can be placed any more, Slicer would put the next click into a new list of points
            placed = _placed(selection)
            if placed is None or self._markers.is_ours(placed.GetID()):
                if interaction.GetCurrentInteractionMode() == interaction.Place:
                    interaction.SwitchToViewTransformMode()
                self._give_back(interaction, selection)
            self._markers.finish_scribble()
            self._correct.resume()

    def _aim(self) -> None:
        """Let the next clicks in the views be of the structure that is chosen."""
        if not self._is_on:
            return
        box, is_scribble = self._ui.clickStructureBox, self._ui.scribbleCheckBox.checked
        structure = box.itemData(box.currentIndex)
        self._is_starting = True
        try:
            slicer.modules.markups.logic().SetActiveList(self._markers.node_to_place(structure, is_scribble))
            if is_scribble:
                _interaction().SwitchToSinglePlaceMode()
            else:
                _interaction().SwitchToPersistentPlaceMode()
        finally:
            self._is_starting = False

    def _give_back(self, interaction: slicer.vtkMRMLInteractionNode, selection: slicer.vtkMRMLSelectionNode) -> None:
        """Slicer's own toolbar places what it placed before: a point that it puts among the clicks would be one."""
        placed, kind, is_persistent = self._before
        interaction.SetPlaceModePersistence(is_persistent)
        selection.SetReferenceActivePlaceNodeID(placed.GetID() if placed is not None and placed.GetScene() is not None else None)
        selection.SetReferenceActivePlaceNodeClassName(kind)

    def _on_mode(self, caller: Any, event: Any) -> None:
        if not self._is_starting and caller.GetCurrentInteractionMode() != caller.Place:
            self.stop()

    def _on_target(self, caller: Any, event: Any) -> None:
        self._check_aim()

    def _check_aim(self) -> None:
        """Put the tool down where something else is placed, or nothing: the study was left, a scene loaded, or the node deleted."""
        if not self._is_on or self._is_starting or self._markers.are_changing:
            return
        placed = _placed(slicer.app.applicationLogic().GetSelectionNode())
        if placed is None or not self._markers.is_ours(placed.GetID()):
            self.stop()


def _placed(selection: slicer.vtkMRMLSelectionNode) -> Any:
    """What the next click in a view is a point of; None where that is in the scene no more."""
    return slicer.mrmlScene.GetNodeByID(selection.GetActivePlaceNodeID() or "")


def _interaction() -> slicer.vtkMRMLInteractionNode:
    return slicer.app.applicationLogic().GetInteractionNode()


def _describe(structures: list[str]) -> str:
    if not structures:
        return ""
    counts = ", ".join(f"{count} {name}" for name, count in Counter(structures).items())
    return _("Clicked: {counts}. Esc, then drag a point or delete it, and the segments follow.").format(counts=counts)
