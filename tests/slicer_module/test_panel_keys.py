"""Boxes of a cine that are keyed by phase, in the panel: drawn in some phases, moved in between, sent, removed, left with the study."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

slicer = pytest.importorskip("slicer", reason="slicer-core is not installed: pip install -r tests/requirements.txt")
pytest.importorskip("PySide6", reason="PySide6 is not installed: pip install -r tests/requirements.txt")

from prato.prompts.phases import prompts_by_phase
from PratoLabelLib.scene.geometry import ijk_box_to_roi, roi_to_ijk_box
from PratoLabelLib.scene.phase_boxes import KEYS_ATTRIBUTE, move_box
from tests.slicer_module.cine_driver import CineDriver
from tests.slicer_module.cines import CINE, PHASES
from tests.slicer_module.clicks import click_voxels
from tests.slicer_module.panel_driver import end_interaction

pytestmark = pytest.mark.slow
FIRST, THIRD = (2, 20, 2, 18, 0, 5), (6, 17, 4, 16, 1, 5)
#: Half-way between them: half a voxel is a whole one.
SECOND = (4, 19, 3, 17, 0, 5)


def box_of(driver: CineDriver) -> tuple[int, ...]:
    return roi_to_ijk_box(driver.panel.parameters.roi, driver.logic.current_study.volume_node)


def drag(driver: CineDriver, box: tuple[int, ...]) -> None:
    """Move the handles of the selected box."""
    ijk_box_to_roi(box, driver.logic.current_study.volume_node, driver.panel.parameters.roi)
    end_interaction(driver.panel.parameters.roi)


def open_with_box(driver: CineDriver) -> None:
    driver.open()
    driver.ui.liveCheckBox.checked = False
    driver.click("place")
    click_voxels(driver.panel.parameters.roi, driver.logic.current_study.volume_node, (2, 2, 2), (19, 17, 2))
    driver.rest(0.02)
    assert box_of(driver) == FIRST


def key_two_phases(driver: CineDriver) -> None:
    """The first phase by the button, the third by moving the box there."""
    open_with_box(driver)
    driver.click("key")
    driver.show(2)
    assert box_of(driver) == FIRST  # with one key it stays where it is
    drag(driver, THIRD)


_bounds = st.tuples(*(st.integers(0, 12), st.integers(1, 12)) * 3).map(
    lambda b: [b[0], b[0] + b[1], b[2], b[2] + b[3], b[4], b[4] + b[5]],
)


@settings(max_examples=50, deadline=None)
@given(st.integers(2, 12).flatmap(lambda n: st.tuples(st.just(n), st.dictionaries(st.integers(0, n - 1), _bounds, min_size=1, max_size=5))))
def test_a_box_moves_as_the_server_moves_it(case: tuple[int, dict[int, list[int]]]) -> None:
    count, keys = case
    theirs = prompts_by_phase({str(phase): box for phase, box in keys.items()}, count, (24, 24, 24), (1.0, 1.0, 1.0))
    for phase in range(count):
        (prompt,) = theirs[phase]
        bounds = [bound for pair in zip(prompt.box.start, prompt.box.stop) for bound in pair]
        assert move_box(keys, phase, count) == bounds


def test_a_box_without_a_key_serves_for_all_phases(cine_driver: CineDriver) -> None:
    driver = cine_driver
    open_with_box(driver)
    assert driver.ui.keysFrame.visible and not driver.ui.keysLabel.visible
    assert driver.ui.keyButton.enabled and not driver.ui.removeKeyButton.enabled and not driver.ui.oneBoxButton.enabled
    driver.show(2)
    drag(driver, THIRD)
    driver.show(0)
    assert box_of(driver) == THIRD
    driver.click("allPhases")
    assert driver.sent("infer")[-1][3]["roi"] == [[*THIRD]]


def test_a_box_keyed_in_two_phases_moves_between_them_and_is_sent_by_phase(cine_driver: CineDriver) -> None:
    driver = cine_driver
    key_two_phases(driver)
    assert driver.ui.keysLabel.text == "Box keyed in phases 0, 2; in between it is interpolated."
    browser = driver.logic.current_study.cine.browser
    for phase, box in ((0, FIRST), (1, SECOND), (2, THIRD), (3, SECOND)):  # the fourth lies between the third and the first
        browser.SetSelectedItemNumber(phase)
        assert box_of(driver) == box
    driver.show(1)
    driver.click("allPhases")
    assert driver.sent("infer")[-1][3] == {"prune": "default", "phases": "all", "roi": {"0": [[*FIRST]], "2": [[*THIRD]]}}
    driver.click("run")
    assert driver.sent("infer")[-1][3]["phases"] == 1 and driver.sent("infer")[-1][3]["roi"] == {"0": [[*FIRST]], "2": [[*THIRD]]}
    driver.rest(0.4)
    assert "0 (ED), 2 (ES)" in driver.ui.keysLabel.text


def test_a_result_is_taken_inside_the_box_of_its_phase(cine_driver: CineDriver) -> None:
    driver = cine_driver
    open_with_box(driver)
    driver.click("key")
    driver.show(2)
    drag(driver, (12, 15, 10, 13, 0, 5))  # smaller than the heart
    driver.click("allPhases")
    outside = driver.masks()
    outside[12:15, 10:13, :, 2] = 0
    assert not outside[..., 2].any() and driver.masks()[..., 2].any()
    assert driver.masks()[2:12, ..., 0].any()


def test_moving_the_box_in_another_way_keys_it_too(cine_driver: CineDriver) -> None:
    driver = cine_driver
    key_two_phases(driver)
    driver.show(1)
    ijk_box_to_roi(FIRST, driver.logic.current_study.volume_node, driver.panel.parameters.roi)  # as by the module Markups: no event
    driver.show(3)
    driver.show(1)
    assert box_of(driver) == FIRST and "0, 1, 2" in driver.ui.keysLabel.text
    driver.show(3)
    assert (driver.ui.firstSliceBox.value, driver.ui.lastSliceBox.value) == (SECOND[4] + 1, SECOND[5])
    driver.ui.lastSliceBox.value = 3
    driver.ui.lastSliceBox.editingFinished.emit()
    assert "0, 1, 2, 3" in driver.ui.keysLabel.text
    driver.show(0)
    driver.click("fit")  # the server's proposal, in this phase alone
    assert box_of(driver) == (1, 23, 2, 20, 0, 5)
    driver.click("allPhases")
    assert driver.sent("infer")[-1][3]["roi"] == {"0": [[1, 23, 2, 20, 0, 5]], "1": [[*FIRST]], "2": [[*THIRD]], "3": [[*SECOND[:5], 3]]}


def test_keys_are_removed_one_by_one_or_all(cine_driver: CineDriver) -> None:
    driver = cine_driver
    key_two_phases(driver)
    driver.click("removeKey")
    assert box_of(driver) == FIRST and driver.ui.keysLabel.text == "Box keyed in phase 0: go to another phase and move it there."
    drag(driver, THIRD)
    driver.show(1)
    driver.click("oneBox")
    for phase in range(PHASES):
        driver.show(phase)
        assert box_of(driver) == SECOND
    driver.click("allPhases")
    assert driver.sent("infer")[-1][3]["roi"] == [[*SECOND]]


def test_a_placement_that_is_given_up_in_another_phase_leaves_the_keys(cine_driver: CineDriver) -> None:
    driver = cine_driver
    key_two_phases(driver)
    driver.click("place")
    driver.show(0)
    interaction = slicer.app.applicationLogic().GetInteractionNode()
    interaction.SetCurrentInteractionMode(interaction.ViewTransform)
    assert box_of(driver) == FIRST
    driver.click("place")
    driver.show(1)
    click_voxels(driver.panel.parameters.roi, driver.logic.current_study.volume_node, (6, 4, 2), (16, 15, 2))
    driver.show(0)
    assert box_of(driver) == FIRST
    driver.click("allPhases")
    assert sorted(driver.sent("infer")[-1][3]["roi"]) == ["0", "1", "2"]


def test_boxes_keyed_in_different_phases_are_sent_for_every_phase(cine_driver: CineDriver) -> None:
    driver = cine_driver
    key_two_phases(driver)
    first = driver.panel.parameters.roi
    second = driver.roi("second")
    still = box_of(driver)
    driver.ui.allBoxesCheckBox.checked = True
    driver.click("allPhases")
    assert driver.sent("infer")[-1][3]["roi"] == {"0": [[*FIRST], [*still]], "2": [[*THIRD], [*still]]}
    driver.show(3)
    driver.click("key")
    assert second.GetAttribute(KEYS_ATTRIBUTE) and first.GetAttribute(KEYS_ATTRIBUTE)
    driver.click("allPhases")
    assert sorted(driver.sent("infer")[-1][3]["roi"]) == ["0", "1", "2", "3"]


def test_a_keyed_box_does_not_survive_into_another_study(cine_driver: CineDriver) -> None:
    driver = cine_driver
    key_two_phases(driver)
    driver.edit()  # so that the study stays in the scene
    keyed = driver.panel.parameters.roi
    driver.logic.open_study("p1_ES")
    driver.settle()
    assert driver.panel.box.selected_rois() == [] and not keyed.GetDisplayVisibility() and not driver.ui.keysFrame.visible
    driver.click("fit")
    driver.click("run")
    assert driver.sent("infer")[-1][3]["roi"] == [[1, 23, 2, 20, 0, 5]]
    driver.open(CINE)
    assert driver.panel.parameters.roi is keyed and box_of(driver) == THIRD  # of its own study it is as it was left
    driver.show(1)
    assert box_of(driver) == SECOND


def test_a_keyed_box_outside_the_image_is_not_sent(cine_driver: CineDriver) -> None:
    driver = cine_driver
    key_two_phases(driver)
    driver.panel.parameters.roi.SetCenter(900, 0, 0)
    driver.click("allPhases")
    assert "lies outside" in driver.status and driver.sent("infer") == []
