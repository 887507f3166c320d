"""Which models the server offers, by the files that lie in its model folder."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from lib.configs.prato import load_configs
from prato.models.registry import DEFAULT_MODEL
from tests.app.live import tiny_model


def test_the_default_network_comes_first_and_answers_as_prato_auto_too(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    configs = load_configs(str(tmp_path), {})
    others = ["prato_overview_unet_small", "prato_overview_swin_unetr", "prato_swin_unetr", "prato_unetr", "prato_auto"]
    assert list(configs) == [DEFAULT_MODEL, *others]
    tasks = {name: config.infer() for name, config in configs.items()}
    assert tasks["prato_auto"].predictor is tasks[DEFAULT_MODEL].predictor, "one network in memory under both names"
    assert not any(task.is_valid() for task in tasks.values())
    assert configs["prato_auto"].trainer() is None and all(configs[name].trainer() for name in configs if name != "prato_auto")


def test_models_that_users_have_trained_are_offered_and_retired_weights_are_not(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    for name in ("prato_swin_unetr", "ours"):  # of the kind that earlier versions shipped and published
        tiny_model(folder / f"{name}.safetensors", "swin_unetr")
    (folder / "prato_locator.safetensors").write_bytes(b"of an earlier version")
    with caplog.at_level(logging.WARNING):
        configs = load_configs(str(tmp_path), {})
    assert {name for name, config in configs.items() if config.infer().is_valid()} == {"prato_swin_unetr", "ours"}
    assert "prato_locator" not in configs
    assert caplog.messages == [f"prato_locator.safetensors is no longer used, as {DEFAULT_MODEL} proposes the boxes: it may be deleted."]
