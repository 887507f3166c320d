"""Batches without a server: how they give way to labellers, and what ends them."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.app.live import tiny_locator, tiny_model, write_study

from lib.batch import Batch, Batches, batch_order
from lib.batch import batch as one_batch
from lib.batch import batches as all_batches
from lib.datastore import StudiesDatastore
from lib.infers.live_pipeline import LivePipeline
from lib.infers.turns import Turn, turns
from prato.cancelling import CancelledError


class Bench:
    """Two studies and a model; ``begin`` has a batch over them run."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.model, locator = folder / "m.safetensors", folder / "locator.safetensors"
        tiny_model(self.model, "swin_unetr")
        tiny_locator(locator)
        for n, name in enumerate(("a", "b")):
            write_study(folder / "studies" / f"{name}.nii.gz", seed=n)
        self.store = StudiesDatastore(str(folder / "studies"))
        self.pipeline = LivePipeline(self.model, locator)
        self.batches = Batches()

    def begin(self) -> Batch:
        request = {"model": "m", "images": "all"}
        batch = Batch(request, batch_order(request, self.store), self.pipeline, self.store)
        self.batches.start(batch)
        return batch


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    (tmp_path / "studies").mkdir()
    made = Bench(tmp_path)
    yield made
    made.batches.stop()


def test_it_waits_for_labellers_and_begins_when_they_are_gone(bench: Bench) -> None:
    with turns.taken(Turn("labeller")):
        batch = bench.begin()
        assert not batch._pipeline._loaded  # it has not even looked at its networks
        assert batch.job.state == "running"
    bench.batches.wait(batch)
    assert (batch.job.state, batch.stored, batch.failed) == ("done", 2, {})
    assert batch.as_task()["status"] == "DONE"


def test_it_does_not_wait_for_ever(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(one_batch, "_SECONDS", 0.05)
    with turns.taken(Turn("labeller")):
        batch = bench.begin()
        bench.batches.wait(batch)
        assert (batch.job.state, batch.stored) == ("done", 2)


def test_a_study_is_begun_anew_for_a_labeller_who_comes_meanwhile(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    predict, began, go_on, gave_way, times = LivePipeline.predict, threading.Event(), threading.Event(), threading.Event(), []

    def watched(pipeline: LivePipeline, *arguments: object) -> object:
        times.append(arguments)
        began.set()
        assert go_on.wait(100)
        try:
            return predict(pipeline, *arguments)
        except CancelledError:
            gave_way.set()
            raise

    monkeypatch.setattr(LivePipeline, "predict", watched)
    batch = bench.begin()
    assert began.wait(100)
    with turns.taken(Turn("labeller")):  # in the middle of the first study
        go_on.set()
        assert gave_way.wait(100)
    bench.batches.wait(batch)
    assert (batch.stored, len(times)) == (2, 3)


def test_stopped_while_it_waits_it_ends(bench: Bench) -> None:
    assert all_batches._PATIENCE_S < 2
    with turns.taken(Turn("labeller")):
        batch = bench.begin()
        assert bench.batches.stop() is batch
        assert batch.job.state == "stopped"
        assert bench.batches.stop() is None
    assert not list(bench.folder.rglob("labels/original/*.nii.gz"))


def test_a_damaged_model_ends_it_with_the_reason(bench: Bench) -> None:
    bench.model.write_bytes(b"no model")
    batch = bench.begin()
    bench.batches.wait(batch)
    assert (batch.job.state, batch.stored) == ("failed", 0)
    assert "m.safetensors is not a model file of PrATo Label" in batch.job.sentence


def test_a_study_that_is_removed_meanwhile_is_left_out(bench: Bench) -> None:
    with turns.taken(Turn("labeller")):
        batch = bench.begin()
        bench.store.remove_image("a")
    bench.batches.wait(batch)
    assert (batch.job.state, batch.stored, list(batch.failed)) == ("done", 1, ["a"])
    assert batch.failed["a"].startswith("There is no study called 'a' here")
