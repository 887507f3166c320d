"""Batches without a server: how they give way to labellers, and what ends them."""

from __future__ import annotations

import errno
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from fastapi import HTTPException

from lib.datastore.studies import StudiesDatastore
from lib.infers import live_predictor
from lib.infers.inference_queue import InferenceSlot, inference_queue
from lib.infers.live_predictor import LivePredictor
from lib.jobs import batch as batch_module
from lib.jobs.batch import Batch, Batches
from lib.jobs.batch_order import parse_batch_order
from prato.data.nifti import read_volume
from prato.inference.image_stack import ImageStack
from prato.inference.segmenter import Segmenter
from prato.inference.stack_segmenter import StackSegmenter
from prato.runtime.batch_runner import MINIBATCH
from prato.runtime.cancel_token import CancelledError
from tests.app.live import tiny_model, write_study
from tests.waiting import wait_until


class Bench:
    """Two studies and a model; ``begin`` has a batch over them run."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.model, locator = folder / "m.safetensors", folder / "locator.safetensors"
        tiny_model(self.model, "swin_unetr")
        tiny_model(locator, "overview_unet")
        for n, name in enumerate(("a", "b")):
            write_study(folder / "studies" / f"{name}.nii.gz", seed=n)
        self.store = StudiesDatastore(str(folder / "studies"))
        self.predictor = LivePredictor(self.model, locator)
        self.batches = Batches()

    def begin(self) -> Batch:
        request = {"model": "m", "images": "all"}
        batch = Batch(request, parse_batch_order(request, self.store), self.predictor, self.store)
        self.batches.start(batch)
        return batch


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    (tmp_path / "studies").mkdir()
    made = Bench(tmp_path)
    yield made
    made.batches.stop()


@pytest.mark.slow
def test_it_waits_for_labellers_and_begins_when_they_are_gone(bench: Bench) -> None:
    with inference_queue.acquire(InferenceSlot("labeller")):
        batch = bench.begin()
        assert not batch._predictor._loaded  # it has not even looked at its networks
        assert batch.job.state == "running"
    wait_until(lambda: not batch.job.is_open)
    assert (batch.job.state, batch.stored, batch.failed) == ("done", 2, {})
    assert batch.as_task()["status"] == "DONE"


@pytest.mark.slow
def test_it_does_not_wait_for_ever(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batch_module, "_SECONDS", 0.05)
    with inference_queue.acquire(InferenceSlot("labeller")):
        batch = bench.begin()
        wait_until(lambda: not batch.job.is_open)
        assert (batch.job.state, batch.stored) == ("done", 2)


@pytest.mark.slow
def test_a_call_is_made_anew_for_a_labeller_who_comes_meanwhile(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    run_in_compute_thread, times = batch_module.run_in_compute_thread, []
    began, go_on, gave_way = threading.Event(), threading.Event(), threading.Event()

    def watched(*arguments: object) -> object:
        times.append(arguments)
        if len(times) == 2:  # the first one loads the networks
            began.set()
            assert go_on.wait(600)
        try:
            return run_in_compute_thread(*arguments)
        except CancelledError:
            gave_way.set()
            raise

    monkeypatch.setattr(batch_module, "run_in_compute_thread", watched)
    batch = bench.begin()
    assert began.wait(600)
    with inference_queue.acquire(InferenceSlot("labeller")):
        go_on.set()
        assert gave_way.wait(600)
    wait_until(lambda: not batch.job.is_open)
    assert batch.stored == 2
    assert times[2][0] is times[1][0]


@pytest.mark.slow
def test_a_labeller_waits_for_one_call_of_a_network_however_long_the_study_is(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    write_study(bench.folder / "studies" / "a.nii.gz", shape=(40, 36, 5 * MINIBATCH))  # the first by name
    short = ImageStack(read_volume(write_study(bench.folder / "short.nii.gz")))  # of which nothing is known
    monkeypatch.setattr(batch_module, "_SECONDS", 0.01)  # it takes its turn although the labeller stands in line
    bench.predictor.warm_up("cpu")
    wait_until(lambda: bool(bench.predictor.costs))  # nothing else computes from here on
    computed, began, go_on = [], threading.Event(), threading.Event()

    def watch(kind: type, name: str, slices_at: int) -> None:
        was = getattr(kind, name)

        def watched(network: object, *given: Any) -> object:
            computed.append((kind, len(given[slices_at])))
            began.set()
            assert go_on.wait(600)
            return was(network, *given)

        monkeypatch.setattr(kind, name, watched)

    watch(StackSegmenter, "_encode", 1)
    watch(Segmenter, "_run", 0)
    with inference_queue.acquire(InferenceSlot("labeller")), ThreadPoolExecutor(1) as labeller:
        batch = bench.begin()
        assert began.wait(600)  # in its first call
        answer = labeller.submit(bench.predictor.predict, "cpu", short, prune="off")
        wait_until(lambda: live_predictor._COMPUTE_THREAD._work_queue.qsize() == 1)
        go_on.set()
        answer.result(600)
    wait_until(lambda: not batch.job.is_open)
    assert (batch.job.state, batch.stored) == ("done", 2)
    assert computed[:2] == [(StackSegmenter, 40), (StackSegmenter, 5)], "the labeller comes right after the call that ran"
    assert max(slices for kind, slices in computed if kind is Segmenter) == MINIBATCH


def test_stopped_while_it_waits_it_ends(bench: Bench) -> None:
    assert batch_module._STOP_TIMEOUT_S < 2
    with inference_queue.acquire(InferenceSlot("labeller")):
        batch = bench.begin()
        assert bench.batches.stop() is batch
        assert batch.job.state == "stopped"
        assert bench.batches.stop() is None
    assert not list(bench.folder.rglob("labels/original/*.nii.gz"))


def test_a_damaged_model_ends_it_with_the_reason(bench: Bench) -> None:
    bench.model.write_bytes(b"no model")
    batch = bench.begin()
    wait_until(lambda: not batch.job.is_open)
    assert (batch.job.state, batch.stored) == ("failed", 0)
    assert "m.safetensors is not a model file of PrATo Label" in batch.job.sentence


@pytest.mark.slow
def test_a_study_that_is_removed_meanwhile_is_left_out(bench: Bench) -> None:
    with inference_queue.acquire(InferenceSlot("labeller")):
        batch = bench.begin()
        bench.store.remove_image("a")
    wait_until(lambda: not batch.job.is_open)
    assert (batch.job.state, batch.stored, list(batch.failed)) == ("done", 1, ["a"])
    assert batch.failed["a"].startswith("There is no study called 'a' here")


def test_a_folder_that_cannot_be_written_to_ends_it_with_the_reason(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.EROFS, "Read-only file system", str(bench.folder / "studies" / ".lock"))

    monkeypatch.setattr(bench.store, "save_label", refuse)
    batch = bench.begin()
    wait_until(lambda: not batch.job.is_open)
    assert (batch.job.state, batch.stored, batch.failed) == ("failed", 0, {})
    assert "cannot be stored in the studies folder (read-only file system)" in batch.job.sentence


@pytest.mark.slow
def test_of_a_proposal_that_could_not_be_stored_no_warnings_are_told(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> None:
        raise HTTPException(404, "There is no study of that name.")

    predict = bench.predictor.predict_with
    monkeypatch.setattr(bench.predictor, "predict_with", lambda *given: replace(predict(*given), warnings=["mask_is_empty"]))
    monkeypatch.setattr(bench.store, "save_label", refuse)
    batch = bench.begin()
    wait_until(lambda: not batch.job.is_open)
    assert set(batch.failed) == {"a", "b"} and not batch.warned
