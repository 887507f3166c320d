"""What an import and an export did, of one study and of several."""

from __future__ import annotations

from pathlib import Path

import pytest

from prato.exchange.importing import Summary
from scripts.common.folders import show_export, show_import


@pytest.mark.parametrize(
    ("summary", "words"),
    [
        (Summary({"a"}, studies=1, labels=0, written=1), "1 study of 1 patient is in out, without a label: 1 new file."),
        (Summary({"a"}, studies=1, labels=1, written=2), "1 study of 1 patient is in out, with a label: 2 new files."),
        (Summary({"a"}, studies=2, labels=0, written=2), "2 studies of 1 patient are in out, none of them with a label: 2 new files."),
        (Summary({"a", "b"}, studies=2, labels=1), "2 studies of 2 patients are in out, 1 of them with a label: 0 new files."),
    ],
)
def test_an_import(summary: Summary, words: str, capsys: pytest.CaptureFixture[str]) -> None:
    show_import(summary, Path("out"))
    assert capsys.readouterr().out == f"{words}\n"


@pytest.mark.parametrize(
    ("studies", "words"), [("a", "1 final label is in out, with its image."), ("ab", "2 final labels are in out, with their images.")]
)
def test_an_export(studies: str, words: str, capsys: pytest.CaptureFixture[str]) -> None:
    show_export([*studies], {}, Path("out"))
    assert capsys.readouterr().out == f"{words}\n"
