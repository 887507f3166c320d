"""The server's studies: the next one, or one of the list; and volumes that become one."""

from __future__ import annotations

import qt
import slicer.util

from PratoLabelLib.consent import may_send_image
from PratoLabelLib.parameters import ParameterComboBox
from PratoLabelLib.sections import PanelServices, Section
from PratoLabelLib.sections.cine import CineSection
from PratoLabelLib.sections.segment import SegmentSection
from PratoLabelLib.server.responses import Study
from PratoLabelLib.server.worker import Signal
from PratoLabelLib.studies.cine_study import CineStudy
from PratoLabelLib.studies.study_files import study_name
from PratoLabelLib.translation import translator

_ = translator(__file__)

EDITED = _("edited, not sent")
#: The contract's states of a study, for the labeller.
REVIEWS = {"open": "", "skipped": _("skipped"), "rejected": _("rejected")}


class StudySection(Section):
    """Opens studies. One that is left with edits that were not sent is asked about, if it is left by a click.

    Attributes:
        chosen: signal, without arguments: the labeller has picked the study that is opened, or sent, next.
    """

    def __init__(self, panel: PanelServices, segment: SegmentSection, cine: CineSection) -> None:
        super().__init__(panel)
        self._segment, self._cine = segment, cine
        self._strategy = ParameterComboBox(self._ui.strategyBox, lambda: panel.parameters, "strategy")
        self.chosen = Signal()
        self._segments_next = False  # the study that is about to be opened
        self._shown: list[tuple[str, str, str]] = []
        tree = self._ui.studyTree
        header = tree.header()
        header.setStretchLastSection(False)
        header.setSectionResizeMode(0, qt.QHeaderView.Stretch)
        header.setSectionResizeMode(1, qt.QHeaderView.ResizeToContents)
        header.setSectionResizeMode(2, qt.QHeaderView.ResizeToContents)
        tree.sortByColumn(0, qt.Qt.AscendingOrder)
        self._ui.nextButton.connect("clicked()", self.next_by_click)
        self._ui.refreshButton.connect("clicked()", lambda: panel.request(self._logic.refresh_studies))
        self._ui.openButton.connect("clicked()", self._on_open)
        self._ui.sendButton.connect("clicked()", self._on_send)
        self._ui.studySearch.connect("textChanged(QString)", lambda text: self._search())
        tree.itemActivated.connect(lambda item, column: self._on_open())
        tree.itemSelectionChanged.connect(self._refresh_buttons)
        self._ui.volumeSelector.connect("currentNodeChanged(vtkMRMLNode*)", lambda node: self._refresh_buttons())
        self._logic.study_opened.connect(lambda volume: self._on_opened())
        self._logic.failed.connect(lambda sentence: self._forget_next())

    def refresh(self) -> None:
        """Offer what the server offers."""
        info, studies = self._logic.info, self._logic.studies
        self._strategy.set_entries([(name, name) for name in info.strategies] if info else [])
        self._ui.nextButton.enabled = bool(self._strategy.value)
        self._ui.refreshButton.enabled = info is not None
        labelled = sum(study.labelled for study in studies)
        self._ui.studiesLabel.text = (
            _("{labelled} of {count} labelled").format(labelled=labelled, count=len(studies)) if studies else _("No studies yet.")
        )
        self._fill_tree()
        self._refresh_buttons()

    def next_by_click(self) -> None:
        """Open the next study, unless the labeller would rather stay with what is not sent yet."""
        if self.may_leave():
            self.open_next()

    def open_next(self) -> None:
        """Open the next study; it is segmented in the proposed box."""
        self._logic.cancel()  # what that says is about the study that is left
        self._segments_next = True
        self._panel.request(lambda: self._logic.open_next(self._strategy.value, self._segment.model))

    def may_leave(self) -> bool:
        """Whether the open study may be left: asks, upon a click, where it has edits that were not sent, or clicks that wait."""
        study, waiting = self._logic.current_study, self._logic.clicks_waiting
        if study is None or not (waiting or study.has_unsent_edits):
            return True
        told = []
        if study.has_unsent_edits:
            told.append(_("{study} has edits that were not sent. They are kept on this computer, and shown when you open it again."))
        if waiting:
            told.append(_("Clicks in {study} are still waiting for the server, and would not be applied."))
        question = "\n\n".join([*(sentence.format(study=study.study) for sentence in told), _("Leave it without submitting?")])
        may_leave = bool(slicer.util.confirmYesNoDisplay(question, "PrATo Label"))
        return may_leave and self._logic.current_study is study  # else another one was opened behind the question

    def _refresh_buttons(self) -> None:
        is_connected = self._logic.info is not None
        self._ui.openButton.enabled = is_connected and bool(self._selected_study())
        self._ui.sendButton.enabled = is_connected and self._ui.volumeSelector.currentNode() is not None

    def _selected_study(self) -> str:
        item = self._ui.studyTree.currentItem()
        return item.text(0) if item is not None and item.isSelected() else ""

    def _fill_tree(self) -> None:
        tree, current = self._ui.studyTree, self._logic.current_study
        current_id = current.study if current and current.server == self._logic.address else ""
        edited = self._logic.edited_studies() if self._logic.studies else set()
        rows = [(study.id, _label_of(study), _state_of(study, edited)) for study in self._logic.studies]
        if [*rows, (current_id, "", "")] == self._shown:
            return
        is_another = self._shown[-1:] != [(current_id, "", "")]
        selected = (current_id if is_another else "") or self._selected_study() or current_id
        self._shown = [*rows, (current_id, "", "")]
        blocked = tree.blockSignals(True)
        tree.clear()
        bold = qt.QFont(tree.font)
        bold.setBold(True)
        for row, study in zip(rows, self._logic.studies):
            item = qt.QTreeWidgetItem(tree)
            for column, text in enumerate(row):
                item.setText(column, text)
            item.setToolTip(0, study.id)
            item.setToolTip(2, study.reason)
            if study.id == current_id:
                item.setFont(0, bold)
            if study.id == selected:
                tree.setCurrentItem(item)
        tree.blockSignals(blocked)
        self._search()

    def _search(self) -> None:
        wanted, tree = self._ui.studySearch.text.strip().lower(), self._ui.studyTree
        for number in range(tree.topLevelItemCount):
            item = tree.topLevelItem(number)
            item.setHidden(wanted not in " ".join(item.text(column) for column in range(3)).lower())

    def _on_open(self) -> None:
        study = self._selected_study()
        if study and (self._logic.is_open(study) or self.may_leave()):
            self.chosen.emit()
            self._panel.request(lambda: self._logic.open_study(study))

    def _on_send(self) -> None:
        volume, address = self._ui.volumeSelector.currentNode(), self._logic.address
        name = study_name(volume.GetName())
        if self.may_leave() and may_send_image(name, address) and self._logic.address == address and volume.GetScene() is not None:
            self.chosen.emit()
            self._panel.request(lambda: self._logic.send_volume(volume, name))

    def _on_opened(self) -> None:
        wants_segments, study = self._segments_next, self._logic.current_study
        self._forget_next()
        offer = self._logic.autosave.offer if self._logic.autosave is not None else None
        is_untouched = study is not None and not study.has_unsent_edits and not study.mask().any()
        if wants_segments and is_untouched and offer is None and self._panel.parameters is not None and self._segment.is_ready:
            if isinstance(study, CineStudy):
                self._cine.segment_all(then_show_ed=True)
            else:
                self._segment.propose()

    def _forget_next(self) -> None:
        self._segments_next = False


def _label_of(study: Study) -> str:
    return (study.annotator or _("labelled")) if study.labelled else ""


def _state_of(study: Study, edited: set[str]) -> str:
    if study.id in edited:
        return EDITED
    return REVIEWS.get(study.review, study.review)
