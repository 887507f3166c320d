"""The box, drawn as an ROI."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import qt
import slicer
import slicer.util

from PratoLabelLib.scene.geometry import GeometryError, roi_to_ijk_box
from PratoLabelLib.scene.placement import Placement, keeping_place_node, set_slices, style_box
from PratoLabelLib.scene.slice_views import slice_axis
from PratoLabelLib.scene.study_nodes import STUDY_ATTRIBUTE, find_node, is_of_study, mark_node
from PratoLabelLib.sections import PanelServices, Section
from PratoLabelLib.server.worker import Signal
from PratoLabelLib.translation import translator

_ = translator(__file__)

#: How long the box must rest before a live update is requested.
DEBOUNCE_MS = 400


class BoxSection(Section, slicer.util.VTKObservationMixin):
    """Places the box, and fits it to the server's proposal.

    Attributes:
        moved, rested, fitted, placing_cancelled: signals; the comment tells what their listeners get.
    """

    def __init__(self, panel: PanelServices) -> None:
        slicer.util.VTKObservationMixin.__init__(self)
        Section.__init__(self, panel)
        self.moved = Signal()  # nothing; the labeller moved it, not the panel
        self.rested = Signal()  # nothing; a moment after that, where the labeller wants live updates
        self.fitted = Signal()  # the ROI and the reply that proposed it
        self.placing_cancelled = Signal()  # nothing
        self._wants_proposal = self._is_fitting = False
        self._placement: Placement | None = None
        self._study: tuple[str, str] | None = None  # and its server: whose boxes are shown
        self._slices: tuple[int, int] | None = None  # first and one past the last of the next box; None for all
        self._debounce_timer = qt.QTimer(self._ui.statusLabel)  # ends with the panel
        self._debounce_timer.setSingleShot(True)
        self._debounce_timer.setInterval(DEBOUNCE_MS)
        self._debounce_timer.connect("timeout()", self.rested.emit)
        self._ui.placeButton.connect("clicked()", self.place)
        self._ui.firstSliceBox.connect("editingFinished()", self._on_slices)
        self._ui.lastSliceBox.connect("editingFinished()", self._on_slices)
        self._ui.allSlicesButton.connect("clicked()", self._on_all_slices)
        for signal in (self._logic.study_opened, self._logic.phase_shown):  # the box was not moved there
            signal.connect(lambda *_: self._debounce_timer.stop())
        self._logic.predicted.connect(self._on_predicted)
        self._logic.failed.connect(lambda sentence: self.discard_proposal())
        self._logic.busy_changed.connect(lambda is_busy: None if is_busy else self.discard_proposal())

    def selected_rois(self) -> list[slicer.vtkMRMLMarkupsROINode]:
        """The nodes to segment in; none leaves the box to the server."""
        parameters = self._panel.parameters
        if parameters is None:
            return []
        if parameters.all_boxes:
            return [roi for roi in slicer.util.getNodesByClass("vtkMRMLMarkupsROINode") if roi.GetDisplayVisibility()]
        return [parameters.roi] if parameters.roi is not None else []

    def refresh(self) -> None:
        """Show and observe the boxes of the open study."""
        self._follow_study()
        if self._placement is not None and self._placement.is_lost:
            self.end_placing()
        self._ui.placeButton.enabled = self._logic.current_study is not None
        self._observe(self.selected_rois())
        self._show_slices()

    def stop(self) -> None:
        """Observe no box, and await no clicks."""
        self._debounce_timer.stop()
        self.end_placing()
        self.discard_proposal()
        self._observe([])

    def expect_proposal(self) -> None:
        """The next result moves the box to where the server has looked."""
        self._wants_proposal = True

    def discard_proposal(self) -> None:
        """The next result moves no box."""
        self._wants_proposal = False

    @property
    def is_at_rest(self) -> bool:
        """Whether no box is being placed."""
        return self._placement is None

    @contextmanager
    def moving(self) -> Iterator[None]:
        """While the panel itself moves a box, which is no prompt of the labeller's."""
        self._is_fitting = True
        try:
            yield
        finally:
            self._is_fitting = False
            self._show_slices()  # or else who then changes the last slice sends the first one of where the box was before

    def _follow_study(self) -> None:
        """Select the box of the open study, and hide those of others: no box is ever used for a study that it was not drawn for."""
        study, parameters = self._logic.current_study, self._panel.parameters
        if study is None or parameters is None:
            return
        key = study.study, study.server
        if key != self._study:
            self.end_placing()
            used = self.selected_rois()  # others that were drawn elsewhere are for something else, and left alone
            for roi in slicer.util.getNodesByClass("vtkMRMLMarkupsROINode"):
                if roi.GetAttribute(STUDY_ATTRIBUTE) is None and self._study is not None and roi in used:
                    mark_node(roi, *self._study)
                if roi.GetAttribute(STUDY_ATTRIBUTE) is not None:
                    roi.SetDisplayVisibility(is_of_study(roi, *key))
            self._study, self._slices = key, None
            if parameters.roi is None:
                parameters.roi = find_node("vtkMRMLMarkupsROINode", *key)
        selected = parameters.roi
        if selected is None or is_of_study(selected, *key):
            return
        if selected.GetAttribute(STUDY_ATTRIBUTE) is not None:
            parameters.roi = find_node("vtkMRMLMarkupsROINode", *key)
        else:  # drawn elsewhere in Slicer, and chosen here
            mark_node(selected, *key)
            selected.CreateDefaultDisplayNodes()
            selected.GetDisplayNode().SetFillOpacity(0.0)

    def _show_slices(self) -> None:
        """The slices of the box, or else those that the next box will have."""
        study, spins = self._logic.current_study, (self._ui.firstSliceBox, self._ui.lastSliceBox)
        for widget in (*spins, self._ui.allSlicesButton):
            widget.enabled = study is not None
        if study is None:
            return
        across = slice_axis(study.volume_node)
        count = study.volume_node.GetImageData().GetDimensions()[across]
        first, stop = self._slices or (0, count)
        rois = self.selected_rois()
        if len(rois) == 1 and self._placement is None:
            with suppress(GeometryError):  # not placed yet
                first, stop = roi_to_ijk_box(rois[0], study.volume_node)[2 * across : 2 * across + 2]
        for spin, value in zip(spins, (first + 1, stop)):
            blocked = spin.blockSignals(True)
            spin.setRange(1, count)
            spin.value = value
            spin.blockSignals(blocked)

    def _on_slices(self) -> None:
        first, last = sorted((self._ui.firstSliceBox.value, self._ui.lastSliceBox.value))
        self._choose_slices((first - 1, last))

    def _on_all_slices(self) -> None:
        self._choose_slices((0, self._ui.lastSliceBox.maximum))

    def _choose_slices(self, slices: tuple[int, int]) -> None:
        study, rois = self._logic.current_study, self.selected_rois()
        if study is None:
            return
        self._slices = slices
        if len(rois) == 1 and self._placement is None:
            with suppress(GeometryError):  # not placed yet: the next box has them
                across = slice_axis(study.volume_node)
                if roi_to_ijk_box(rois[0], study.volume_node)[2 * across : 2 * across + 2] != slices:
                    set_slices(rois[0], study.volume_node, slices)
                    self._on_box_changed()
        self._panel.refresh()

    def _observe(self, rois: list[slicer.vtkMRMLMarkupsROINode]) -> None:
        node = slicer.vtkMRMLMarkupsNode
        listeners = {node.PointEndInteractionEvent: self._on_end_interaction, node.PointPositionDefinedEvent: self._on_point_defined}
        for event, listener in listeners.items():
            observed = [observation[0] for observation in self.Observations if observation[1] == event]
            for roi in observed:
                if roi not in rois:
                    self.removeObserver(roi, event, listener)
            for roi in rois:
                if roi not in observed:
                    self.addObserver(roi, event, listener)

    def _on_end_interaction(self, caller: Any, event: Any) -> None:
        self._on_box_changed()

    def _on_point_defined(self, caller: Any, event: Any) -> None:
        is_ours = self._placement is not None or self._is_fitting
        if not is_ours and caller.GetRequiredNumberOfControlPoints() <= 1:  # placed by Slicer's own toolbar, and complete
            self._on_box_changed()

    def _on_box_changed(self) -> None:
        self.moved.emit()
        self._panel.refresh()  # another box has another cost
        if self._parameters.live_update:
            self._debounce_timer.start()

    def place(self) -> None:
        """Await two clicks in a slice view."""
        study = self._logic.current_study
        if study is None:
            return
        self.end_placing()
        self.discard_proposal()  # it would move the box that is being placed
        roi = self._box_node()
        roi.SetDisplayVisibility(True)
        self._placement = Placement(roi, study.volume_node, self._slices, self._on_placed)
        slicer.modules.markups.logic().SetActiveList(roi)
        # the logic's own StartPlaceMode would place points
        interaction = slicer.app.applicationLogic().GetInteractionNode()
        interaction.SwitchToSinglePlaceMode()
        self.addObserver(interaction, interaction.InteractionModeChangedEvent, self._on_interaction_mode)

    def _on_placed(self) -> None:
        self.end_placing()
        if self._parameters.roi is not None and self._parameters.roi.GetNumberOfControlPoints() == 0:
            self._panel.say(_("Both corners lie outside the image: place the box again, over the heart."), is_error=True)
        else:
            self._on_box_changed()

    def _on_interaction_mode(self, caller: Any, event: Any) -> None:
        if caller.GetCurrentInteractionMode() != caller.Place:  # the labeller has thought better of it
            self.end_placing()

    def end_placing(self) -> None:
        """Await no more clicks."""
        placement, self._placement = self._placement, None
        if placement is not None:
            interaction = slicer.app.applicationLogic().GetInteractionNode()
            self.removeObserver(interaction, interaction.InteractionModeChangedEvent, self._on_interaction_mode)
            if placement.is_pending:
                interaction.SwitchToViewTransformMode()  # the next click is not a corner
                with self.moving():
                    placement.cancel()
                self.placing_cancelled.emit()

    def _on_predicted(self, reply: dict[str, Any]) -> None:
        if self._wants_proposal and reply["box_source"] != "whole_image":  # which would be no box of the heart
            with self.moving():
                self._logic.fit_roi_to_reply(self._box_node())
            self.fitted.emit(self._box_node(), reply)
        self.discard_proposal()

    def _box_node(self) -> slicer.vtkMRMLMarkupsROINode:
        """The selected box of the open study; a new one where there is none."""
        parameters, study = self._parameters, self._logic.current_study
        if parameters.roi is None and study is not None:
            name = slicer.mrmlScene.GenerateUniqueName(_("{study} box").format(study=study.study))
            with keeping_place_node():
                roi = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLMarkupsROINode", name)
            mark_node(roi, study.study, study.server)
            style_box(roi)
            parameters.roi = roi
        return parameters.roi
