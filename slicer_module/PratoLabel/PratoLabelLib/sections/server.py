"""The server: connected to once, remembered, and folded away."""

from __future__ import annotations

import qt
import slicer.util

from PratoLabelLib.sections import PanelServices, Section
from PratoLabelLib.server.responses import ModelInfo, ServerInfo
from PratoLabelLib.translation import translator

_ = translator(__file__)

ADDRESS_SETTING = "PratoLabel/address"
ANNOTATOR_SETTING = "PratoLabel/annotator"


class ServerSection(Section):
    """Address, token, annotator, and what the server says about itself. All but the token are kept for the next start."""

    def __init__(self, panel: PanelServices) -> None:
        super().__init__(panel)
        self._has_tried = False
        self._asked = ""  # the address that it was last tried to connect to
        self._ui.addressEdit.text = slicer.util.settingsValue(ADDRESS_SETTING, "")
        self._ui.annotatorEdit.text = slicer.util.settingsValue(ANNOTATOR_SETTING, "")
        self._ui.annotatorEdit.connect("editingFinished()", self._save_annotator)
        self._ui.testButton.connect("clicked()", self._on_test)
        self._ui.addressEdit.connect("returnPressed()", self._on_test)
        self._ui.tokenEdit.connect("returnPressed()", self._on_test)
        self._logic.connected.connect(self._on_connected)
        self._logic.failed.connect(lambda sentence: self._unfold())

    @property
    def annotator(self) -> str:
        """Who is responsible for what is submitted; "" where nobody says."""
        self._save_annotator()
        return self._ui.annotatorEdit.text.strip()

    def connect_as_remembered(self) -> None:
        """Connect to the server of the last time, if there was one and none is connected; that it fails is said in the panel alone."""
        address = slicer.util.settingsValue(ADDRESS_SETTING, "")
        if address and self._logic.info is None and not self._has_tried:
            self._has_tried = True
            self._connect(address)

    def refresh(self) -> None:
        """Show the server that is connected."""
        info = self._logic.info
        self._ui.serverLabel.text = _describe_server(info) if info else _("Not connected.")
        self._ui.serverSection.text = _("Server: {name}").format(name=info.name) if info else _("Server")

    def _on_test(self) -> None:
        self._connect(self._ui.addressEdit.text.strip() or self._ui.addressEdit.placeholderText)

    def _connect(self, address: str) -> None:
        self._asked = address
        self._panel.request(lambda: self._logic.connect_to(address, self._ui.tokenEdit.text))

    def _on_connected(self, info: ServerInfo) -> None:
        qt.QSettings().setValue(ADDRESS_SETTING, self._asked)
        self._ui.serverSection.collapsed = True

    def _unfold(self) -> None:
        if self._logic.info is None:  # an address or a token is to be corrected
            self._ui.serverSection.collapsed = False

    def _save_annotator(self) -> None:
        qt.QSettings().setValue(ANNOTATOR_SETTING, self._ui.annotatorEdit.text.strip())


def _describe_server(info: ServerInfo) -> str:
    models = ", ".join(_describe_model(model) for model in info.models) or _("none: the server has no model files")
    sentence = _("{name} {version}, round trip {time:.0f} ms\nModels: {models}")
    return sentence.format(name=info.name, version=info.version, time=info.round_trip_ms, models=models)


def _describe_model(model: ModelInfo) -> str:
    return model.name if model.interactive else _("{model} (needs no box)").format(model=model.name)
