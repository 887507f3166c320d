"""Section 1: the server."""

from __future__ import annotations

from typing import TYPE_CHECKING

import qt
import slicer.util

from PratoLabelLib.responses import ModelInfo, ServerInfo
from PratoLabelLib.sections import Section

if TYPE_CHECKING:
    from PratoLabelLib.panel import Panel

ADDRESS_SETTING = "PratoLabel/address"


class ServerSection(Section):
    """Address, token, and what the server says about itself. The address is kept for the next start, the token is not."""

    def __init__(self, panel: Panel) -> None:
        super().__init__(panel)
        self._ui.addressEdit.text = slicer.util.settingsValue(ADDRESS_SETTING, "")
        self._ui.testButton.connect("clicked()", self._on_test)
        self._ui.addressEdit.connect("returnPressed()", self._on_test)
        self._ui.tokenEdit.connect("returnPressed()", self._on_test)
        self._logic.connected.connect(self._on_connected)

    def refresh(self) -> None:
        """Show the server that is connected."""
        info = self._logic.info
        self._ui.serverLabel.text = _describe_server(info) if info else "Not connected."

    def _on_test(self) -> None:
        address = self._ui.addressEdit.text.strip() or self._ui.addressEdit.placeholderText
        self._panel.request(lambda: self._logic.connect_to(address, self._ui.tokenEdit.text))

    def _on_connected(self, info: ServerInfo) -> None:
        qt.QSettings().setValue(ADDRESS_SETTING, self._ui.addressEdit.text.strip())


def _describe_server(info: ServerInfo) -> str:
    models = ", ".join(_describe_model(model) for model in info.models) or "none: the server has no model files"
    return f"{info.name} {info.version}, round trip {info.round_trip_ms:.0f} ms\nModels: {models}"


def _describe_model(model: ModelInfo) -> str:
    return model.name if model.interactive else f"{model.name} (needs no box)"
