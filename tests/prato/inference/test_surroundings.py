"""Phases of a cine after the first: round the heart the overview remembers, and looks again where it has to."""

from collections import Counter
from dataclasses import replace
from statistics import mean

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from prato.data.cine import read_cine, write_cine
from prato.data.nifti import Volume, read_volume
from prato.evaluation.metrics import structure_dice
from prato.inference import stack_slices
from prato.inference.cine_predictor import predict_cine
from prato.inference.image_stack import ImageStack
from prato.inference.predictor import Predictor
from prato.inference.stack_segmenter import StackSegmenter
from prato.inference.stack_slices import padded_slices
from prato.models.overview import COARSE, Overview
from prato.models.registry import DEFAULT_MODEL
from prato.phantom.beat import make_beat
from prato.prompts.box import Box, BoxPrompt
from tests.app.live import APP
from tests.real_data import require_real_data

PHASES = 3


@pytest.fixture(scope="module")
def made():
    """A generated heart in a wide field of view."""
    return make_beat(0, 2, PHASES)


@pytest.fixture(scope="module")
def beat(made, tmp_path_factory):
    """Its images, as a cine."""
    path = tmp_path_factory.mktemp("beat") / "beat.nii.gz"
    write_cine(path, made.images, made.affine, made.rr_ms / PHASES)
    return read_cine(path)


@pytest.fixture(scope="module")
def predictor():
    return Predictor.from_files(APP / "model" / f"{DEFAULT_MODEL}.safetensors")


def counted(name, call, calls):
    def count(self, *args):
        calls[name] += 1
        return call(self, *args)

    return count


@pytest.fixture
def looks(monkeypatch):
    """How often the overview looks at whole stacks, remembers one, and updates what it remembers."""
    calls = Counter()
    for name in ("forward", "remember", "update"):
        monkeypatch.setattr(Overview, name, counted(name, getattr(Overview, name), calls))
    return calls


def encode(segmenter, volume):
    image = ImageStack(volume)
    return segmenter.embedding(image, image.filled).tokens


@pytest.mark.slow
@pytest.mark.parametrize("boxed", [False, True], ids=["no box", "a box"])
def test_masks_of_a_cine_are_as_good_as_those_of_its_phases_and_cost_less(predictor, made, beat, looks, boxed, monkeypatch):
    predictor.set_image(beat.phase(0))
    prompts = [BoxPrompt(Box.around(predictor.predict().mask))] if boxed else []
    looks.clear()
    found = predict_cine(predictor, beat, prompts=prompts)
    assert (looks["remember"], looks["update"]) == (1, PHASES) and looks["forward"] <= 1  # what no pruning would cost is estimated once
    monkeypatch.setattr(StackSegmenter, "for_cine", lambda self, image: self)
    alone = predict_cine(predictor, beat, prompts=prompts)
    for t in range(PHASES):
        one, other = found.mask[..., t], alone.mask[..., t]
        assert 2 * np.count_nonzero((one == other) & (one > 0)) > 0.98 * (np.count_nonzero(one) + np.count_nonzero(other))
        dice = [mean(structure_dice(mask, made.labels[..., t]).values()) for mask in (one, other)]
        assert dice[0] > dice[1] - 0.003
    np.testing.assert_array_equal(found.mask[..., 0], alone.mask[..., 0])
    assert sum(each.gflops for each in found.predictions) < 0.97 * sum(each.gflops for each in alone.predictions)


@pytest.mark.slow
@pytest.mark.parametrize(("phases", "prune", "updates"), [([2], None, 0), ([1, 2], "off", 0), ([1, 2], None, 2), ([1, 2], "50", 2)])
def test_nothing_is_remembered_for_one_phase_nor_without_pruning(predictor, beat, looks, phases, prune, updates):
    predict_cine(predictor, beat, phases, prune=prune)
    assert looks["update"] == updates and looks["remember"] == (updates > 0)


@pytest.mark.slow
@pytest.mark.parametrize(
    "change",
    [
        lambda array: np.roll(array, 6, 0),
        lambda array: array[:, :, ::-1],
        np.zeros_like,
        lambda array: array * (np.arange(array.shape[2]) > 0),
    ],
    ids=["moved by 10 mm", "slices in another order", "nothing", "a blank slice"],
)
def test_a_phase_that_is_unlike_the_first_is_looked_at_as_a_whole(predictor, beat, looks, change):
    first = beat.phase(0)
    other = replace(first, array=np.ascontiguousarray(change(first.array)))
    of_cine = predictor.segmenter.for_cine(ImageStack(first))
    assert looks == {"remember": 1}
    torch.testing.assert_close(encode(of_cine, other), encode(predictor.segmenter, other), atol=0, rtol=0)
    assert looks == {"remember": 1, "forward": 2}


@pytest.mark.slow
@pytest.mark.parametrize("change", [lambda array: 3 * array + 50, lambda array: array + np.random.default_rng(0).normal(0, 5, array.shape)])
def test_brightness_and_noise_make_no_phase_unlike(predictor, beat, looks, change):
    first = beat.phase(0)
    encode(predictor.segmenter.for_cine(ImageStack(first)), replace(first, array=change(first.array).astype(np.float32)))
    assert looks == {"remember": 1, "update": 1}


@pytest.mark.slow
def test_a_heart_that_moves_away_is_found_again(predictor, beat, looks):
    """By 50 mm, while all else stays where it is: the whole phase is looked at."""
    first = beat.phase(0)
    predictor.set_image(first)
    heart = Box.around(predictor.predict().mask)
    array, away = first.array.copy(), round(50 / first.spacing[1])
    start = heart.start[1] - away if heart.start[1] > away else heart.start[1] + away
    array[heart.start[0] : heart.stop[0], start : start + heart.size[1]] = first.array[heart.slices[:2]]
    looks.clear()
    moved = replace(first, array=array)
    of_cine = predictor.segmenter.for_cine(ImageStack(first))
    torch.testing.assert_close(encode(of_cine, moved), encode(predictor.segmenter, moved), atol=0, rtol=0)
    assert looks == {"remember": 1, "update": 1, "forward": 2}


@pytest.mark.slow
def test_where_the_heart_fills_the_image_all_of_it_is_looked_at(predictor, beat, looks, monkeypatch):
    monkeypatch.setattr(stack_slices, "FIELD", 0.0)  # with its mirror image round it, it would not fill it
    first = beat.phase(0)
    predictor.set_image(first)
    box = Box.around(predictor.predict().mask)
    close = Volume(np.ascontiguousarray(first.array[box.start[0] : box.stop[0], box.start[1] : box.stop[1]]), first.affine)
    looks.clear()
    of_cine = predictor.segmenter.for_cine(ImageStack(close))
    encode(of_cine, close)
    assert looks == {"remember": 1, "forward": 1}


@pytest.mark.slow
def test_a_part_that_is_computed_anew_and_shows_another_heart_is_seen_to(predictor, beat):
    """At the rim's very edge a token is kept: it may belong to what lies beyond."""
    image = ImageStack(beat.phase(0))
    surroundings = predictor.segmenter.for_cine(image)._surroundings
    slices = padded_slices(image, predictor.segmenter.spec.pixel)
    assert surroundings.encode(image.filled, slices) is not None
    part = surroundings.memory.part.upscale()
    for axis, at in ((1, 0), (1, -1), (2, 0), (2, -1)):
        kept = torch.zeros(len(slices), *part.cells)
        kept.select(axis, at)[0, 3] = 1
        assert surroundings._reaches_beyond(kept)
    assert not surroundings._reaches_beyond(torch.nn.functional.pad(torch.ones(len(slices), *(n - 2 for n in part.cells)), (1, 1, 1, 1)))


@pytest.mark.slow
def test_phases_of_real_hearts_are_alike_unless_the_patient_moves(predictor):
    acdc = require_real_data("acdc")

    def differ(surroundings, volume):
        values = F.avg_pool2d(padded_slices(ImageStack(volume), predictor.segmenter.spec.pixel), COARSE)
        return surroundings.differ(values)

    patients = sorted(acdc.glob("patient0?[15]"))[:6]
    assert len(patients) == 6
    for patient in patients:
        ed, es = (read_volume(path) for path in sorted(patient.glob("patient*_frame??.nii.gz")))
        surroundings = predictor.segmenter.for_cine(ImageStack(ed))._surroundings
        assert differ(surroundings, es) < 0.02
        assert differ(surroundings, replace(es, array=np.roll(es.array, round(10 / es.spacing[0]), 0))) > 0.07
