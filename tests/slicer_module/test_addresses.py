"""Addresses as people type and paste them, and those of proxies as they stand in an environment: one server has one address."""

from __future__ import annotations

import pytest

from PratoLabelLib.server.client import Client
from tests.slicer_module.client_calls import failure


@pytest.mark.parametrize(
    ("typed", "address"),
    [
        ("Heart-Server:8000", "http://heart-server:8000"),
        ("HTTP://HEART.example:80/", "http://heart.example"),
        ("https://Heart.example:443/Label/", "https://heart.example/Label"),
        ("http://heart:443", "http://heart:443"),
        ("heart:8080", "http://heart:8080"),
        ("heart:", "http://heart"),
        ("\u200b127.0.0.1:8000\ufeff", "http://127.0.0.1:8000"),
        ("[FE80::1%Eth0]:8000", "http://[fe80::1%Eth0]:8000"),
    ],
)
def test_a_server_has_one_address_however_it_is_typed(typed: str, address: str) -> None:
    assert Client(typed).address == address


@pytest.mark.parametrize("address", ["*:8000", ".:8000", "\\\\heart\\share"])
def test_what_no_machine_can_be_called(address: str) -> None:
    assert "There is no machine called" in str(failure(Client(address).info))


@pytest.mark.parametrize(
    ("proxy", "named"),
    [
        ("127.0.0.1:9", "127.0.0.1:9"),
        ("http://ada:secret@127.0.0.1:9/", "127.0.0.1:9"),
        ("http://127.0.0.1:port", "127.0.0.1:port"),
        ("::bad", "::bad"),
        ("http://[::1", "[::1"),
        ("http://", "http://"),
        ("ftp://127.0.0.1:9", "127.0.0.1:9"),
        ("socks5://127.0.0.1:9", "127.0.0.1:9"),
    ],
)
def test_a_proxy_that_is_none_is_told_from_a_server_that_is_gone(monkeypatch: pytest.MonkeyPatch, proxy: str, named: str) -> None:
    monkeypatch.setenv("http_proxy", proxy)
    monkeypatch.delenv("no_proxy", raising=False)
    sentence = str(failure(Client("heart.invalid:8000").info))
    assert f"The proxy {named} lets nothing through to http://heart.invalid:8000" in sentence
    assert "secret" not in sentence
