"""The versions of the open study's label that the server keeps."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import qt

from PratoLabelLib.sections import PanelServices, Section
from PratoLabelLib.sections.server import ServerSection
from PratoLabelLib.sections.study import StudySection
from PratoLabelLib.translation import translator

_ = translator(__file__)


class VersionsSection(Section):
    """Lists them, shows one in place of the segments, and restores one on the server."""

    def __init__(self, panel: PanelServices, server: ServerSection, study: StudySection) -> None:
        super().__init__(panel)
        self._server, self._study = server, study
        tree = self._ui.versionTree
        tree.header().setSectionResizeMode(qt.QHeaderView.ResizeToContents)
        tree.itemActivated.connect(lambda item, column: self._on_show())
        tree.itemSelectionChanged.connect(self.refresh)
        self._ui.showVersionButton.connect("clicked()", self._on_show)
        self._ui.restoreVersionButton.connect("clicked()", self._on_restore)
        self._logic.versions_changed.connect(self._fill_tree)

    def refresh(self) -> None:
        """Enable what can be done with the selected version."""
        is_selected = self._logic.current_study is not None and self._selected_version() is not None
        self._ui.showVersionButton.enabled = self._ui.restoreVersionButton.enabled = is_selected

    def _selected_version(self) -> int | None:
        item = self._ui.versionTree.currentItem()
        return int(item.text(0)) if item is not None and item.isSelected() else None

    def _fill_tree(self) -> None:
        tree = self._ui.versionTree
        tree.clear()
        bold = qt.QFont(tree.font)
        bold.setBold(True)
        for version in self._logic.versions.versions:
            item = qt.QTreeWidgetItem(tree)
            when = _local_time(version.created)
            for column, text in enumerate((str(version.version), version.annotator, when, version.origin)):
                item.setText(column, text)
                if version.is_current:
                    item.setFont(column, bold)
        self.refresh()

    def _on_show(self) -> None:
        study, version = self._logic.current_study, self._selected_version()
        if study is not None and version is not None and self._study.may_leave():
            self._panel.request(lambda: self._logic.versions.show(study, version))

    def _on_restore(self) -> None:
        study, version = self._logic.current_study, self._selected_version()
        if study is None or version is None or not self._study.may_leave():
            return

        def on_restored(reply: dict[str, Any]) -> None:
            sentence = _("Version {version} of {study} is the current label again, as version {new}.")
            self._panel.say(sentence.format(version=version, study=study.study, new=reply["version"]))
            self._logic.refresh_studies()

        annotator = self._server.annotator
        self._panel.request(lambda: self._logic.versions.restore(study, version, annotator, on_restored))


def _local_time(created: str) -> str:
    """A time in ISO 8601 as the clock of this computer shows it, as all other times here; as it stands where it is none."""
    try:
        return datetime.fromisoformat(created.replace("Z", "+00:00")).astimezone().strftime("%Y-%m-%d %H:%M")
    except ValueError:
        return created
