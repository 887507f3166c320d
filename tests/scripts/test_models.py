"""A model's history on the command line."""

from __future__ import annotations

from pathlib import Path

import pytest

from prato.models.checkpoint import version_of
from prato.retraining.model_store import ModelStore
from scripts import models
from scripts.common import model_files
from tests.scripts.cli import run_script


def run(*arguments: str, status: int = 0) -> str:
    done = run_script(models.app, *arguments)
    assert done.exit_code == status, done.output
    return done.output


def test_list_and_back(tmp_path: Path) -> None:
    model = tmp_path / "m.safetensors"
    model.write_bytes(b"first")
    ModelStore(model).upload(b"second")
    listed = run("list", str(model))
    assert all(word in listed for word in ("shipped", "uploaded", version_of(b"first"), version_of(b"second")))
    assert run("rollback", str(model), version_of(b"first")).startswith(f"{version_of(b'first')} answers")
    assert model.read_bytes() == b"first"
    assert "already the current model" in run("rollback", str(model), version_of(b"first"), status=2)
    assert f"choose {version_of(b'second')}" in run("rollback", str(model), "nothing", status=2).replace("\n", " ")


def test_a_shipped_model_is_named_as_elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(model_files, "MODELS", tmp_path)
    (tmp_path / "m.safetensors").write_bytes(b"first")
    assert version_of(b"first") in run("list", "m")


def test_what_is_no_model_is_refused_and_nothing_is_written(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("no model")
    for name in ("x", "x.safetensors", "notes.txt"):
        assert "There is no model" in run("list", str(tmp_path / name), status=2)
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


@pytest.mark.parametrize(("command", "version"), [("list", []), ("rollback", ["abc"])])
def test_a_folder_that_cannot_hold_versions_is_named(tmp_path: Path, command: str, version: list[str]) -> None:
    model = tmp_path / "m.safetensors"
    model.write_bytes(b"first")
    (tmp_path / "versions").touch()  # as where a colleague may not write; root may everywhere
    said = run(command, str(model), *version, status=2)
    assert said.strip() == f"{tmp_path / 'versions' / 'm'}: Not a directory"
