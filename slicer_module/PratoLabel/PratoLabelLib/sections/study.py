"""Section 2: the server's studies, and volumes that become one."""

from __future__ import annotations

from typing import TYPE_CHECKING

import qt

from PratoLabelLib.consent import may_send_image
from PratoLabelLib.parameters import ParameterComboBox
from PratoLabelLib.sections import Section

if TYPE_CHECKING:
    from PratoLabelLib.panel import Panel


class StudySection(Section):
    """The next study, one of the list, or a volume of the scene."""

    def __init__(self, panel: Panel) -> None:
        super().__init__(panel)
        self._strategy = ParameterComboBox(self._ui.strategyBox, lambda: panel.parameters, "strategy")
        header = self._ui.studyTree.header()
        header.setStretchLastSection(False)
        header.setSectionResizeMode(0, qt.QHeaderView.Stretch)
        header.setSectionResizeMode(1, qt.QHeaderView.ResizeToContents)
        self._ui.nextButton.connect("clicked()", self._on_next)
        self._ui.refreshButton.connect("clicked()", lambda: panel.request(self._logic.refresh_studies))
        self._ui.openButton.connect("clicked()", self._on_open)
        self._ui.sendButton.connect("clicked()", self._on_send)
        self._ui.studyTree.itemActivated.connect(lambda item, column: self._on_open())
        self._ui.studyTree.itemSelectionChanged.connect(self.refresh)
        self._ui.volumeSelector.connect("currentNodeChanged(vtkMRMLNode*)", lambda node: self.refresh())
        self._logic.studies_changed.connect(lambda studies: self._fill_tree())
        self._logic.study_opened.connect(lambda volume: self._fill_tree())

    def refresh(self) -> None:
        """Offer what the server offers."""
        info, studies = self._logic.info, self._logic.studies
        is_connected = info is not None
        self._strategy.set_entries([(name, name) for name in info.strategies] if info else [])
        self._ui.nextButton.enabled = bool(self._strategy.value)
        self._ui.refreshButton.enabled = is_connected
        self._ui.openButton.enabled = is_connected and bool(self._selected_study())
        self._ui.sendButton.enabled = is_connected and self._ui.volumeSelector.currentNode() is not None
        labelled = sum(study.labelled for study in studies)
        self._ui.studiesLabel.text = f"{labelled} of {len(studies)} labelled" if studies else "No studies yet."

    def _selected_study(self) -> str:
        item = self._ui.studyTree.currentItem()
        return item.text(0) if item is not None and item.isSelected() else ""

    def _fill_tree(self) -> None:
        tree, current = self._ui.studyTree, self._logic.current_study
        current_id = current.study if current else ""
        selected = current_id or self._selected_study()
        tree.clear()
        bold = qt.QFont(tree.font)
        bold.setBold(True)
        for study in self._logic.studies:
            item = qt.QTreeWidgetItem(tree)
            item.setText(0, study.id)
            item.setText(1, (study.annotator or "labelled") if study.labelled else "")
            if study.id == current_id:
                item.setFont(0, bold)
            if study.id == selected:
                tree.setCurrentItem(item)

    def _on_next(self) -> None:
        self._panel.request(lambda: self._logic.open_next(self._strategy.value, self._panel.segment.model))

    def _on_open(self) -> None:
        study = self._selected_study()
        if study:
            self._panel.request(lambda: self._logic.open_study(study))

    def _on_send(self) -> None:
        volume = self._ui.volumeSelector.currentNode()
        if may_send_image(volume.GetName(), self._logic.address):
            self._panel.request(lambda: self._logic.send_volume(volume, volume.GetName()))
