"""Section 2: the studies of the server, and volumes that go there."""

from __future__ import annotations

from typing import Any

import qt

from PratoLabelLib.choices import Choices


class StudySection:
    """The next study, one of the list, or a volume of the scene."""

    def __init__(self, panel: Any) -> None:
        self._panel, self._ui, self._logic = panel, panel.ui, panel.logic
        self._strategy = Choices(self._ui.strategyBox, lambda: panel.parameters, "strategy")
        header = self._ui.studyTree.header()
        header.setStretchLastSection(False)
        header.setSectionResizeMode(0, qt.QHeaderView.Stretch)
        header.setSectionResizeMode(1, qt.QHeaderView.ResizeToContents)
        self._ui.nextButton.connect("clicked()", self._on_next)
        self._ui.refreshButton.connect("clicked()", lambda: panel.ask(self._logic.refresh_studies))
        self._ui.openButton.connect("clicked()", self._on_open)
        self._ui.sendButton.connect("clicked()", self._on_send)
        self._ui.studyTree.itemActivated.connect(lambda item, column: self._on_open())
        self._ui.studyTree.itemSelectionChanged.connect(self.refresh)
        self._ui.volumeSelector.connect("currentNodeChanged(vtkMRMLNode*)", lambda node: self.refresh())
        self._logic.studies_changed.connect(lambda studies: self._list())
        self._logic.study_opened.connect(lambda volume: self._list())

    def refresh(self) -> None:
        """Offer what the server offers."""
        info, studies = self._logic.info, self._logic.studies
        connected = info is not None
        self._strategy.offer([(name, name) for name in info.strategies] if info else [])
        self._ui.nextButton.enabled = bool(self._strategy.value)
        self._ui.refreshButton.enabled = connected
        self._ui.openButton.enabled = connected and bool(self._selected())
        self._ui.sendButton.enabled = connected and self._ui.volumeSelector.currentNode() is not None
        labelled = sum(study.labelled for study in studies)
        self._ui.studiesLabel.text = f"{labelled} of {len(studies)} labelled" if studies else "No studies yet."

    def _selected(self) -> str:
        item = self._ui.studyTree.currentItem()
        return item.text(0) if item is not None and item.isSelected() else ""

    def _list(self) -> None:
        tree, opened = self._ui.studyTree, self._logic.open.study if self._logic.open else ""
        selected = opened or self._selected()
        tree.clear()
        bold = qt.QFont(tree.font)
        bold.setBold(True)
        for study in self._logic.studies:
            item = qt.QTreeWidgetItem(tree)
            item.setText(0, study.id)
            item.setText(1, (study.annotator or "labelled") if study.labelled else "")
            if study.id == opened:
                item.setFont(0, bold)
            if study.id == selected:
                tree.setCurrentItem(item)

    def _on_next(self) -> None:
        self._panel.ask(lambda: self._logic.open_next(self._strategy.value, self._panel.segment.model))

    def _on_open(self) -> None:
        study = self._selected()
        if study:
            self._panel.ask(lambda: self._logic.open_study(study))

    def _on_send(self) -> None:
        volume = self._ui.volumeSelector.currentNode()
        self._panel.ask(lambda: self._logic.send_volume(volume, volume.GetName()))
