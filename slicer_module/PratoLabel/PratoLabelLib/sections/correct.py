"""Correcting: Slicer's own Segment Editor, embedded in the panel, and the structures that predictions leave alone."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import qt
import slicer

from PratoLabelLib.scene.segments import find_segment
from PratoLabelLib.sections import PanelServices, Section
from PratoLabelLib.studies.cine_study import CineStudy

#: What a labeller of hearts needs, in this order; the other effects are in the module Segment Editor.
EFFECTS = ("Paint", "Draw", "Erase", "Level tracing", "Islands", "Smoothing", "Margin", "Scissors", "Fill between slices", "Threshold")
#: Singleton tag of the editor's own parameter node: the module Segment Editor keeps its own study and effect.
EDITOR_TAG = "PratoLabelSegmentEditor"
UNDO_STATES = 20


class CorrectSection(Section):
    """The embedded editor follows the open study. What the server sends can be undone in it, like a stroke of the brush."""

    def __init__(self, panel: PanelServices) -> None:
        super().__init__(panel)
        self._editor = slicer.qMRMLSegmentEditorWidget()
        self._editor.setMaximumNumberOfUndoStates(UNDO_STATES)
        self._editor.setMRMLSegmentEditorNode(_editor_node())  # before the scene, so that what the editor selects is kept in it
        self._editor.setMRMLScene(slicer.mrmlScene)
        for name in ("segmentationNodeSelectorVisible", "sourceVolumeNodeSelectorVisible", "switchToSegmentationsButtonVisible"):
            setattr(self._editor, name, False)
        self._editor.setEffectNameOrder(list(EFFECTS))
        self._editor.unorderedEffectsVisible = False
        self._editor.setEffectButtonStyle(qt.Qt.ToolButtonIconOnly)
        self._effects = slicer.qSlicerSegmentEditorEffectFactory.instance()
        # where this is the module that Slicer starts with, most effects are registered after it was made
        self._effects.connect("effectRegistered(QString)", self._on_effect_registered)
        self._ui.editorFrame.layout().addWidget(self._editor)
        self._shown: Any = None
        self._is_entered = False
        self._logic.segments_about_to_change.connect(self._save_state)
        self._logic.phase_shown.connect(self._forget_states)

    def refresh(self) -> None:
        """Edit the open study, and tell the logic which structures are locked."""
        parameters = self._panel.parameters
        if parameters is not None:
            locks = {"RV cavity": parameters.lock_rv, "myocardium": parameters.lock_myocardium, "LV cavity": parameters.lock_lv}
            self._logic.locked_structures = {name for name, is_locked in locks.items() if is_locked}
        study = self._logic.current_study
        node = study.segmentation_node if study is not None else None
        self._ui.editorFrame.enabled = node is not None
        if node is not self._shown:
            self._shown, is_another = node, self._editor.segmentationNode() is not node
            self._editor.setSegmentationNode(node)
            self._editor.setSourceVolumeNode(study.volume_node if study is not None else None)
            if study is not None and study.labels and is_another:  # else the segment is selected that the labeller works on
                first = min(study.labels, key=lambda name: study.labels[name])
                self._editor.setCurrentSegmentID(find_segment(study.segmentation_node.GetSegmentation(), first))

    def bind(self) -> None:
        """Use the scene's parameter node of the editor: there is another one after the scene was closed, or another one loaded."""
        self._editor.setMRMLSegmentEditorNode(_editor_node())
        self._editor.updateWidgetFromMRML()
        self._shown = None

    def enter(self) -> None:
        """The module comes to the front: the editor's shortcuts and brushes work."""
        self._is_entered = True
        self._editor.installKeyboardShortcuts()
        self._editor.setupViewObservations()

    def exit(self) -> None:
        """The module goes to the back: no brush is left in the views, and no shortcut in the main window."""
        self._is_entered = False
        self._editor.setActiveEffect(None)
        self._editor.uninstallKeyboardShortcuts()
        self._editor.removeViewObservations()

    def pause(self) -> None:
        """Another tool has the views and the keys."""
        self._editor.setActiveEffect(None)
        self._editor.uninstallKeyboardShortcuts()

    def resume(self) -> None:
        """The editor has its keys again, while the module is in front."""
        if self._is_entered:
            self._editor.installKeyboardShortcuts()

    def forget_scene(self) -> None:
        """The nodes are about to be removed."""
        self._editor.setSegmentationNode(None)
        self._editor.removeViewObservations()
        self._shown = None

    def stop(self) -> None:
        """The module is closed: the editor holds nothing of the scene."""
        self.exit()
        self.forget_scene()
        self._effects.disconnect("effectRegistered(QString)", self._on_effect_registered)
        self._editor.setMRMLScene(None)

    def toggle_segments(self) -> None:
        """Show the segments, or hide them, to look at the image alone."""
        study = self._logic.current_study
        display = study.segmentation_node.GetDisplayNode() if study is not None else None
        if display is not None:
            display.SetVisibility(not display.GetVisibility())

    def _on_effect_registered(self, name: str) -> None:
        self._editor.updateEffectList()

    def _forget_states(self) -> None:
        """Another phase is shown: the editor's undo must not bring the segments of the one before into it."""
        study = self._logic.current_study
        if isinstance(study, CineStudy) and not study.cine.is_playing and self._shown is study.segmentation_node:
            # not by another segmentation for a moment, which would put the active effect down
            self._editor.setMaximumNumberOfUndoStates(0)
            self._editor.setMaximumNumberOfUndoStates(UNDO_STATES)
            self._editor.updateWidgetFromMRML()

    def _save_state(self, phases: Collection[int], is_edit: bool) -> None:
        study = self._logic.current_study
        if study is not None and study.shown_phase in phases and self._shown is study.segmentation_node:
            self._editor.saveStateForUndo()


def _editor_node() -> slicer.vtkMRMLSegmentEditorNode:
    """The scene's parameter node of the embedded editor; made where there is none."""
    node = slicer.mrmlScene.GetSingletonNode(EDITOR_TAG, "vtkMRMLSegmentEditorNode")
    if node is None:
        node = slicer.mrmlScene.CreateNodeByClass("vtkMRMLSegmentEditorNode")
        node.UnRegister(None)
        node.SetSingletonTag(EDITOR_TAG)
        node = slicer.mrmlScene.AddNode(node)
    return node
