"""The clinical measures of the segments: the table, where it can be copied to, and what looks implausible."""

from __future__ import annotations

from typing import Any

import qt
import slicer

from PratoLabelLib.reports.cardiac_report import CardiacReport
from PratoLabelLib.reports.cardiac_table import add_table_node, format_cells, to_csv, to_tab_separated
from PratoLabelLib.scene.slice_views import jump_to_slice
from PratoLabelLib.sections import PanelServices, Section
from PratoLabelLib.sections.cine import CineSection
from PratoLabelLib.sections.server import ServerSection
from PratoLabelLib.translation import translator

_ = translator(__file__)

#: How long the segments must rest before they are measured.
DEBOUNCE_MS = 250
#: The entry of the boxes ED and ES that lets the volumes tell.
AUTOMATIC = _("by its volume")


class MeasureSection(Section):
    """Follows the segments, a moment after they have changed."""

    def __init__(self, panel: PanelServices, server: ServerSection, cine: CineSection) -> None:
        super().__init__(panel)
        self._server, self._cine = server, cine
        self._report: CardiacReport | None = None
        self._is_empty = False  # nothing has been shown yet, not even that there is nothing
        table = self._ui.cardiacTable
        table.horizontalHeader().setSectionResizeMode(qt.QHeaderView.Stretch)
        table.verticalHeader().setSectionResizeMode(qt.QHeaderView.ResizeToContents)
        self._debounce_timer = qt.QTimer(self._ui.statusLabel)  # ends with the panel
        self._debounce_timer.setSingleShot(True)
        self._debounce_timer.setInterval(DEBOUNCE_MS)
        self._debounce_timer.connect("timeout()", self._on_rest)
        for box in (self._ui.edBox, self._ui.esBox):
            box.connect("activated(int)", lambda index: self._on_choose())
        self._ui.copyButton.connect("clicked()", self._on_copy)
        self._ui.tableButton.connect("clicked()", self._on_table_node)
        self._ui.csvButton.connect("clicked()", self._on_csv)
        self._ui.flagsList.itemClicked.connect(self._on_flag)
        self._logic.segmentation_changed.connect(self._debounce_timer.start)

    def refresh(self) -> None:
        """Show nothing where no study is open."""
        if self._logic.current_study is None and not self._is_empty:
            self._show(None)

    def stop(self) -> None:
        """Measure no more."""
        self._debounce_timer.stop()

    def _on_rest(self) -> None:
        self._show(self._logic.cardiac_report())
        self._cine.update_curve()
        self._panel.refresh()  # whether there are edits that were not sent

    def _show(self, report: CardiacReport | None) -> None:
        self._report, self._is_empty = report, report is None
        cells = {} if report is None else format_cells(report)
        table = self._ui.cardiacTable
        for row in range(table.rowCount):
            for column in range(table.columnCount):
                item = qt.QTableWidgetItem(cells.get((row, column), ""))
                item.setTextAlignment(qt.Qt.AlignRight | qt.Qt.AlignVCenter)
                table.setItem(row, column, item)
        for button in (self._ui.copyButton, self._ui.tableButton, self._ui.csvButton):
            button.enabled = report is not None
        self._offer_phases(report)
        self._ui.phaseLabel.text = _describe_phases(report)
        flags = self._ui.flagsList
        flags.clear()
        for flag in report.flags if report is not None else []:
            flags.addItem(flag.sentence)
        flags.visible = report is not None and bool(report.flags)

    def _offer_phases(self, report: CardiacReport | None) -> None:
        cine = self._logic.current_cine
        texts = {str(phase): cine.cine.describe(phase) for phase in range(cine.cine.count)} if cine is not None else {}
        entries = [(AUTOMATIC, ""), *((texts.get(name, name), name) for name in (report.phases if report is not None else []))]
        for number, box in enumerate((self._ui.edBox, self._ui.esBox)):
            if [(box.itemText(i), box.itemData(i)) for i in range(box.count)] != entries:
                box.clear()
                for text, study in entries:
                    box.addItem(text, study)
            box.setCurrentIndex(max(box.findData(self._logic.chosen_phases[number]), 0))
            box.enabled = len(entries) > 2

    def _on_choose(self) -> None:
        ed, es = (box.itemData(box.currentIndex) or "" for box in (self._ui.edBox, self._ui.esBox))
        self._logic.choose_phases(ed, es, self._server.annotator)

    def _on_flag(self, item: Any) -> None:
        study, row = self._logic.current_study, self._ui.flagsList.row(item)
        if study is not None and self._report is not None and row < len(self._report.flags):
            slices = self._report.flags[row].slices
            if slices:
                jump_to_slice(study.volume_node, slices[0])

    def _on_copy(self) -> None:
        if self._report is not None:
            slicer.app.clipboard().setText(to_tab_separated(self._report))

    def _on_table_node(self) -> None:
        if self._report is not None:
            node = add_table_node(self._report)
            self._panel.say(_("The table {table} is in the scene: see the module Tables.").format(table=node.GetName()))

    def _on_csv(self) -> None:
        report = self._report  # as it is: another study may be opened behind the dialog
        if report is None:
            return
        name = f"{report.patient}.csv"
        path = qt.QFileDialog.getSaveFileName(self._ui.csvButton.window(), _("Save the table"), name, "CSV (*.csv)")
        if not path:
            return
        try:
            with open(path, "w", encoding="utf-8", newline="") as file:
                file.write(to_csv(report))
        except OSError as error:
            sentence = _("{path} cannot be written ({reason}): choose another folder.")
            self._panel.say(sentence.format(path=path, reason=error.strerror), is_error=True)
        else:
            self._panel.say(_("The table is saved as {path}.").format(path=path))


def _describe_phases(report: CardiacReport | None) -> str:
    if report is None:
        return _("Open and segment a study to see its volumes.")
    if not report.ed:
        return _("EDV, ESV, SV and EF need labels of two phases of {patient}.").format(patient=report.patient)
    return _("{patient}: end diastole is {ed}, end systole {es}.").format(patient=report.patient, ed=report.ed, es=report.es)
