"""No image leaves the machine before the labeller has agreed."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

slicer = pytest.importorskip("slicer", reason="slicer-core is not installed: pip install -r tests/requirements.txt")
pytest.importorskip("PySide6", reason="PySide6 is not installed: pip install -r tests/requirements.txt")

from tests.slicer_module.panel_driver import FakeServerDriver


def volume_in(driver: FakeServerDriver, name: str = "mine") -> Any:
    volume = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", name)
    slicer.util.updateVolumeFromArray(volume, np.zeros((5, 22, 24), np.int16))
    driver.ui.volumeSelector.setCurrentNode(volume)
    return volume


class Dialog:
    """In place of the one that Slicer shows; ``agree`` is what the labeller presses."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.agree = False
        self.shown: list[tuple[str, dict[str, Any]]] = []
        monkeypatch.setattr(slicer.util, "confirmOkCancelDisplay", self)

    def __call__(self, text: str, windowTitle: str | None = None, parent: Any = None, **options: Any) -> bool:
        self.shown.append((text, options))
        return self.agree


def uploads(driver: FakeServerDriver) -> list[Any]:
    return [request for request in driver.server.requests if request[0] == "upload"]


@pytest.mark.slow
def test_an_image_is_sent_when_the_labeller_agrees_and_not_before(driver: FakeServerDriver, monkeypatch: pytest.MonkeyPatch) -> None:
    dialog = Dialog(monkeypatch)
    driver.click("test")
    volume_in(driver)
    assert dialog.shown == [] and uploads(driver) == []
    driver.click("send")
    assert uploads(driver) == [] and driver.logic.current_study is None
    [(text, options)] = dialog.shown
    assert "mine" in text and "fake" in text  # which image, and to whom
    assert "fake" in options["dontShowAgainSettingsKey"]  # a "yes" is for this server alone
    dialog.agree = True
    driver.click("send")
    assert len(dialog.shown) == 2 and len(uploads(driver)) == 1
    assert driver.logic.current_study.study == "mine"


@pytest.mark.slow
def test_a_yes_is_kept_for_one_server_alone(driver: FakeServerDriver, monkeypatch: pytest.MonkeyPatch) -> None:
    dialog = Dialog(monkeypatch)
    driver.click("test")
    volume_in(driver)
    for address in ("http://10.0.0.1:8000", "https://labels.example.org", "http://10.0.0.1:8001"):
        driver.server.address = address
        driver.click("send")
    keys = [options["dontShowAgainSettingsKey"] for _, options in dialog.shown]
    assert len(set(keys)) == 3
    assert all(key.startswith("PratoLabel/") and key.count("/") == 1 for key in keys)


@pytest.mark.slow
def test_nothing_but_that_click_asks_or_sends_an_image(driver: FakeServerDriver, monkeypatch: pytest.MonkeyPatch) -> None:
    dialog = Dialog(monkeypatch)
    driver.open_study()
    driver.click("run")
    driver.click("submit")
    assert dialog.shown == [] and uploads(driver) == []


@pytest.mark.slow
def test_what_slicer_loaded_from_dicom_is_sent_under_a_name_that_a_study_may_have(
    driver: FakeServerDriver, monkeypatch: pytest.MonkeyPatch
) -> None:
    dialog = Dialog(monkeypatch)
    dialog.agree = True
    driver.click("test")
    volume_in(driver, "5: cine SAX (b=0)")
    driver.click("send")
    assert "as 5_cine SAX _b_0_:" in dialog.shown[0][0]
    assert driver.logic.current_study.study == "5_cine SAX _b_0_"


@pytest.mark.parametrize(("name", "study"), [("p1_ED", "p1_ED"), ("*", "image"), (" .x", "x"), ("ü" * 100, "ü" * 75), ("a/../b", "a_.._b")])
def test_every_name_becomes_one_that_the_server_takes(name: str, study: str) -> None:
    from PratoLabelLib.studies.study_files import study_name

    assert study_name(name) == study


@pytest.mark.parametrize("name", ["5: cine SAX", "*", "-", "", "Ö" * 200, " a\tb\nc", "½/²", "x" * 151, "a: "])
def test_the_server_takes_it(name: str) -> None:
    from lib.datastore.client_names import require_image_name
    from PratoLabelLib.studies.study_files import study_name

    sent = study_name(name)
    require_image_name(sent)
    assert study_name(sent) == sent  # which is kept when it is sent again


@pytest.mark.slow
def test_what_a_file_does_not_hold_as_it_is_is_not_sent(driver: FakeServerDriver, monkeypatch: pytest.MonkeyPatch) -> None:
    Dialog(monkeypatch).agree = True
    driver.click("test")
    sheared = np.diag([1.4, 1.4, 8.0, 1.0])
    sheared[0, 2] = 0.1  # as a registration leaves it whose transform was hardened
    volume_in(driver, "mine").SetIJKToRASMatrix(slicer.util.vtkMatrixFromArray(sheared))
    driver.click("send")
    assert driver.status.startswith("The axes of mine are not at right angles to each other")
    volume_in(driver, "yours").SetAndObserveImageData(slicer.vtkOrientedImageData())
    driver.click("send")
    assert driver.status == "There is no image in yours: open one first."
    nowhere = volume_in(driver, "ours")
    for spacing, origin in ((0.0, 0.0), (np.nan, 0.0), (8.0, np.nan), (8.0, np.inf)):
        nowhere.SetSpacing(1.4, 1.4, spacing)
        nowhere.SetOrigin(0.0, 0.0, origin)
        driver.click("send")
        assert driver.status == "The origin and the spacing of ours must be numbers, and no spacing 0: set them in the module Volumes."
    assert uploads(driver) == [] and driver.logic.current_study is None


@pytest.mark.slow
def test_an_image_whose_voxels_are_not_counted_from_0_is_opened_as_the_server_counts(
    driver: FakeServerDriver, monkeypatch: pytest.MonkeyPatch
) -> None:
    Dialog(monkeypatch).agree = True
    driver.click("test")
    volume = volume_in(driver)
    volume.SetSpacing(2.0, 2.0, 8.0)
    volume.GetImageData().SetExtent(3, 26, 2, 23, 1, 5)  # as a part of another image
    driver.click("send")
    shown = driver.logic.current_study.volume_node
    assert shown is not volume and shown.GetImageData().GetExtent() == (0, 23, 0, 21, 0, 4)
    assert shown.GetOrigin() == (6.0, 4.0, 8.0)  # where Slicer shows the first voxel
