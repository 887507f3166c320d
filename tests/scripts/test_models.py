"""A model's history on the command line."""

from __future__ import annotations

from pathlib import Path

from prato.models.checkpoint import version_of
from prato.retraining.model_store import ModelStore
from scripts import models
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
    assert "answers already" in run("rollback", str(model), version_of(b"first"), status=2)
    assert f"choose {version_of(b'second')}" in run("rollback", str(model), "nothing", status=2).replace("\n", " ")
    assert "There is no model file" in run("list", str(tmp_path / "x"), status=2)
    assert not (tmp_path / "versions" / "x").exists()
