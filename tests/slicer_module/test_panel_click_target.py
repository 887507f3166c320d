"""The click tool is put down with what it places, so that the next click in a view is Slicer's again, and not a point of some new list."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

slicer = pytest.importorskip("slicer", reason="slicer-core is not installed: pip install -r tests/requirements.txt")
pytest.importorskip("PySide6", reason="PySide6 is not installed: pip install -r tests/requirements.txt")

from tests.slicer_module.click_tool import aimed_at, click_on, markers, points, press, segmented, sent, start
from tests.slicer_module.panel_driver import FakeServerDriver
from tests.slicer_module.unsent import Questions


def leave_by_next(driver: FakeServerDriver, tmp_path: Path) -> None:
    driver.click("submitNext")


def leave_by_list(driver: FakeServerDriver, tmp_path: Path) -> None:
    driver.select(0)
    driver.click("open")


def load_scene(driver: FakeServerDriver, tmp_path: Path) -> None:
    """One that was saved with the tool in the hand, of which it is read what is placed, but not its nodes."""
    assert slicer.mrmlScene.WriteToMRB(str(tmp_path / "scene.mrb")) and slicer.mrmlScene.ReadFromMRB(str(tmp_path / "scene.mrb"), False)


def delete_markers(driver: FakeServerDriver, tmp_path: Path) -> None:
    for node in markers():
        slicer.mrmlScene.RemoveNode(node)


@pytest.mark.slow
@pytest.mark.parametrize("lose", [leave_by_next, leave_by_list, load_scene, delete_markers])
def test_a_tool_that_lost_what_it_places_is_put_down(
    driver: FakeServerDriver, questions: Questions, tmp_path: Path, lose: Callable[[FakeServerDriver, Path], None]
) -> None:
    segmented(driver)
    application = slicer.app.applicationLogic()
    start(driver, 1)
    click_on(driver, (5, 4, 2))
    lose(driver, tmp_path)
    driver.rest(0.1)
    interaction, selection = application.GetInteractionNode(), application.GetSelectionNode()
    assert not driver.ui.clickButton.checked and interaction.GetCurrentInteractionMode() != interaction.Place
    assert not interaction.GetPlaceModePersistence() and selection.GetActivePlaceNodeClassName() != "vtkMRMLMarkupsFiducialNode"
    start(driver, 3)
    click_on(driver, (15, 10, 2))
    assert sent(driver)[-1]["clicks"][-1]["structure"] == "LV cavity"


@pytest.mark.slow
def test_clicks_that_are_shown_again_are_not_what_is_placed_next(driver: FakeServerDriver, questions: Questions) -> None:
    segmented(driver)
    selection = slicer.app.applicationLogic().GetSelectionNode()
    start(driver, 1)
    click_on(driver, (5, 4, 2))
    press(driver, "Esc")
    own = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLMarkupsFiducialNode", "own")
    for study in (0, 1):
        driver.select(study)
        driver.click("open")
    assert points() == 1 and slicer.mrmlScene.GetNodeByID(selection.GetActivePlaceNodeID()) is own


@pytest.mark.slow
def test_a_scribble_that_is_done_again_leaves_the_tool_in_the_hand(driver: FakeServerDriver) -> None:
    segmented(driver)
    start(driver, 1)
    driver.ui.scribbleCheckBox.checked = True
    click_on(driver, (8, 8, 2), (9, 9, 2), (10, 9, 2), wait=False)
    slicer.app.applicationLogic().GetInteractionNode().SwitchToViewTransformMode()
    driver.settle()
    driver.ui.scribbleCheckBox.checked = False
    start(driver, 3)
    placed = aimed_at()
    for key in ("Ctrl+Z", "Ctrl+Y"):
        press(driver, key)
        driver.settle()
    assert aimed_at() is placed and driver.ui.clickButton.checked
    click_on(driver, (15, 10, 2))
    assert [click["structure"] for click in sent(driver)[-1]["clicks"]] == ["RV cavity", "LV cavity"]
