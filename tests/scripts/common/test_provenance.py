"""What results say of the command that made them."""

from __future__ import annotations

import shlex
import sys

import pytest

from scripts.common.paths import ROOT
from scripts.common.provenance import command


def test_a_command_can_be_typed_again(monkeypatch: pytest.MonkeyPatch) -> None:
    given = ["--studies", "my hearts", "--out", "out/é.csv", "--note", "it's $HOME"]
    monkeypatch.setattr(sys, "argv", [str(ROOT / "scripts" / "train.py"), *given])
    assert shlex.split(command()) == ["scripts/train.py", *given]
    monkeypatch.setattr(sys, "argv", [str(ROOT / "scripts" / "train.py"), "--studies", "out/acdc", "--seed", "1"])
    assert command() == "scripts/train.py --studies out/acdc --seed 1"
