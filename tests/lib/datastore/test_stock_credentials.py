"""A PACS is asked with the credentials that were set for MONAI Label, too."""

from __future__ import annotations

import pytest
from monailabel.config import settings as stock

import main
from lib.datastore import pacs
from prato_server.settings import Settings

STOCK = {"MONAI_LABEL_DICOMWEB_USERNAME": "of the stock server", "MONAI_LABEL_DICOMWEB_PASSWORD": "its password"}


@pytest.mark.parametrize(
    ("own", "credentials"),
    [
        ({}, ("of the stock server", "its password", None)),
        ({"PRATO_LABEL_PACS_USER": "ours", "PRATO_LABEL_PACS_PASSWORD": "our password"}, ("ours", "our password", None)),
        ({"PRATO_LABEL_PACS_TOKEN": "a token"}, (None, None, "a token")),
    ],
)
def test_ours_come_first(monkeypatch: pytest.MonkeyPatch, own: dict[str, str], credentials: tuple[str | None, ...]) -> None:
    for name, value in STOCK.items():
        monkeypatch.setattr(stock, name, value)
    for name, value in own.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(pacs, "PacsDatastore", lambda url, settings, filters: settings)
    app = object.__new__(main.PratoLabelApp)
    app.studies = "http://pacs:8042/dicom-web"
    given = app.init_datastore()
    assert isinstance(given, Settings)
    secrets = (secret and secret.get_secret_value() for secret in (given.pacs_password, given.pacs_token))
    assert (given.pacs_user, *secrets) == credentials
