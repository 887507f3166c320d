"""The locator's way from a coarse map to a box, with a stand-in for the network; and how its boxes are measured."""

import numpy as np
import pytest
import torch

import prato.training.train_locator
from prato.data.cases import load_training_case
from prato.data.nifti import Volume, read_volume
from prato.data.phantom import make_phantoms
from prato.data.studies import find_labelled_studies
from prato.inference.locator import Locator
from prato.prompts.box import Box
from prato.runtime.batch_runner import MINIBATCH
from prato.training.train_locator import box_fit, train_locator
from tests.prato.conftest import small_spec


@pytest.fixture
def locator(model_files):
    return Locator(model_files["locator"], torch.device("cpu"))


def lighting(*blocks):
    """A network that sees hearts in these blocks (x, y, z slices) of the coarse 128 x 128 window."""

    def network(image):
        assert image.shape[1:] == (3, 128, 128)
        logits = torch.full((image.shape[0], 1, 128, 128), -9.0)
        for x, y, z in blocks:
            logits[z, 0, x, y] = 9.0
        return logits

    return network


def volume(shape, spacing):
    return Volume(np.random.default_rng(0).normal(size=shape).astype(np.float32), np.diag([*spacing, 1.0]))


BLOCK = (slice(10, 30), slice(40, 65), slice(2, 5))


def test_a_box_in_an_image_larger_than_the_coarse_window(locator):
    locator.network = lighting(BLOCK)
    # 600 x 540 mm at 3 mm: the window's corner is voxel (36, 26); a margin of 4 mm is one voxel, and slices have none
    found = locator.propose(volume((200, 180, 8), (3.0, 3.0, 8.0)))
    assert found == Box((36 + 10 - 1, 26 + 40 - 1, 2), (36 + 30 + 1, 26 + 65 + 1, 5))


def test_the_margin_is_in_millimetres_on_each_axis(locator):
    locator.network = lighting((slice(50, 60), slice(50, 60), slice(0, 3)))
    # 300 mm wide: 100 coarse pixels from the window's 14th on; two voxels a pixel along the first axis, one along the second
    found = locator.propose(volume((200, 100, 3), (1.5, 3.0, 8.0)))
    assert found == Box((72 - 3, 36 - 1, 0), (92 + 3, 46 + 1, 3))


def test_the_box_ends_where_the_image_ends(locator):
    locator.network = lighting((slice(0, 128), slice(100, 128), slice(0, 1)))
    found = locator.propose(volume((128, 128, 2), (3.0, 3.0, 8.0)))
    assert found == Box((0, 99, 0), (128, 128, 1))


def test_the_largest_of_several_pieces_is_the_heart(locator):
    image = volume((128, 128, 8), (3.0, 3.0, 8.0))
    locator.network = lighting(BLOCK)
    alone = locator.propose(image)
    before, behind = (slice(0, 5), slice(0, 9), slice(0, 2)), (slice(90, 110), slice(90, 110), slice(6, 8))
    locator.network = lighting(before, BLOCK, behind)
    assert locator.propose(image) == alone


def test_nothing_seen_is_no_box(locator):
    locator.network = lighting()
    assert locator.propose(volume((100, 100, 4), (2.0, 2.0, 8.0))) is None


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("phantom")
    make_phantoms(folder, 1, 0)
    return find_labelled_studies(folder)


class Saying:
    """A locator with the same answer for every image."""

    def __init__(self, answer):
        self.answer = answer

    def propose(self, image):
        return self.answer(image)


@pytest.mark.slow
def test_boxes_are_measured_against_the_label(files):
    whole = box_fit(Saying(lambda image: Box.whole(image.array.shape)), files)
    assert f"On {len(files)} studies" in whole and "holds 100.0 %" in whole and "0 missed" in whole
    none = box_fit(Saying(lambda image: None), files)
    assert "mean IoU of 0.000" in none and f"{len(files)} missed" in none


def test_boxes_are_proposed_on_stacks_whichever_axis_the_slices_lie_along(files, monkeypatch):
    stored = read_volume(files[0].image)
    turned = Volume(np.moveaxis(stored.array, 2, 0), stored.affine[:, [2, 0, 1, 3]])
    heart = np.zeros(turned.array.shape, np.uint8)
    heart[1:3, 20:40, 30:50] = 1
    monkeypatch.setattr(prato.training.train_locator, "read_volume", lambda path: turned)
    monkeypatch.setattr(prato.training.train_locator, "read_label", lambda path, image: heart)
    fit = box_fit(Saying(lambda image: Box((20, 30, 1), (40, 50, 3))), files[:1])
    assert "mean IoU of 1.000" in fit


@pytest.mark.parametrize("studies", [0, 1])
def test_no_heart_to_measure_is_said(files, monkeypatch, studies):
    monkeypatch.setattr(prato.training.train_locator, "read_label", lambda path, image: np.zeros(image.array.shape, np.uint8))
    assert "not known" in box_fit(Saying(lambda image: None), files[:studies])


@pytest.mark.parametrize("steps", [1, 10])
def test_a_short_training_is_a_training(files, monkeypatch, steps):
    monkeypatch.setattr(prato.training.train_locator, "LOCATOR", small_spec("locator"))
    monkeypatch.setattr(prato.training.train_locator, "_BATCH", 2)
    losses = []
    assert not train_locator([load_training_case(files[0], 3.0)], steps, 0, losses.append).training
    assert len(losses) == steps and np.isfinite(losses).all()


def test_a_long_study_is_looked_at_a_few_slices_at_a_time(locator):
    seen, network = [], locator.network

    def watched(image):
        seen.append(len(image))
        return network(image)

    image = volume((64, 60, 2 * MINIBATCH + 3), (3.0, 3.0, 8.0))
    locator.network = watched
    locator.propose(image)
    assert seen == [MINIBATCH, MINIBATCH, 3]
    locator.network = lighting((slice(60, 70), slice(60, 70), slice(0, 2)))  # in each part
    assert locator.propose(image).stop[2] == 2
