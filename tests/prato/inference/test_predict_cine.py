"""Whole heartbeats through the predictor: each phase as if it came alone, and what all of them say together."""

import numpy as np
import pytest

from prato.data.cine import read_cine, write_cine
from prato.data.nifti import VolumeError
from prato.inference import stack_batch
from prato.inference.image_stack import ImageStack
from prato.inference.predictor import Predictor
from prato.prompts.box import Box, BoxPrompt
from prato.runtime.batch_runner import BatchRunner
from prato.runtime.cancel_token import CancelledError, CancelToken

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
    found = predictor.predict_cine(cine, prompts=prompts)
    assert found.mask.shape == (60, 50, 5, 6) and found.mask.dtype == np.uint8 and found.phases == tuple(range(6))
    for t in range(6):
        one = alone(predictor, cine, t, prompts)
        assert_alike(found.mask[..., t], one.mask)
        assert found.predictions[t].box == one.box and found.predictions[t].kept_fraction == pytest.approx(one.kept_fraction, abs=1e-3)


@pytest.mark.slow
def test_stacks_of_unlike_regions_and_slices_share_calls_where_they_can(model_files, cine, monkeypatch):
    predictor = Predictor.from_files(model_files["overview_unet"])
    calls = []
    encode = predictor.segmenter.network.encode_regions
    monkeypatch.setattr(
        predictor.segmenter.network, "encode_regions", lambda images, *rest: calls.append(len(images)) or encode(images, *rest)
    )
    few = BoxPrompt(Box((20, 9, 1), (42, 31, 2)))
    found = predictor.predict_cine(cine, None, {0: [BOX], 1: [few], 2: [BOX], 3: [few], 4: [BOX], 5: [few]})
    assert calls == [3, 3, 1]  # the last one counts what a slice costs without pruning
    for t, prompts in ((2, [BOX]), (3, [few])):
        assert_alike(found.mask[..., t], alone(predictor, cine, t, prompts).mask)


@pytest.mark.slow
def test_phases_that_are_not_asked_for_are_empty_and_others_have_their_own_boxes(predictor, cine):
    done = []
    found = predictor.predict_cine(cine, [4, 1], {1: [BOX], 4: [SMALLER]}, report=done.append)
    assert found.phases == (1, 4) and done[-1] == 2 and not found.mask[..., [0, 2, 3, 5]].any()
    assert [each.box for each in found.predictions] == [BOX.box, SMALLER.box]
    assert_alike(found.mask[..., 4], alone(predictor, cine, 4, [SMALLER]).mask)
    reply = found.reply()
    assert reply["phases"] == [1, 4] and reply["box"] == list(BOX.box.bounds) and len(reply["volumes_ml"]["LV cavity"]) == 2


@pytest.mark.slow
def test_marked_phases_are_the_ones_that_count(predictor, cine):
    found = predictor.predict_cine(cine, [0, 3], [BOX], marked=(3, 0))
    reply = found.reply()
    assert (reply["ed"], reply["es"], reply["ed_es_source"]) == (3, 0, "marked")
    assert reply["function"]["ed"] == 3 and found.function(180, 81).bsa_m2 == pytest.approx(2.012, abs=1e-3)
    assert predictor.predict_cine(cine, [0, 3], [BOX], marked=(3, 5)).function() is None  # end-systole was not segmented


@pytest.mark.slow
def test_one_phase_beats_no_heart(predictor, heart, tmp_path):
    write_cine(tmp_path / "one.nii.gz", heart.array[..., None], heart.affine)
    found = predictor.predict_cine(read_cine(tmp_path / "one.nii.gz"), prompts=[BOX])
    reply = found.reply()
    assert reply["ed"] is None and reply["function"] is None and reply["warned_phases"]["one_phase"] == [0]


def test_a_phase_that_there_is_not_is_refused(predictor, cine):
    with pytest.raises(VolumeError, match=r"beat.nii.gz has the phases 0 to 5: phases cannot name 6\."):
        predictor.predict_cine(cine, [6])


def test_a_cine_is_given_up_between_two_calls(predictor, cine, monkeypatch):
    monkeypatch.setattr(stack_batch, "_CPU_SEEN", 1)
    done = []
    with pytest.raises(CancelledError):
        predictor.predict_cine(cine, prompts=[BOX], runner=BatchRunner(CancelToken(lambda: bool(done))), report=done.append)
    assert done[-1] < 6
