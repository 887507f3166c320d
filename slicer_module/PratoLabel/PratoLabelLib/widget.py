"""The panel: brings the sections, the logic and the parameter node together, keeps time, and says what is going on."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import qt
import slicer
import slicer.util
import vtk

from PratoLabelLib.parameters import Parameters
from PratoLabelLib.styles import ERROR_STYLE, HINT_STYLE, WARNING_STYLE
from PratoLabelLib.widget_box import BoxSection
from PratoLabelLib.widget_correct import CorrectSection
from PratoLabelLib.widget_segment import SegmentSection
from PratoLabelLib.widget_server import ServerSection
from PratoLabelLib.widget_study import StudySection
from PratoLabelLib.widget_submit import SubmitSection
from PratoLabelLib.widget_train import TrainSection

TICK_MS = 50


class Panel(slicer.util.VTKObservationMixin):
    """Lives from the module's setup to its cleanup.

    A failure is written at the top of the panel. A dialog shows it as well where it answers a click; what fails by itself (a live update,
    a look at the training) opens none.

    Args:
        ui: the widgets of PratoLabel.ui by name.
        logic: PratoLabelLogic.
        parameter_node: gives the scene's vtkMRMLScriptedModuleNode of this module.
    """

    def __init__(self, ui: Any, logic: Any, parameter_node: Callable[[], Any]) -> None:
        super().__init__()
        self.ui, self.logic = ui, logic
        self.parameters: Parameters | None = None
        self._parameter_node = parameter_node
        self._gui_tag: Any = None
        self._entered = False
        self._busy = False
        self._waiting = False  # for an answer that the labeller wants to see
        self._dialog = False  # a failure is to be answered with a dialog
        self._submitted = self._conflict = ""
        self._error = ""
        self.server = ServerSection(self)
        self.study = StudySection(self)
        self.segment = SegmentSection(self)
        self.box = BoxSection(self)
        self.correct = CorrectSection(self)
        self.submit = SubmitSection(self)
        self.train = TrainSection(self)
        self._sections = (self.server, self.study, self.box, self.segment, self.correct, self.submit, self.train)
        logic.failed.connect(self._on_failed)
        logic.busy_changed.connect(self._on_busy)
        logic.submitted.connect(self._on_submitted)
        for signal in (logic.connected, logic.study_opened, logic.predicted):
            signal.connect(lambda *_: self._say())
        for signal in (logic.studies_changed, logic.training_changed, logic.costs_known):
            signal.connect(lambda *_: self.refresh())
        scene = slicer.mrmlScene
        self.addObserver(scene, scene.StartCloseEvent, self.onSceneStartClose)
        self.addObserver(scene, scene.EndCloseEvent, self.onSceneEndClose)
        self.addObserver(scene, scene.EndImportEvent, self.onSceneEndImport)
        self._timer = qt.QTimer()
        self._timer.setSingleShot(True)
        self._timer.connect("timeout()", self._tick)
        self._timer.start(TICK_MS)

    def _tick(self) -> None:
        try:
            self.logic.tick()
        finally:
            self._timer.start(TICK_MS)

    # What Slicer calls

    def enter(self) -> None:
        """The module comes to the front."""
        self._entered = True
        self._bind()

    def exit(self) -> None:
        """The module goes to the back; a training is still followed, the box no longer."""
        self._entered = False
        self._release()

    def cleanup(self) -> None:
        """The module goes for good: nothing of it runs afterwards."""
        self._timer.stop()
        self._release()
        self.correct.stop()
        self.removeObservers()
        self.logic.close()

    def onSceneStartClose(self, caller: Any, event: Any) -> None:
        """The nodes are about to go."""
        self._release()
        self.logic.forget_scene()

    def onSceneEndClose(self, caller: Any, event: Any) -> None:
        """The scene is empty."""
        if self._entered:
            self._bind()

    def onSceneEndImport(self, caller: Any, event: Any) -> None:
        """A scene was loaded, and all its nodes are there now: the box that its parameter node names, for one."""
        if self._entered:
            self._bind()

    def _bind(self) -> None:
        self._release()
        self.parameters = Parameters(self._parameter_node())
        self._gui_tag = self.parameters.connectGui(self.ui)
        self.addObserver(self.parameters.parameterNode, vtk.vtkCommand.ModifiedEvent, self._on_parameters)
        self.refresh()

    def _release(self) -> None:
        if self.parameters is not None:
            self.removeObserver(self.parameters.parameterNode, vtk.vtkCommand.ModifiedEvent, self._on_parameters)
            self.parameters.disconnectGui(self._gui_tag)
            self.parameters = None
        self.box.stop()

    def _on_parameters(self, caller: Any, event: Any) -> None:
        self.refresh()

    # What the sections call

    def ask(self, action: Callable[[], None], dialog: bool = True) -> None:
        """Do what the labeller asks of the logic; if it fails, say so in a ``dialog`` as well."""
        self._waiting, self._dialog = True, dialog
        self._say()
        action()

    @property
    def working(self) -> bool:
        """Whether the labeller waits for the server (looking at a training does not count)."""
        return self._busy and self._waiting

    def refresh(self) -> None:
        """Enable what can be done now, and show what is known now."""
        for section in self._sections:
            section.refresh()
        self.ui.statusLabel.text = self._error or self._conflict or self._next_step()
        self.ui.statusLabel.styleSheet = ERROR_STYLE if self._error else WARNING_STYLE if self._conflict else HINT_STYLE

    def _next_step(self) -> str:
        logic = self.logic
        if self.working:
            return "Waiting for the server…"
        if self._submitted:
            return self._submitted
        if logic.info is None:
            return "Connect to a PrATo Label server to begin."
        if logic.open is None:
            return "Open a study: the next one, one of the list, or a volume of your own."
        if logic.open.reply is None:
            return "Place a box round both ventricles and segment, or segment without one."
        return "Correct the result where it needs it, then submit it."

    # What the logic tells

    def _on_failed(self, sentence: str) -> None:
        dialog, self._dialog = self._dialog, False
        self._say(error=sentence)
        if dialog:
            slicer.util.errorDisplay(sentence)

    def _on_busy(self, busy: bool) -> None:
        self._busy = busy
        if not busy:
            self._waiting = self._dialog = False
        self.refresh()

    def _on_submitted(self, reply: dict[str, Any]) -> None:
        stored = f"The label of {reply['image']} is stored."
        if reply.get("conflict"):
            self._say(conflict=f"{stored} {reply['conflict']['message']}")
        else:
            self._say(submitted=f"{stored} Go on with the next study.")

    def _say(self, error: str = "", submitted: str = "", conflict: str = "") -> None:
        self._error, self._submitted, self._conflict = error, submitted, conflict
        self.refresh()
