"""What a panel leaves behind when it is left, reloaded, tested or closed: no observer, no object, and no cost that grows."""

from __future__ import annotations

import gc
import sys
import weakref
from collections.abc import Iterator
from types import FrameType, FunctionType, SimpleNamespace
from typing import Any
from unittest.mock import Mock

import pytest

slicer = pytest.importorskip("slicer", reason="slicer-core is not installed: pip install -r tests/requirements.txt")
pytest.importorskip("PySide6", reason="PySide6 is not installed: pip install -r tests/requirements.txt")
import vtk
from PySide6.QtWidgets import QApplication

from tests.slicer_module.panel_driver import FakeServerDriver, end_interaction


def count_calls(action: FunctionType) -> tuple[int, int]:
    """How many functions of Python VTK calls within ``action``, which are its observers, and how many are called in all."""
    direct, total = 0, -1

    def count(frame: FrameType, event: str, argument: Any) -> None:
        nonlocal direct, total
        if event == "call":
            total += 1
            direct += frame.f_back is not None and frame.f_back.f_code is action.__code__

    sys.setprofile(count)
    try:
        action()
    finally:
        sys.setprofile(None)
    return direct, total


def observers() -> dict[str, int]:
    """The functions of Python that observe nodes, their segmentations and the scene, by class and event.

    The events are invoked one after the other, so that a panel that is alive has seen the scene close afterwards.
    """
    gc.collect()
    nodes = [slicer.mrmlScene.GetNthNode(n) for n in range(slicer.mrmlScene.GetNumberOfNodes())]
    found: dict[str, int] = {}
    for observed in (*nodes, *(n.GetSegmentation() for n in nodes if n.IsA("vtkMRMLSegmentationNode")), slicer.mrmlScene):
        events = {name: getattr(observed, name) for name in dir(observed) if name.endswith(("Event", "Modified"))}
        events["ModifiedEvent"] = vtk.vtkCommand.ModifiedEvent
        for name in sorted(events, reverse=True):  # a scene starts to close before it ends to
            if isinstance(event := events[name], int):
                called, _ = count_calls(lambda observed=observed, event=event: observed.InvokeEvent(event))
                if called:
                    found[f"{observed.GetClassName()} {name}"] = called
    return found


def parameter_change(driver: FakeServerDriver) -> tuple[int, int]:
    """What a change of the parameter node costs: observers, and calls in all."""
    node = slicer.mrmlScene.GetSingletonNode("PratoLabel", "vtkMRMLScriptedModuleNode")
    gc.collect()
    count_calls(lambda: node.SetParameter("strategy", "once"))
    return count_calls(lambda: node.SetParameter("strategy", "twice"))


def work(driver: FakeServerDriver) -> None:
    """A study with a box, a prediction and a submission."""
    driver.open_study()
    roi = driver.roi()
    driver.ui.liveCheckBox.checked = True
    driver.ui.tokensCheckBox.checked = True
    driver.click("run")
    driver.click("submit")
    end_interaction(roi)


@pytest.fixture
def reloadable(driver: FakeServerDriver) -> Iterator[FakeServerDriver]:
    """A panel whose modules are loaded anew, which other tests are spared."""
    kept = {name: module for name, module in sys.modules.items() if name.split(".")[0] in ("PratoLabel", "PratoLabelLib")}
    names = dict(vars(kept["PratoLabel"]))  # 3D Slicer 5.6 runs the file again in the same module
    yield driver
    for name in [name for name in sys.modules if name.split(".")[0] in ("PratoLabel", "PratoLabelLib")]:
        del sys.modules[name]
    sys.modules.update(kept)
    vars(kept["PratoLabel"]).update(names)


@pytest.mark.slow
def test_a_hundred_visits_cost_nothing(driver: FakeServerDriver) -> None:
    driver.open_study()
    driver.roi()
    once = parameter_change(driver)
    assert once[0] > 0
    for _ in range(100):
        driver.frame.exit()
        driver.frame.enter()
    assert parameter_change(driver) == once
    driver.frame.exit()
    assert parameter_change(driver) == (0, 0)  # another module's work costs nothing
    value = driver.ui.epochsBox.value
    driver.ui.epochsBox.value = value + 1
    assert driver.logic.getParameterNode().GetParameter("max_epochs") == str(value), "the widget still writes the node"
    assert "vtkMRMLMarkupsROINode PointEndInteractionEvent" not in observers()
    driver.frame.enter()
    driver.open_study()
    driver.roi()
    assert "vtkMRMLMarkupsROINode PointEndInteractionEvent" in observers()


@pytest.mark.slow
def test_entering_twice_is_entering_once(driver: FakeServerDriver) -> None:
    once = parameter_change(driver)
    driver.frame.enter()
    assert parameter_change(driver) == once
    driver.frame.exit()
    driver.frame.exit()
    assert parameter_change(driver) == (0, 0)


@pytest.mark.slow
def test_nothing_is_left_of_a_closed_panel(driver: FakeServerDriver, capfd: pytest.CaptureFixture[str]) -> None:
    work(driver)
    panel, logic = weakref.ref(driver.panel), weakref.ref(driver.logic)
    driver.widget.cleanup()
    driver.rest(0.05)  # Qt deletes the widgets
    assert observers() == {}
    capfd.readouterr()
    slicer.app.moduleManager().connections.clear()
    slicer.modules.PratoLabelWidget = None
    driver.frame.widget = SimpleNamespace(cleanup=lambda: None)
    gc.collect()
    slicer.mrmlScene.GetSingletonNode("PratoLabel", "vtkMRMLScriptedModuleNode").SetParameter("max_epochs", "11")
    slicer.mrmlScene.Clear(0)
    assert "Traceback" not in capfd.readouterr().err
    assert (panel(), logic()) == (None, None)


@pytest.mark.slow
def test_slicer_exits(driver: FakeServerDriver, capfd: pytest.CaptureFixture[str]) -> None:
    work(driver)
    driver.widget.cleanup()  # a self test has closed it before
    slicer.app.moduleManager().unload("PratoLabel")
    driver.rest(0.05)
    slicer.mrmlScene.Clear(0)
    assert "Traceback" not in capfd.readouterr().err
    assert observers() == {}


@pytest.mark.slow
def test_a_reloaded_panel_works_at_once(reloadable: FakeServerDriver) -> None:
    driver = reloadable
    work(driver)
    before, old = observers(), driver.panel
    driver.widget.onReload()
    driver.rest(0.05)
    driver.logic._make_client = driver.server
    assert driver.panel is not old
    assert old.parameters is None
    assert type(driver.panel).__module__ == type(old).__module__
    driver.ui.epochsBox.value = 77
    assert driver.logic.getParameterNode().GetParameter("max_epochs") == "77"
    driver.open_study()
    for button in ("place", "run", "fit", "submit", "start"):
        driver.click(button)
    slicer.app.applicationLogic().GetInteractionNode().SwitchToViewTransformMode()  # no box after all
    work(driver)
    assert observers() == before
    slicer.mrmlScene.Clear(0)
    driver.open_study()
    driver.click("run")
    assert driver.logic.current_study.mask().any()


@pytest.mark.slow
def test_reload_and_test_leaves_a_panel_that_works(reloadable: FakeServerDriver, capfd: pytest.CaptureFixture[str]) -> None:
    driver = reloadable
    work(driver)
    driver.widget.reloadTestMenuButton = driver.widget.reloadTestAction = Mock()  # of the developer mode
    driver.widget.onReloadAndTest()
    driver.rest(0.05)
    out, err = capfd.readouterr()
    assert "OK" in out
    assert "Traceback" not in err
    driver.logic._make_client = driver.server
    driver.open_study()
    driver.click("run")
    assert driver.logic.current_study.mask().any()
    driver.widget.cleanup()
    driver.rest(0.05)
    assert observers() == {}


def test_effects_that_are_registered_after_the_panel_was_made_are_in_its_editor(driver: FakeServerDriver) -> None:
    """As where it is the module that Slicer starts with."""
    factory = slicer.qSlicerSegmentEditorEffectFactory.instance()
    factory.register("Islands")
    assert driver.editor.effect_names == ["Islands"]
    listener = driver.panel.correct._on_effect_registered
    assert listener in factory.connections
    driver.widget.cleanup()
    assert listener not in factory.connections
    factory.names.clear()


def test_the_panel_makes_no_window_of_its_own(driver: FakeServerDriver) -> None:
    """Only those of C++ are safe from a thread that collects garbage: the frame, and what a widget of the .ui opens."""
    driver.open_study()
    windows = [window for window in QApplication.topLevelWidgets() if window.parent() is None]
    assert {type(window) for window in windows} == {type(driver.frame)}
