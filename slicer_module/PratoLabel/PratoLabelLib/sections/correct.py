"""Section 5: correcting, and the clinical measures of the segmentation."""

from __future__ import annotations

from typing import TYPE_CHECKING

import qt
import slicer
import slicer.util

from PratoLabelLib.cardiac_report import CardiacReport
from PratoLabelLib.sections import WARNING_STYLE, Section, show_text

if TYPE_CHECKING:
    from PratoLabelLib.panel import Panel

#: How long the segments must rest before they are measured.
DEBOUNCE_MS = 250


class CorrectSection(Section):
    """Segment Editor, undo and redo, locks, and the cardiac table."""

    def __init__(self, panel: Panel) -> None:
        super().__init__(panel)
        table = self._ui.cardiacTable
        table.horizontalHeader().setSectionResizeMode(qt.QHeaderView.Stretch)
        table.verticalHeader().setSectionResizeMode(qt.QHeaderView.ResizeToContents)
        self._debounce_timer = qt.QTimer()
        self._debounce_timer.setSingleShot(True)
        self._debounce_timer.setInterval(DEBOUNCE_MS)
        self._debounce_timer.connect("timeout()", self._on_rest)
        self._ui.editButton.connect("clicked()", self._on_edit)
        self._ui.undoButton.connect("clicked()", self._on_undo)
        self._ui.redoButton.connect("clicked()", self._on_redo)
        self._logic.segmentation_changed.connect(self._on_segmentation_changed)

    def refresh(self) -> None:
        """Enable what can be done, and tell the logic which structures are locked."""
        parameters = self._panel.parameters
        if parameters is not None:
            locks = {"RV cavity": parameters.lock_rv, "myocardium": parameters.lock_myocardium, "LV cavity": parameters.lock_lv}
            self._logic.locked_structures = {name for name, is_locked in locks.items() if is_locked}
        study = self._logic.current_study
        self._ui.editButton.enabled = study is not None
        self._ui.undoButton.enabled = study is not None and study.history.can_undo
        self._ui.redoButton.enabled = study is not None and study.history.can_redo
        if study is None:
            self._show_report(None)

    def stop(self) -> None:
        """Measure no more."""
        self._debounce_timer.stop()

    def _on_segmentation_changed(self) -> None:
        self._debounce_timer.start()
        self.refresh()

    def _on_rest(self) -> None:
        self._show_report(self._logic.cardiac_report())

    def _show_report(self, report: CardiacReport | None) -> None:
        cells = {} if report is None else _format_cells(report)
        table = self._ui.cardiacTable
        for row in range(table.rowCount):
            for column in range(table.columnCount):
                item = qt.QTableWidgetItem(cells.get((row, column), ""))
                item.setTextAlignment(qt.Qt.AlignRight | qt.Qt.AlignVCenter)
                table.setItem(row, column, item)
        self._ui.phaseLabel.text = _describe_phases(report)
        show_text(self._ui.flagsLabel, "\n".join(report.flags) if report is not None else "", WARNING_STYLE)

    def _on_undo(self) -> None:
        if self._logic.current_study is not None:
            self._logic.current_study.undo()

    def _on_redo(self) -> None:
        if self._logic.current_study is not None:
            self._logic.current_study.redo()

    def _on_edit(self) -> None:
        try:
            slicer.util.selectModule("SegmentEditor")
        except RuntimeError:  # this Slicer has no main window, or no Segment Editor
            slicer.util.errorDisplay("The Segment Editor cannot be opened from here: choose it in the list of modules.")
            return
        study, editor = self._logic.current_study, slicer.util.getModuleWidget("SegmentEditor").editor
        if study is not None:
            editor.setSegmentationNode(study.segmentation_node)
            editor.setSourceVolumeNode(study.volume_node)


def _format_cells(report: CardiacReport) -> dict[tuple[int, int], str]:
    """The table's texts by row (RV, LV, myocardium) and column (volume, mass, EDV, ESV, SV, EF)."""
    volumes = report.volumes
    cells = {(0, 0): volumes.rv_ml, (1, 0): volumes.lv_ml, (2, 0): volumes.myocardium_ml, (2, 1): volumes.myocardial_mass_g}
    for row, ventricle in ((0, report.rv), (1, report.lv)):
        if ventricle is not None:
            columns = (ventricle.edv_ml, ventricle.esv_ml, ventricle.stroke_volume_ml, ventricle.ejection_fraction)
            cells.update({(row, 2 + n): value for n, value in enumerate(columns)})
    return {cell: f"{value:.1f}" if abs(value) < 1000 else f"{value:.0f}" for cell, value in cells.items()}


def _describe_phases(report: CardiacReport | None) -> str:
    if report is None:
        return "Open and segment a study to see its volumes."
    if not report.ed:
        return f"EDV, ESV, SV and EF need labels of two phases of {report.patient}."
    return f"{report.patient}: end diastole is {report.ed}, end systole {report.es}."
