"""A row of the paper is packed, trained on the device's own batches, brought home, and measured; on both data sets, at toy size."""

from __future__ import annotations

import json
import sys
from argparse import Namespace
from pathlib import Path

import pytest
import torch

from prato.training.batch_augmentation import StackBatch
from prato.training.slice_bank import CANVAS, SliceBank, load_packed
from scripts.common.results import read_rows
from scripts.research import paper_queue, train_queue
from scripts.research.datasets.base import ExperimentError, dataset_class
from scripts.research.datasets.splits import load_split
from scripts.research.experiments.jobs import Places, run, schedule
from scripts.research.experiments.matrix import PAPER_TABLES, load_experiments, load_tables
from scripts.research.experiments.schema import Spending
from scripts.research.paper_rows import PaperRow
from tests.scripts.cli import run_script

EXPERIMENTS = load_experiments()


def test_what_decides_is_trained_first_and_a_teacher_before_its_pupil() -> None:
    order = paper_queue.training_order(EXPERIMENTS, load_tables(PAPER_TABLES, EXPERIMENTS))
    assert order[0] == ("table4/prato_acdc", 0) and ("table4/best_acdc", 1) in order[:18]
    assert {seed for name, seed in order if name == "table4/algm_box_isic"} == {0, 1, 2}
    assert {seed for name, seed in order if name == "table5/segformer_prato_acdc"} == {0}
    place = {job: n for n, job in enumerate(order)}
    for name, seed in order:
        assert EXPERIMENTS[name].model_of is None
        assert all(place[needed, seed] < place[name, seed] for needed in EXPERIMENTS[name].needs)
    assert len(place) == len(order)


def test_a_view_shows_the_box_where_the_network_is_told_that_it_is() -> None:
    image = torch.full((2, 3, CANVAS, CANVAS), -1.0)
    label = torch.zeros(2, CANVAS, CANVAS, dtype=torch.int64)
    box = torch.tensor([[[100.0, 120.0], [140.0, 180.0]], [[60.0, 90.0], [100.0, 130.0]]])
    for n, (low, high) in enumerate(box.long().tolist()):
        image[n, :, low[0] : high[0], low[1] : high[1]] = 1.0
        label[n, low[0] : high[0], low[1] : high[1]] = 1
    for boxes, edge in ((0.0, 128), (1.5, 96), (1.0, 64)):
        row = PaperRow("unetr", {}, edge, boxes, field=256.0)
        seen, there, prompts = row.see(image, label, box)
        assert seen.shape == (2, 3, edge, edge) and there.shape == (2, edge, edge)
        bounds = prompts.groups[0].coordinates
        for n in range(2):
            where = there[n].nonzero()
            found = torch.stack([where.amin(0), where.amax(0) + 1]).float()
            torch.testing.assert_close(found, bounds[n], atol=1.01, rtol=0)
            assert ((seen[n, 1] > 0) == (there[n] > 0)).float().mean() > 0.95


@pytest.fixture
def queue(data: dict[str, Path], small: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(sys, "argv", ["paper_queue.py"])
    for name in ("acdc", "isic"):
        monkeypatch.setitem(paper_queue.SLICES, name, 128)
    return tmp_path


def packed(queue: Path, data: dict[str, Path], name: str) -> dict[str, SliceBank]:
    experiments = {f"t/{name}": EXPERIMENTS[f"table4/prato_{name}"].model_copy(update={"images": 12 if name == "isic" else None})}
    paper_queue.load_experiments, before = (lambda: experiments), paper_queue.load_experiments
    dataset = dataset_class(name)(data[name])
    load_split(queue / "results" / f"split_{name}.json", dataset.groups(12 if name == "isic" else None))  # as paper.py leaves it
    try:
        given = ("--name", name, "--data", f"{name}={data[name]}", "--splits", queue / "results", "--out", queue / f"{name}.zip")
        done = run_script(paper_queue.app, "pack", *given)
    finally:
        paper_queue.load_experiments = before
    assert done.exit_code == 0, done.output
    split = json.loads((queue / "results" / f"split_{name}.json").read_text())
    return {side: load_packed(queue / f"{name}.zip", torch.device("cpu"), split[side]) for side in ("train", "validation")}


@pytest.mark.slow
@pytest.mark.parametrize("name", ["acdc", "isic"])
def test_a_row_is_trained_brought_home_and_measured(queue: Path, data: dict[str, Path], name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    banks, out = packed(queue, data, name), queue / "out"
    rows = [f"table4/{row}_{name}" for row in ("dynamic_vit_box", "dense_box", "best", "crop")]
    experiments = {row: EXPERIMENTS[row].model_copy(update={"images": 12 if name == "isic" else None}) for row in rows}
    given = Namespace(out=out, steps=2, stacks=2, parts=False)
    shared = {"depth": 1, "edge": 256, "rate": 1e-3, "promptings": ["tight"], "precision": "float32"}
    for row in [rows[0], rows[1], rows[0], *rows[2:]]:
        train_queue.train(shared | paper_queue.entry(row, 0, experiments), banks, given, 1e18)
        assert (out / f"{row.replace('/', '-')}-seed0" / "weights.pt").exists() == ((out / f"table4-dense_box_{name}-seed0").exists())
    monkeypatch.setattr(paper_queue, "load_experiments", lambda: experiments)
    files = ("--queue-out", out, "--models", queue / "models", "--curves", queue / "curves.csv")
    done = run_script(paper_queue.app, "collect", *files)
    assert done.exit_code == 0, done.output
    curves = read_rows(queue / "curves.csv")
    assert {row["experiment"] for row in curves} == set(rows) and {row["slices"] for row in curves} == {2, 4}
    places = Places(queue / "results", queue / "models", data)
    with pytest.raises(ExperimentError, match="another plan, seed or budget"):  # a quick trial is no training of the queue's length
        schedule([rows[2]], experiments, None, Spending(slices=128, batch=64), places)
    jobs = schedule([rows[2]], experiments, None, Spending(slices=4, batch=2), places)
    result = run(jobs[0], places, places.experiment_data(), "cpu", {"commit": "abc", "command": "c"}, lambda *_: None)
    assert result.run["spent"]["slices"] == 4 and 0 <= result.run["mean"]["dice"] <= 1


@pytest.mark.slow
def test_a_row_that_was_stopped_goes_on_as_if_it_had_not_been(queue: Path, data: dict[str, Path]) -> None:
    banks = packed(queue, data, "isic")
    entry = {"depth": 1, "edge": 256, "rate": 1e-3, "promptings": ["tight"]} | paper_queue.entry("table4/random_box_isic", 0, EXPERIMENTS)
    recipe = train_queue.recipe_of(entry, steps=4, stacks=2, precision="float32")
    weights = []
    for parts in ((4,), (2, 2)):
        for part in parts:
            torch.manual_seed(0)
            trainer, loss = train_queue.make_row_trainer(entry, banks["train"], recipe, queue)
            if part == 2:
                trainer.resume(queue / "state.pt")
                loss.step = trainer.step
            end = trainer.step + part
            trainer.fit(state_file=queue / "state.pt" if len(parts) == 2 else None, is_over=lambda: trainer.step >= end)  # noqa: B023
        weights.append(trainer.averaged())
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])
    batch = trainer.sampler.batch(0)
    assert isinstance(batch, StackBatch) and batch.has_box.all() and batch.window.shape == (2, 1, 3, 256, 256)


def test_what_cannot_be_collected_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["paper_queue.py"])
    files = ("--queue-out", tmp_path / "out", "--models", tmp_path / "models", "--curves", tmp_path / "curves.csv")
    done = run_script(paper_queue.app, "collect", *files)
    assert done.exit_code == 2 and "out cannot be collected: no training there has ended" in done.output
    folder = tmp_path / "out" / "other"
    folder.mkdir(parents=True)
    torch.save({"entry": {"name": "other"}, "recipe": {}}, folder / "weights.pt")
    done = run_script(paper_queue.app, "collect", *files)
    assert done.exit_code == 2 and "other cannot be collected: it trains a network of its own" in done.output
    (folder / "weights.pt").write_bytes((folder / "weights.pt").read_bytes()[:500])
    done = run_script(paper_queue.app, "collect", *files)
    assert done.exit_code == 2 and "other cannot be collected: " in done.output
    assert {path.name for path in tmp_path.iterdir()} == {"out"}


@pytest.mark.parametrize("command", [["write"], ["pack", "--name", "acdc"]])
def test_a_file_that_cannot_be_written_is_refused_before_anything_is_read(tmp_path: Path, command: list[str]) -> None:
    done = run_script(paper_queue.app, *command, "--out", tmp_path)
    assert done.exit_code == 2 and "cannot be written" in done.output


def test_a_data_set_that_the_queue_does_not_know_is_refused_in_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(paper_queue._FIELDS, "isic")
    done = run_script(paper_queue.app, "pack", "--name", "isic", "--out", tmp_path / "isic.zip")
    assert done.exit_code == 2 and "--name must be acdc, not isic" in done.output and not list(tmp_path.iterdir())
