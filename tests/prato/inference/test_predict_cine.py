"""Whole heartbeats through the predictor: each phase as if it came alone, and what all of them say together."""

import dataclasses
import math
import threading

import numpy as np
import pytest
import torch

from prato.data.cine import read_cine, write_cine
from prato.data.nifti import VolumeError
from prato.data.resampling import resampled_size
from prato.data.studies.ed_es import NamedPhases
from prato.inference.cine_predictor import predict_cine
from prato.inference.image_stack import ImageStack
from prato.inference.predictor import Predictor
from prato.inference.stack_batch import PromptedStack, StackBatch
from prato.models.checkpoint import read_spec
from prato.models.registry import DEFAULT_MODEL
from prato.prompts.box import Box, BoxPrompt
from prato.runtime import batch_runner
from prato.runtime.batch_runner import IMMEDIATE, BatchRunner
from prato.runtime.cancel_token import CancelledError, CancelToken
from prato.runtime.side_by_side import count_workers
from tests.app.live import APP

BOX = BoxPrompt(Box((14, 5, 1), (46, 35, 4)))
SMALLER = BoxPrompt(Box((20, 9, 1), (42, 31, 3)))


@pytest.fixture
def cine(heart, tmp_path):
    """Six phases of the disc, each brighter than the one before."""
    array = np.stack([heart.array * (1 + t / 5) for t in range(6)], -1).astype(np.int16)
    write_cine(tmp_path / "beat.nii.gz", array, heart.affine, 150)
    return read_cine(tmp_path / "beat.nii.gz")


@pytest.fixture(params=["overview_unet", "swin_unetr"])
def predictor(request, model_files):
    return Predictor.from_files(model_files[request.param], model_files["overview_unet"])


def alone(predictor, cine, t, prompts):
    predictor.set_image(ImageStack(cine.phase(t)))
    return predictor.predict(prompts)


def assert_alike(one, other):
    """But for rounding, which the size of a batch changes."""
    assert (one != other).mean() < 1e-3


@pytest.mark.slow
@pytest.mark.parametrize("prompts", [(), (BOX,)], ids=["no prompt", "a box"])
def test_every_phase_is_what_it_is_alone(predictor, cine, prompts):
    found = predict_cine(predictor, cine, prompts=prompts)
    assert found.mask.shape == (60, 50, 5, 6) and found.mask.dtype == np.uint8 and found.phases == tuple(range(6))
    for t in range(6):
        one = alone(predictor, cine, t, prompts)
        assert_alike(found.mask[..., t], one.mask)
        assert found.predictions[t].box == one.box and found.predictions[t].kept_fraction == pytest.approx(one.kept_fraction, abs=1e-3)


@pytest.fixture(params=[1, 3])
def threads(request):
    """Of torch: as many phases are segmented side by side."""
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


@pytest.mark.slow
def test_as_many_phases_side_by_side_as_there_are_threads(predictor, cine, threads, monkeypatch):
    segmented, segment = [], predictor.segmenter.segment

    def noted(*args, **kwargs):
        segmented.append((threading.get_ident(), torch.get_num_threads()))
        return segment(*args, **kwargs)

    monkeypatch.setattr(predictor.segmenter, "segment", noted)
    done = []
    found = predict_cine(predictor, cine, prompts=[BOX], report=done.append)
    assert done == [1, 2, 3, 4, 5, 6] and len(segmented) == 6
    assert {share for _, share in segmented} == {1} and torch.get_num_threads() == threads
    assert (threading.get_ident() in {thread for thread, _ in segmented}) == (threads == 1)
    torch.set_num_threads(1)
    for t in range(6):
        np.testing.assert_array_equal(found.mask[..., t], alone(predictor, cine, t, [BOX]).mask)


def test_stacks_that_fill_the_memory_are_computed_one_by_one(threads):
    assert count_workers(20 * 307**2) == 1 and count_workers(2**22) == 1


def test_hearts_of_ordinary_size_are_computed_side_by_side(threads):
    """Ten slices as ACDC has them, at the pixels of the model that is shipped."""
    pixel = read_spec(APP / "model" / f"{DEFAULT_MODEL}.safetensors").pixel
    ordinary = 10 * math.prod(resampled_size((216, 256), (1.5625, 1.5625), pixel))
    assert count_workers(ordinary) == min(threads, 2)


@pytest.mark.slow
def test_whoever_makes_calls_in_turn_is_given_one_at_a_time(model_files, cine, threads):
    predictor = Predictor.from_files(model_files["overview_unet"])

    class InTurn(BatchRunner):
        is_immediate = False
        callers = set()

        def __call__(self, call):
            self.callers.add(threading.get_ident())
            return super().__call__(call)

    predict_cine(predictor, cine, [0, 3], [BOX], runner=InTurn())
    assert InTurn.callers == {threading.get_ident()}


def test_no_phase_at_all_is_refused_in_a_sentence(model_files, cine):
    with pytest.raises(ValueError, match="There is no phase to segment: name one"):
        predict_cine(Predictor.from_files(model_files["overview_unet"]), cine, [])


class Interrupted(BatchRunner):
    """Gives up each call at its first step, makes it again, gives it up a little later, and so on until it comes to its end."""

    is_immediate = False

    def __call__(self, call):
        for steps in (0, *(int(1.5**n) for n in range(50))):
            left = iter([False] * steps)
            try:
                return call(CancelToken(lambda left=left: next(left, True)))
            except CancelledError:
                continue


def test_a_call_that_was_given_up_anywhere_is_made_again_with_the_same_answer(predictor, cine):
    whole = predict_cine(predictor, cine, [0, 3], [BOX])
    again = predict_cine(predictor, cine, [0, 3], [BOX], runner=Interrupted())
    assert np.array_equal(again.mask, whole.mask) and len(again.predictions) == 2


@pytest.mark.parametrize("prompts", [(), (BOX,), (BOX, SMALLER)], ids=["no prompt", "a box", "two boxes"])
def test_all_that_is_said_of_an_image_is_the_same_where_calls_were_given_up_and_made_again(predictor, cine, prompts, monkeypatch):
    monkeypatch.setattr(batch_runner, "MINIBATCH", 2)

    class Sometimes(Interrupted):
        """Every other call comes to its end at once."""

        calls = 0

        def __call__(self, call):
            self.calls += 1
            return super().__call__(call) if self.calls % 2 else call(self.token)

    def say(runner):
        predictor.set_image(ImageStack(cine.phase(3)))
        found = predictor.predict(prompts, return_tokens=True, return_uncertainty=True, keep_scores=True, runner=runner)
        scores = predictor.scores(prompts, runner)
        return {**vars(found), "latency_ms": None, "summary": found.summary.numpy(), "scores": scores.values}

    once, again = say(IMMEDIATE), say(Sometimes())
    np.testing.assert_equal(again, once)


@pytest.mark.slow
def test_stacks_of_unlike_regions_and_slices_share_calls_where_they_can(model_files, cine, monkeypatch):
    """As on a GPU."""
    predictor = Predictor.from_files(model_files["overview_unet"])
    calls = []
    encode = predictor.segmenter.network.encode_regions
    monkeypatch.setattr(
        predictor.segmenter.network, "encode_regions", lambda images, *rest: calls.append(len(images)) or encode(images, *rest)
    )
    few = BoxPrompt(Box((20, 9, 1), (42, 31, 2)))
    batch = StackBatch(predictor.segmenter, IMMEDIATE)
    stacks = [PromptedStack(ImageStack(cine.phase(t)), [few if t % 2 else BOX], (few if t % 2 else BOX).box) for t in range(6)]
    assert batch.count(stacks[0].image) >= 6
    found = batch.segment(stacks, batch.embed([stack.image for stack in stacks]), None)
    assert calls == [3, 3, 1]  # the last one counts what a slice costs without pruning
    for t, prompts in ((2, [BOX]), (3, [few])):
        one = alone(predictor, cine, t, prompts)
        assert_alike(stacks[t].image.to_stored(found[t].mask), one.mask)
        assert found[t].kept_fraction == pytest.approx(one.kept_fraction, abs=1e-3)


@pytest.mark.slow
def test_phases_that_are_not_asked_for_are_empty_and_others_have_their_own_boxes(predictor, cine):
    done = []
    found = predict_cine(predictor, cine, [4, 1], {1: [BOX], 4: [SMALLER]}, report=done.append)
    assert found.phases == (1, 4) and done[-1] == 2 and not found.mask[..., [0, 2, 3, 5]].any()
    assert [each.box for each in found.predictions] == [BOX.box, SMALLER.box]
    assert_alike(found.mask[..., 4], alone(predictor, cine, 4, [SMALLER]).mask)
    reply = found.reply()
    assert reply["phases"] == [1, 4] and reply["box"] == list(BOX.box.bounds) and len(reply["volumes_ml"]["LV cavity"]) == 2


@pytest.mark.slow
def test_marked_phases_are_the_ones_that_count(predictor, cine):
    segmented = predict_cine(predictor, cine, [0, 3], [BOX])
    for named in (NamedPhases(3, 0, "marked", "marked by Ada"), NamedPhases.of_manifest(3, 0)):
        found = dataclasses.replace(segmented, named=named)
        reply = found.reply()
        assert (reply["ed"], reply["es"], reply["ed_es_source"]) == (3, 0, named.source)
    assert reply["function"]["ed"] == 3 and found.function(180, 81).bsa_m2 == pytest.approx(2.012, abs=1e-3)
    other = dataclasses.replace(segmented, named=NamedPhases.of_manifest(3, 5))
    assert other.function() is None  # end-systole was not segmented


@pytest.mark.slow
@pytest.mark.parametrize("phases", [None, [0, 3]])
def test_phases_that_were_found_among_few_stay_and_are_doubted(predictor, cine, phases):
    found = dataclasses.replace(predict_cine(predictor, cine, phases, [BOX]), found=(3, 0))
    reply = found.reply()
    assert (reply["ed"], reply["es"], reply["ed_es_source"], reply["function"]["ed"]) == (3, 0, "found", 3)
    assert any("6 phases" in doubt for doubt in reply["function"]["warnings"])
    assert not any("6 phases" in doubt for doubt in dataclasses.replace(found, named=NamedPhases.of_manifest(3, 0)).function().warnings)


@pytest.mark.slow
def test_phases_that_are_found_among_some_are_their_extremes_and_doubted(predictor, cine):
    found = predict_cine(predictor, cine, [0, 3, 4], [BOX])
    mask = np.zeros_like(found.mask)
    for t, size in ((0, 20), (3, 24), (4, 12)):
        mask[20 : 20 + size, 10:20, 2, t] = 3
    function = dataclasses.replace(found, mask=mask).reply()["function"]
    assert (function["ed"], function["es"]) == (3, 4)
    assert function["warnings"][0].startswith("3 of 6 phases are measured: end-diastole and end-systole are the fullest")


@pytest.mark.slow
def test_one_phase_beats_no_heart(predictor, heart, tmp_path):
    write_cine(tmp_path / "one.nii.gz", heart.array[..., None], heart.affine)
    found = predict_cine(predictor, read_cine(tmp_path / "one.nii.gz"), prompts=[BOX])
    reply = found.reply()
    assert reply["ed"] is None and reply["function"] is None and reply["warned_phases"]["one_phase"] == [0]


def test_a_phase_that_there_is_not_is_refused(predictor, cine):
    with pytest.raises(VolumeError, match=r"beat.nii.gz has the phases 0 to 5: phases cannot name 6\."):
        predict_cine(predictor, cine, [6])


def test_a_cine_is_given_up_between_two_calls(model_files, cine, threads):
    predictor = Predictor.from_files(model_files["overview_unet"])
    done = []
    with pytest.raises(CancelledError):
        predict_cine(predictor, cine, prompts=[BOX], runner=BatchRunner(CancelToken(lambda: bool(done))), report=done.append)
    assert done[-1] < 6 and torch.get_num_threads() == threads


def test_a_phase_that_fails_ends_the_request(model_files, cine, threads, monkeypatch):
    """With its own error, and nothing goes on behind the caller's back."""
    predictor = Predictor.from_files(model_files["overview_unet"])
    segment, begun = predictor.segmenter.segment, []

    def failing(image, *args, **kwargs):
        begun.append(image)
        if len(begun) == 2:
            raise ValueError("a broken phase")
        return segment(image, *args, **kwargs)

    monkeypatch.setattr(predictor.segmenter, "segment", failing)
    with pytest.raises(ValueError, match="a broken phase"):
        predict_cine(predictor, cine, prompts=[BOX])
    assert torch.get_num_threads() == threads and not any(thread.name.startswith("side-by-side") for thread in threading.enumerate())
