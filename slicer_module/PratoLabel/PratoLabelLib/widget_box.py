"""Section 3: the box, drawn as a ROI."""

from __future__ import annotations

from typing import Any

import qt
import slicer
import slicer.util

#: How long the box must rest before a live update asks the server.
DEBOUNCE_MS = 400


class BoxSection(slicer.util.VTKObservationMixin):
    """Places the box, fits it to the server's proposal, and follows it when it is let go."""

    def __init__(self, panel: Any) -> None:
        super().__init__()
        self._panel, self._ui, self._logic = panel, panel.ui, panel.logic
        self._wants_proposal = False
        self._rest = qt.QTimer()
        self._rest.setSingleShot(True)
        self._rest.setInterval(DEBOUNCE_MS)
        self._rest.connect("timeout()", self._on_rest)
        self._ui.placeButton.connect("clicked()", self._on_place)
        self._ui.fitButton.connect("clicked()", self._on_fit)
        self._logic.predicted.connect(self._on_predicted)
        self._logic.failed.connect(lambda sentence: self.forget_proposal())
        self._logic.busy_changed.connect(lambda busy: None if busy else self.forget_proposal())

    def rois(self) -> list[Any]:
        """The vtkMRMLMarkupsROINodes to segment in; none leaves the box to the server."""
        parameters = self._panel.parameters
        if parameters is None:
            return []
        if parameters.all_boxes:
            return [roi for roi in slicer.util.getNodesByClass("vtkMRMLMarkupsROINode") if roi.GetDisplayVisibility()]
        return [parameters.roi] if parameters.roi is not None else []

    def refresh(self) -> None:
        """Follow the boxes that are used."""
        opened = self._logic.open is not None
        self._ui.placeButton.enabled = opened
        self._ui.fitButton.enabled = opened and self._panel.segment.ready
        self._follow(self.rois())

    def stop(self) -> None:
        """Follow no box."""
        self._rest.stop()
        self.forget_proposal()
        self._follow([])

    def _follow(self, rois: list[Any]) -> None:
        event = slicer.vtkMRMLMarkupsNode.PointEndInteractionEvent
        followed = [observation[0] for observation in self.Observations]
        for roi in followed:
            if roi not in rois:
                self.removeObserver(roi, event, self._on_let_go)
        for roi in rois:
            if roi not in followed:
                self.addObserver(roi, event, self._on_let_go)

    def _on_let_go(self, caller: Any, event: Any) -> None:
        self._panel.refresh()  # another box costs another time
        if self._panel.parameters.live_update:
            self._rest.start()

    def _on_rest(self) -> None:
        if self._panel.segment.ready:
            self._panel.segment.run(self.rois(), dialog=False)

    def _on_place(self) -> None:
        roi = self._box_node()
        roi.RemoveAllControlPoints()
        slicer.modules.markups.logic().SetActiveList(roi)
        # the logic's own StartPlaceMode would place points
        slicer.app.applicationLogic().GetInteractionNode().SwitchToSinglePlaceMode()

    def _on_fit(self) -> None:
        self._wants_proposal = True
        self._panel.segment.run([])

    def forget_proposal(self) -> None:
        """The next result moves no box."""
        self._wants_proposal = False

    def _on_predicted(self, reply: dict[str, Any]) -> None:
        if self._wants_proposal:
            self._logic.box_from_reply(self._box_node())
        self.forget_proposal()

    def _box_node(self) -> Any:
        parameters = self._panel.parameters
        if parameters.roi is None:
            roi = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLMarkupsROINode", slicer.mrmlScene.GenerateUniqueName("Heart box"))
            roi.CreateDefaultDisplayNodes()
            parameters.roi = roi
        return parameters.roi
