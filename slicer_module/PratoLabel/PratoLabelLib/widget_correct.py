"""Section 5: correcting, and what the segmentation says of the heart."""

from __future__ import annotations

from typing import Any

import qt
import slicer
import slicer.util

from PratoLabelLib.styles import WARNING_STYLE

#: How long the segments must rest before they are measured.
REST_MS = 250
ROWS = {"RV cavity": 0, "LV cavity": 1, "myocardium": 2}


class CorrectSection:
    """Segment Editor, undo and redo, locks, and the cardiac table."""

    def __init__(self, panel: Any) -> None:
        self._panel, self._ui, self._logic = panel, panel.ui, panel.logic
        table = self._ui.cardiacTable
        table.horizontalHeader().setSectionResizeMode(qt.QHeaderView.Stretch)
        table.verticalHeader().setSectionResizeMode(qt.QHeaderView.ResizeToContents)
        self._rest = qt.QTimer()
        self._rest.setSingleShot(True)
        self._rest.setInterval(REST_MS)
        self._rest.connect("timeout()", self._measure)
        self._ui.editButton.connect("clicked()", self._on_edit)
        self._ui.undoButton.connect("clicked()", self._on_undo)
        self._ui.redoButton.connect("clicked()", self._on_redo)
        self._logic.segmentation_changed.connect(self._on_changed)

    def refresh(self) -> None:
        """Enable what can be done, and tell the logic what is locked."""
        parameters = self._panel.parameters
        if parameters is not None:
            locks = {"RV cavity": parameters.lock_rv, "myocardium": parameters.lock_myocardium, "LV cavity": parameters.lock_lv}
            self._logic.locked = {name for name, locked in locks.items() if locked}
        opened = self._logic.open
        self._ui.editButton.enabled = opened is not None
        self._ui.undoButton.enabled = opened is not None and opened.history.can_undo
        self._ui.redoButton.enabled = opened is not None and opened.history.can_redo
        if opened is None:
            self._show(None)

    def stop(self) -> None:
        """Measure no more."""
        self._rest.stop()

    def _on_changed(self) -> None:
        self._rest.start()
        self.refresh()

    def _measure(self) -> None:
        self._show(self._logic.cardiac())

    def _show(self, report: Any) -> None:
        cells = {} if report is None else _cells(report)
        table = self._ui.cardiacTable
        for row in range(table.rowCount):
            for column in range(table.columnCount):
                item = qt.QTableWidgetItem(cells.get((row, column), ""))
                item.setTextAlignment(qt.Qt.AlignRight | qt.Qt.AlignVCenter)
                table.setItem(row, column, item)
        self._ui.phaseLabel.text = _phases(report)
        self._ui.flagsLabel.visible = report is not None and bool(report.flags)
        self._ui.flagsLabel.text = "\n".join(report.flags) if report is not None else ""
        self._ui.flagsLabel.styleSheet = WARNING_STYLE

    def _on_undo(self) -> None:
        if self._logic.open is not None:
            self._logic.open.undo()

    def _on_redo(self) -> None:
        if self._logic.open is not None:
            self._logic.open.redo()

    def _on_edit(self) -> None:
        try:
            slicer.util.selectModule("SegmentEditor")
        except RuntimeError:  # this Slicer has no main window, or no Segment Editor
            slicer.util.errorDisplay("The Segment Editor cannot be opened from here: choose it in the list of modules.")
            return
        opened, editor = self._logic.open, slicer.util.getModuleWidget("SegmentEditor").editor
        if opened is not None:
            editor.setSegmentationNode(opened.segmentation_node)
            editor.setSourceVolumeNode(opened.volume_node)


def _cells(report: Any) -> dict[tuple[int, int], str]:
    found = report.volumes
    cells = {(0, 0): found.rv_ml, (1, 0): found.lv_ml, (2, 0): found.myocardium_ml, (2, 1): found.myocardial_mass_g}
    for row, ventricle in ((0, report.rv), (1, report.lv)):
        if ventricle is not None:
            columns = (ventricle.edv_ml, ventricle.esv_ml, ventricle.stroke_volume_ml, ventricle.ejection_fraction)
            cells.update({(row, 2 + n): value for n, value in enumerate(columns)})
    return {cell: f"{value:.1f}" if abs(value) < 1000 else f"{value:.0f}" for cell, value in cells.items()}


def _phases(report: Any) -> str:
    if report is None:
        return "Open and segment a study to see its volumes."
    if not report.ed:
        return f"EDV, ESV, SV and EF need labels of two phases of {report.patient}."
    return f"{report.patient}: end diastole is {report.ed}, end systole {report.es}."
