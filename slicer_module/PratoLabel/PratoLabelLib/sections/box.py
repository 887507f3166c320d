"""Section 3: the box, drawn as an ROI."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import qt
import slicer
import slicer.util

from PratoLabelLib.sections import Section

if TYPE_CHECKING:
    from PratoLabelLib.panel import Panel

#: How long the box must rest before a live update is requested.
DEBOUNCE_MS = 400


class BoxSection(Section, slicer.util.VTKObservationMixin):
    """Places the box, fits it to the server's proposal, and requests a new result when it was moved."""

    def __init__(self, panel: Panel) -> None:
        slicer.util.VTKObservationMixin.__init__(self)
        Section.__init__(self, panel)
        self._wants_proposal = False
        self._debounce_timer = qt.QTimer()
        self._debounce_timer.setSingleShot(True)
        self._debounce_timer.setInterval(DEBOUNCE_MS)
        self._debounce_timer.connect("timeout()", self._on_rest)
        self._ui.placeButton.connect("clicked()", self._on_place)
        self._ui.fitButton.connect("clicked()", self._on_fit)
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
        """Observe the boxes that are used."""
        is_open = self._logic.current_study is not None
        self._ui.placeButton.enabled = is_open
        self._ui.fitButton.enabled = is_open and self._panel.segment.is_ready
        self._observe(self.selected_rois())

    def stop(self) -> None:
        """Observe no box."""
        self._debounce_timer.stop()
        self.discard_proposal()
        self._observe([])

    def discard_proposal(self) -> None:
        """The next result moves no box."""
        self._wants_proposal = False

    def _observe(self, rois: list[slicer.vtkMRMLMarkupsROINode]) -> None:
        event = slicer.vtkMRMLMarkupsNode.PointEndInteractionEvent
        observed = [observation[0] for observation in self.Observations]
        for roi in observed:
            if roi not in rois:
                self.removeObserver(roi, event, self._on_end_interaction)
        for roi in rois:
            if roi not in observed:
                self.addObserver(roi, event, self._on_end_interaction)

    def _on_end_interaction(self, caller: Any, event: Any) -> None:
        self._panel.refresh()  # another box has another cost
        if self._parameters.live_update:
            self._debounce_timer.start()

    def _on_rest(self) -> None:
        if self._panel.segment.is_ready:
            self._panel.segment.run(self.selected_rois(), dialog=False)

    def _on_place(self) -> None:
        roi = self._box_node()
        roi.RemoveAllControlPoints()
        slicer.modules.markups.logic().SetActiveList(roi)
        # the logic's own StartPlaceMode would place points
        slicer.app.applicationLogic().GetInteractionNode().SwitchToSinglePlaceMode()

    def _on_fit(self) -> None:
        self._wants_proposal = True
        self._panel.segment.run([])

    def _on_predicted(self, reply: dict[str, Any]) -> None:
        if self._wants_proposal:
            self._logic.fit_roi_to_reply(self._box_node())
        self.discard_proposal()

    def _box_node(self) -> slicer.vtkMRMLMarkupsROINode:
        parameters = self._parameters
        if parameters.roi is None:
            roi = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLMarkupsROINode", slicer.mrmlScene.GenerateUniqueName("Heart box"))
            roi.CreateDefaultDisplayNodes()
            parameters.roi = roi
        return parameters.roi
