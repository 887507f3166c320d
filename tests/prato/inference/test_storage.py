"""The answer to a prompt does not depend on how the voxels of the image are stored."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from prato.data.nifti import Volume
from prato.inference.image_stack import ImageStack
from prato.inference.predictor import Predictor
from prato.inference.stack_batch import PromptedStack, StackBatch
from prato.models.checkpoint import model_preset
from prato.prompts.base import Prompt
from prato.prompts.box import Box, BoxPrompt
from prato.prompts.clicks import ClickPrompt, Stroke
from prato.prompts.mask_prompt import MaskPrompt
from prato.refinement.refiner import Refiner
from prato.runtime.batch_runner import IMMEDIATE
from tests.prato.conftest import SMALL
from tests.storage import STORAGES, Storage, oblique

SHAPE, SPACING = (61, 50, 5), (2.0, 2.1, 8.0)
BOX = Box((15, 5, 1), (45, 33, 4))
#: On one slice, right of the box's middle.
CLICKED = np.array([[40, 12, 2], [41, 12, 2]])


@pytest.fixture(scope="module")
def usual() -> Volume:
    i, j = np.meshgrid(np.arange(SHAPE[0]), np.arange(SHAPE[1]), indexing="ij")
    disc = (((i - 30) * 2) ** 2 + ((j - 20) * 2) ** 2 <= 30**2).astype(np.float32)
    noise = np.random.default_rng(0).normal(0, 5, SHAPE).astype(np.float32)
    return oblique(np.repeat(disc[:, :, None] * 200, SHAPE[2], axis=2) + noise, SPACING)


def prompts(box: Box, clicked: np.ndarray) -> list[Prompt]:
    return [BoxPrompt(box), *ClickPrompt.from_strokes([Stroke(3, clicked)])]


@pytest.mark.parametrize("name", SMALL)
@pytest.mark.parametrize("is_prompted", [True, False], ids=["prompted", "no prompt"])
def test_a_network_gives_the_same_mask(name, is_prompted, model_files, usual: Volume) -> None:
    predictor = Predictor.from_files(model_files[name])

    def answer(volume: Volume, box: Box, clicked: np.ndarray):
        predictor.set_image(volume)
        return predictor.predict(prompts(box, clicked) if is_prompted else (), return_tokens=True)

    expected = answer(usual, BOX, CLICKED)
    assert expected.mask.any()
    for storage in STORAGES[::3]:
        found = answer(storage.volume(usual), storage.box(BOX, SHAPE), storage.voxels(CLICKED, SHAPE))
        assert np.array_equal(found.mask, storage.array(expected.mask)), storage
        assert np.array_equal(found.tokens, storage.array(expected.tokens)), storage
        assert found.box == storage.box(expected.box, SHAPE), storage
        assert (found.kept_fraction, found.warnings) == (expected.kept_fraction, expected.warnings), storage
        torch.from_numpy(found.mask)  # as clients do


def test_phases_that_are_segmented_together_are_stored_as_their_cine_is(model_files, usual: Volume) -> None:
    """As on a GPU."""
    predictor = Predictor.from_files(model_files["overview_unet"])
    batch = StackBatch(predictor.segmenter, IMMEDIATE)

    def answer(volume: Volume, box: Box, clicked: np.ndarray) -> list[np.ndarray]:
        images = [ImageStack(replace(volume, array=volume.array * (1 + t))) for t in range(2)]
        stacks = [PromptedStack(image, prompts(box, clicked), box.rearrange(*image.order)) for image in images]
        return [image.to_stored(found.mask) for image, found in zip(images, batch.segment(stacks, batch.embed(images), None))]

    expected = answer(usual, BOX, CLICKED)
    for storage in STORAGES[::5]:
        found = answer(storage.volume(usual), storage.box(BOX, SHAPE), storage.voxels(CLICKED, SHAPE))
        assert all(np.array_equal(one, storage.array(other)) for one, other in zip(found, expected)), storage


@pytest.mark.parametrize("storage", STORAGES[::5], ids=str)
def test_a_correction_changes_the_same_voxels(storage: Storage, usual: Volume) -> None:
    torch.manual_seed(0)
    spec = model_preset("click_refiner")
    network = spec.build().eval()
    torch.nn.init.normal_(network.out.weight, std=60.0)
    refiner = Refiner(network, spec, "0", torch.device("cpu"))
    mask, certain = np.zeros(SHAPE, np.uint8), np.zeros(SHAPE, bool)
    mask[20:40, 10:30, 1:4], certain[22:26, 10:14, 2] = 2, True

    def correct(volume: Volume, before: np.ndarray, sure: np.ndarray, clicked: np.ndarray, slices: np.ndarray):
        image, strokes = ImageStack(volume), [Stroke(3, clicked)]
        right, next_to_it = slices[:, image.axis].tolist()
        sent = MaskPrompt(before, Box.whole(before.shape), sure, right=(right,), propagate_to=(next_to_it,))
        return refiner.refine(image, sent, strokes), refiner.propagate(image, sent, strokes)

    slices = np.array([[0, 0, 2], [0, 0, 1]])
    stored = storage.volume(usual), storage.array(mask), storage.array(certain), *(storage.voxels(at, SHAPE) for at in (CLICKED, slices))
    for expected, found in zip(correct(usual, mask, certain, CLICKED, slices), correct(*stored)):
        assert expected.changed and expected.box is not None
        assert np.array_equal(found.mask, storage.array(expected.mask))
        assert (found.box, found.changed) == (storage.box(expected.box, SHAPE), expected.changed)
