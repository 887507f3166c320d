"""The panel's click tool as a labeller handles it: its keys, clicks in a view, and what has come of them."""

from __future__ import annotations

from typing import Any

import numpy as np
import slicer

from PratoLabelLib.scene.segmentation import import_mask
from tests.slicer_module.clicks import click, world_position
from tests.slicer_module.fake_clicks import refine
from tests.slicer_module.panel_driver import FakeServerDriver, PanelDriver


def start(driver: PanelDriver, value: int = 3) -> None:
    """Take up the tool, and choose a structure by its key."""
    if not driver.ui.clickButton.checked:
        driver.ui.clickButton.click()
    press(driver, str(value))


def press(driver: PanelDriver, key: str) -> None:
    """Press a key of the tool, which must be there."""
    (shortcut,) = [s for s in driver.panel.clicks.shortcuts.installed if s.key.toString() == key]
    shortcut.activated.emit()


def aimed_at() -> Any:
    """The node that the next click in a view is a point of."""
    application = slicer.app.applicationLogic()
    assert application.GetInteractionNode().GetCurrentInteractionMode() == slicer.vtkMRMLInteractionNode.Place
    return slicer.mrmlScene.GetNodeByID(application.GetSelectionNode().GetActivePlaceNodeID())


def click_on(driver: PanelDriver, *voxels: tuple[float, float, float], wait: bool = True) -> Any:
    """Click on voxels, as in a slice view."""
    node = aimed_at()
    for voxel in voxels:
        click(node, world_position(driver.logic.current_study.volume_node, voxel))
    if wait:
        driver.settle()
    return node


def drag(driver: PanelDriver, node: Any, point: int, voxel: tuple[float, float, float]) -> None:
    """Drag a point of a node to a voxel."""
    node.SetNthControlPointPositionWorld(point, *world_position(driver.logic.current_study.volume_node, voxel))
    node.InvokeEvent(slicer.vtkMRMLMarkupsNode.PointEndInteractionEvent)
    driver.settle()


def sent(driver: Any) -> list[dict[str, Any]]:
    return [request[3] for request in driver.server.requests if request[0] == "click"]


def mask_of(driver: PanelDriver) -> np.ndarray:
    """The segments (I, J, K)."""
    return driver.logic.current_study.mask().T


def expected(mask: np.ndarray, *clicks: tuple[str, tuple[int, int, int]]) -> np.ndarray:
    for structure, voxel in clicks:
        mask, _ = refine(mask, {"structure": structure, "points": [voxel]})
    return mask


def markers() -> list[Any]:
    kinds = ("vtkMRMLMarkupsFiducialNode", "vtkMRMLMarkupsCurveNode")
    return [node for kind in kinds for node in slicer.util.getNodesByClass(kind)]


def points() -> int:
    return sum(node.GetNumberOfControlPoints() for node in markers())


def segmented(driver: FakeServerDriver) -> np.ndarray:
    driver.open_study()
    driver.click("run")
    return mask_of(driver)


def paint(driver: PanelDriver, voxel: tuple[int, int, int], value: int) -> None:
    """Make a voxel a structure's, as the brush does."""
    study = driver.logic.current_study
    mask = study.mask()
    mask[voxel[::-1]] = value
    import_mask(study.segmentation_node, study.volume_node, study.labels, mask)
