"""The panel: brings sections, logic and parameter node together, keeps polling, and shows what is going on."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import qt
import slicer
import slicer.util
import vtk

from PratoLabelLib.errors import describe_error
from PratoLabelLib.logic import PratoLabelLogic
from PratoLabelLib.parameters import Parameters
from PratoLabelLib.sections import ERROR_STYLE, HINT_STYLE, WARNING_STYLE, Section
from PratoLabelLib.sections.approve import ApproveSection
from PratoLabelLib.sections.box import BoxSection
from PratoLabelLib.sections.cine import CineSection
from PratoLabelLib.sections.clicks import ClicksSection
from PratoLabelLib.sections.correct import CorrectSection
from PratoLabelLib.sections.keys import KeysSection
from PratoLabelLib.sections.measure import MeasureSection
from PratoLabelLib.sections.review import DraftSection, ReviewSection
from PratoLabelLib.sections.segment import SegmentSection
from PratoLabelLib.sections.server import ServerSection
from PratoLabelLib.sections.shortcuts import Shortcuts, panel_keys
from PratoLabelLib.sections.study import StudySection
from PratoLabelLib.sections.submit import SubmitSection
from PratoLabelLib.sections.train import TrainSection
from PratoLabelLib.sections.versions import VersionsSection
from PratoLabelLib.translation import translator

_ = translator(__file__)

TICK_MS = 50
#: The same while a reply is to come, and how long a tick then waits for it. Slicer's event loop holds the interpreter's lock: a transfer
#: gets on during these waits alone, and Slicer itself between them.
BUSY_TICK_MS = 5
SHARE_S = 0.01
#: How long a failure stands in Slicer's status bar.
STATUS_BAR_MS = 10_000


class Panel(slicer.util.VTKObservationMixin):
    """Lives from the module's setup to its cleanup, bound to the scene's parameter node while the module is in front.

    A failure is shown at the top of the panel, and in Slicer's status bar for those who have scrolled down. No dialog: failures arrive in a
    tick, and a dialog in there would keep the worker from going on until it is closed.

    Args:
        ui: the widgets of PratoLabel.ui by name.
        get_parameter_node: returns the scene's vtkMRMLScriptedModuleNode of this module.

    Attributes:
        parameters: those of the scene; None between two scenes, and while another module is in front.
        is_closed: whether it was cleaned up; Slicer may do so again when it exits.
    """

    def __init__(self, ui: Any, logic: PratoLabelLogic, get_parameter_node: Callable[[], slicer.vtkMRMLScriptedModuleNode]) -> None:
        super().__init__()
        self.ui, self.logic = ui, logic
        self.parameters: Parameters | None = None
        self._get_parameter_node = get_parameter_node
        self._is_entered = self._awaits_show = True  # Reload makes a panel that is in front, and calls no enter
        self.is_closed = False
        self._is_busy = False
        self._awaits_reply = False  # one that the user has requested
        self._hint = self._conflict = self._error = ""
        self.server = ServerSection(self)
        self.box = BoxSection(self)
        keys = KeysSection(self, self.box)
        segment = SegmentSection(self, self.box, keys)
        cine = CineSection(self, self.server, self.box, segment)
        study = StudySection(self, segment, cine)
        self.correct = CorrectSection(self)
        self.clicks = ClicksSection(self, self.box, self.correct)
        self.measure = MeasureSection(self, self.server, cine)
        self._sections: tuple[Section, ...] = (
            self.server,
            study,
            ReviewSection(self, self.server, study),
            DraftSection(self),
            self.box,
            keys,
            segment,
            cine,
            self.correct,
            self.clicks,
            self.measure,
            SubmitSection(self, self.server, study),
            ApproveSection(self, self.server),
            VersionsSection(self, self.server, study),
            TrainSection(self),
        )
        self._shortcuts = Shortcuts(ui, panel_keys(ui, self.correct.toggle_segments))
        self.ui.advancedSection.collapsed = True
        logic.failed.connect(self._on_failed)
        logic.busy_changed.connect(self._on_busy_changed)
        logic.submitted.connect(self._on_submitted)
        for signal in (logic.connected, logic.study_opened, logic.predicted):
            signal.connect(lambda *_: self._show_message())
        for signal in (logic.studies_changed, logic.study_lost, logic.training_changed, logic.costs_measured):
            signal.connect(lambda *_: self.refresh())
        scene = slicer.mrmlScene
        self.addObserver(scene, scene.StartCloseEvent, self.onSceneStartClose)
        self.addObserver(scene, scene.EndCloseEvent, self.onSceneChanged)
        self.addObserver(scene, scene.EndImportEvent, self.onSceneChanged)
        self._timer = qt.QTimer(ui.statusLabel)  # which ends it with the panel
        self._timer.setSingleShot(True)
        self._timer.connect("timeout()", self._tick)
        self._timer.start(TICK_MS)
        logic.dispatched.connect(lambda: self._timer.start(0))
        self._bind_parameters()

    def _tick(self) -> None:
        try:
            if self._awaits_show and self.ui.statusLabel.visible:
                self.enter()
            if self.parameters is not None and self.parameters.parameterNode.GetScene() is None:
                self._bind_parameters()  # a scene view was restored that does not have it
            self.logic.tick(SHARE_S)
        finally:
            if not self.is_closed:
                self._timer.start(BUSY_TICK_MS if self.logic.is_busy else TICK_MS)

    # What Slicer calls

    def enter(self) -> None:
        """The module comes to the front."""
        self._is_entered, self._awaits_show = True, False
        self._bind_parameters()
        self.correct.enter()
        self._shortcuts.install()
        self.server.connect_as_remembered()

    def exit(self) -> None:
        """The module goes to the back; a training is still followed, the box no longer."""
        self._is_entered = self._awaits_show = False
        self._shortcuts.remove()
        self.clicks.stop()
        self.correct.exit()
        self._release_parameters()

    def cleanup(self) -> None:
        """The module is closed: nothing of it runs afterwards."""
        self.is_closed, self._is_entered = True, False
        self._timer.stop()
        self._shortcuts.remove()
        self._release_parameters()
        self.clicks.close()
        self.correct.stop()
        self.measure.stop()
        self.removeObservers()
        self.logic.close()

    def onSceneStartClose(self, caller: Any, event: Any) -> None:
        """The nodes are about to be removed."""
        self._release_parameters()
        self.logic.forget_scene()
        self.correct.forget_scene()

    def onSceneChanged(self, caller: Any, event: Any) -> None:
        """The scene is empty, or was loaded and all its nodes are there now: the box that its parameter node names, for one."""
        if self._is_entered:
            self._bind_parameters()

    def _bind_parameters(self) -> None:
        self._release_parameters()
        self.correct.bind()
        self.parameters = Parameters(self._get_parameter_node())
        self.parameters.bind(self.ui)
        self.addObserver(self.parameters.parameterNode, vtk.vtkCommand.ModifiedEvent, self._on_parameters_modified)
        self.refresh()

    def _release_parameters(self) -> None:
        if self.parameters is not None:
            self.removeObserver(self.parameters.parameterNode, vtk.vtkCommand.ModifiedEvent, self._on_parameters_modified)
            self.parameters.release()
            self.parameters = None
        self.box.stop()

    def _on_parameters_modified(self, caller: Any, event: Any) -> None:
        self.refresh()

    # What the sections call

    def request(self, action: Callable[[], None]) -> None:
        """Run ``action``, which makes the logic send a request for the user; where it fails, that is said here, too."""
        self._awaits_reply = True
        self._show_message()
        try:
            action()
        except Exception as error:
            self._on_failed(describe_error(error))

    @property
    def is_waiting(self) -> bool:
        """Whether the user waits for the server (polls of a training do not count)."""
        return self._is_busy and self._awaits_reply

    def say(self, sentence: str, is_error: bool = False) -> None:
        """Show ``sentence`` at the top of the panel, until something else happens."""
        self._show_message(error=sentence) if is_error else self._show_message(hint=sentence)

    def refresh(self) -> None:
        """Enable what can be done now, and show what is known now."""
        for section in self._sections:
            section.refresh()
        self.ui.waitProgress.visible = self.is_waiting
        self.ui.statusLabel.text = self._error or self._conflict or self._next_step()
        self.ui.statusLabel.styleSheet = ERROR_STYLE if self._error else WARNING_STYLE if self._conflict else HINT_STYLE

    def _next_step(self) -> str:
        logic = self.logic
        if self.is_waiting:
            return _("Waiting for the server…")
        if self._hint:
            return self._hint
        if logic.info is None:
            return _("Connect to a PrATo Label server to begin.")
        if logic.current_study is None:
            return _("Open a study: the next one, one of the list, or a volume of your own.")
        if logic.current_study.reply is None:
            step = _("{study}: place a box around both ventricles, or segment without one.")
        else:
            step = _("{study}: correct the result where needed, then submit it.")
        return step.format(study=logic.current_study.study)

    # What the logic signals

    def _on_failed(self, sentence: str) -> None:
        self._show_message(error=sentence)
        slicer.util.showStatusMessage(sentence, STATUS_BAR_MS)

    def _on_busy_changed(self, is_busy: bool) -> None:
        self._is_busy = is_busy
        if not is_busy:
            self._awaits_reply = False
        self.refresh()

    def _on_submitted(self, reply: dict[str, Any]) -> None:
        stored = _("The label of {study} is stored.").format(study=reply["image"])
        if reply.get("conflict"):
            self._show_message(conflict=f"{stored} {reply['conflict']['message']}")
        else:
            self._show_message(hint=" ".join([stored, _("Go on with the next study.")]))

    def _show_message(self, error: str = "", hint: str = "", conflict: str = "") -> None:
        self._error, self._hint, self._conflict = error, hint, conflict
        self.refresh()
