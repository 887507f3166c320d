"""The cardiac table in the panel: it follows, it is copied, its phases are chosen, and its flags lead to their slices."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

slicer = pytest.importorskip("slicer", reason="slicer-core is not installed: pip install -r tests/requirements.txt")
pytest.importorskip("PySide6", reason="PySide6 is not installed: pip install -r tests/requirements.txt")

from PratoLabelLib.scene.segmentation import import_mask
from tests.slicer_module.panel_driver import FakeServerDriver


@pytest.fixture
def measured(driver: FakeServerDriver) -> FakeServerDriver:
    """A study that is segmented and measured, with its patient's other phase."""
    driver.open_study()
    driver.click("run")
    driver.wait(lambda: driver.ui.cardiacTable.item(1, 5).text())
    return driver


def flags(driver: FakeServerDriver) -> list[str]:
    return [driver.ui.flagsList.item(n).text() for n in range(driver.ui.flagsList.count)]


def empty_slice(driver: FakeServerDriver, number: int) -> None:
    study = driver.logic.current_study
    edited = study.mask()
    edited[number] = 0
    import_mask(study.segmentation_node, study.volume_node, study.labels, edited)
    driver.wait(lambda: not flags(driver)[0].startswith("The stroke volumes"))


@pytest.mark.slow
def test_the_table_follows_the_segments(measured: FakeServerDriver) -> None:
    table = measured.ui.cardiacTable
    first = table.item(1, 0).text()
    assert float(first) == pytest.approx((measured.logic.current_study.mask() == 3).sum() * 0.032, abs=0.06)  # voxels of 2 x 2 x 8 mm
    assert float(table.item(1, 5).text()) < 100  # the ejection fraction: the other phase has a label
    assert measured.ui.phaseLabel.text == "p1: end diastole is p1_ED, end systole p1_ES."
    (strokes,) = flags(measured)  # the RV of the fake server's hearts hardly beats
    assert strokes.startswith("The stroke volumes differ") and "RV -1 ml" in strokes
    empty_slice(measured, 2)
    assert float(table.item(1, 0).text()) < float(first)
    assert measured.ui.flagsList.isVisible() and len(flags(measured)) > 1  # a slice is empty between filled ones


@pytest.mark.slow
def test_a_click_on_a_flag_goes_to_its_slice(measured: FakeServerDriver) -> None:
    view = slicer.vtkMRMLSliceNode()
    view.SetLayoutName("Red")
    view = slicer.mrmlScene.AddNode(view)
    from PratoLabelLib.scene.slice_views import show_planes

    show_planes(measured.logic.current_study.volume_node)
    empty_slice(measured, 2)
    measured.ui.flagsList.itemClicked.emit(measured.ui.flagsList.item(0))
    assert view.GetSliceToRAS().GetElement(2, 3) == pytest.approx(2 * 8)


@pytest.mark.slow
def test_the_table_is_copied(measured: FakeServerDriver) -> None:
    measured.ui.copyButton.click()
    head, *rows = [line.split("\t") for line in slicer.app.clipboard().text().split("\n")]
    assert head == ["Structure", "Volume (ml)", "Mass (g)", "EDV (ml)", "ESV (ml)", "SV (ml)", "EF (%)"]
    table = measured.ui.cardiacTable
    shown = [[table.item(row, column).text() for column in range(6)] for row in range(3)]
    assert [row[1:] for row in rows] == shown
    assert [row[0] for row in rows] == ["RV cavity", "LV cavity", "Myocardium"]


@pytest.mark.slow
def test_the_table_becomes_a_table_node(measured: FakeServerDriver) -> None:
    measured.ui.tableButton.click()
    node = slicer.util.getNode("p1 measures")
    assert (node.GetNumberOfRows(), node.GetNumberOfColumns()) == (3, 7)
    assert node.GetCellText(1, 1) == measured.ui.cardiacTable.item(1, 0).text()
    assert "p1 measures" in measured.status


@pytest.mark.slow
def test_the_table_is_saved_as_csv(measured: FakeServerDriver, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import qt

    path = tmp_path / "table.csv"
    monkeypatch.setattr(qt.QFileDialog, "getSaveFileName", lambda *arguments: str(path))  # PythonQt's gives the path alone
    measured.ui.csvButton.click()
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.reader(file))
    assert rows[2][:2] == ["LV cavity", measured.ui.cardiacTable.item(1, 0).text()]
    assert rows[-2:] == [["End diastole", "p1_ED"], ["End systole", "p1_ES"]]
    path.unlink()
    monkeypatch.setattr(qt.QFileDialog, "getSaveFileName", lambda *arguments: str(tmp_path / "no" / "such" / "folder.csv"))
    measured.ui.csvButton.click()
    assert "cannot be written" in measured.status


@pytest.mark.slow
def test_the_phases_are_chosen_by_hand(measured: FakeServerDriver) -> None:
    table, ed = measured.ui.cardiacTable, measured.ui.edBox
    edv, esv = table.item(1, 2).text(), table.item(1, 3).text()
    ed.setCurrentIndex(ed.findData("p1_ES"))
    ed.activated.emit(ed.currentIndex)
    measured.wait(lambda: measured.ui.phaseLabel.text == "p1: end diastole is p1_ES, end systole p1_ED.")
    assert (table.item(1, 2).text(), table.item(1, 3).text()) == (esv, edv)
    assert choice(measured) == ("p1_ES", "by its volume")
    measured.choose("es", "p1_ES")
    assert measured.status == "p1_ES cannot be both end-diastole and end-systole: choose another one."
    measured.wait(lambda: choice(measured) == ("p1_ES", "by its volume"))
    measured.server.names.append("p2_ED")
    measured.click("refresh")
    for row, patient in ((2, "p2"), (1, "p1")):
        measured.select(row)
        measured.click("open")
        measured.wait(lambda patient=patient: patient in measured.ui.phaseLabel.text)
    measured.wait(lambda: measured.ui.phaseLabel.text == "p1: end diastole is p1_ES, end systole p1_ED.")
    assert choice(measured) == ("p1_ES", "by its volume"), "the boxes say something else than the table"
    ed.setCurrentIndex(0)
    ed.activated.emit(0)
    measured.wait(lambda: table.item(1, 2).text() == edv)


def choice(driver: FakeServerDriver) -> tuple[str, str]:
    """What the boxes ED and ES say."""
    return driver.ui.edBox.currentText, driver.ui.esBox.currentText


@pytest.mark.slow
def test_without_a_study_the_table_is_empty_and_with_the_next_one_full_again(measured: FakeServerDriver) -> None:
    table, shown = measured.ui.cardiacTable, measured.ui.cardiacTable.item(1, 0).text()
    slicer.mrmlScene.Clear(0)
    measured.rest(0.1)
    assert {table.item(row, column).text() for row in range(3) for column in range(6)} == {""}
    assert not measured.ui.copyButton.enabled and not flags(measured)
    measured.open_study()
    measured.click("run")
    measured.wait(lambda: table.item(1, 0).text() == shown)
