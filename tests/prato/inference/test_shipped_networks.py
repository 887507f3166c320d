"""What must make no difference to any shipped network: how grey values and axes are stored, which slices share a call, and what is kept
from the prompt before. And a plan that keeps everything is no pruning."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import torch

from prato.data.nifti import Volume
from prato.inference.prediction import Prediction
from prato.inference.predictor import Predictor
from prato.models.checkpoint import load_model
from prato.models.registry import DEFAULT_MODEL
from prato.phantom.frames import make_phantom
from prato.prompts.batch import PromptBatch
from prato.prompts.box import Box, BoxPrompt

pytestmark = pytest.mark.slow
MODELS = Path(__file__).parents[3] / "apps" / "prato_label" / "model"
NAMES = sorted(path.stem for path in MODELS.glob("*.safetensors"))


class Shipped(NamedTuple):
    """A shipped network, and what it makes of a heart in its tight box."""

    predictor: Predictor
    box: Box
    found: Prediction


@pytest.fixture(scope="module")
def heart() -> tuple[Volume, Box]:
    """Three slices of a generated heart, in whole numbers, and the box round it."""
    phantom = make_phantom(5, 1)
    tight = Box.around(phantom.labels["ED"][:, :, 3:6])
    assert tight is not None
    return Volume(phantom.images["ED"][:, :, 3:6].astype(np.float32).round(), phantom.affine), tight


@pytest.fixture(scope="module", params=NAMES)
def shipped(request: pytest.FixtureRequest, heart: tuple[Volume, Box]) -> Shipped:
    predictor = Predictor.from_files(MODELS / f"{request.param}.safetensors", MODELS / f"{DEFAULT_MODEL}.safetensors")
    image, box = heart
    found = segment(predictor, image, box)
    assert all((found.mask == value).any() for value in (1, 2, 3))
    return Shipped(predictor, box, found)


def segment(predictor: Predictor, image: Volume, box: Box) -> Prediction:
    predictor.set_image(image)
    return predictor.predict([BoxPrompt(box)], return_tokens=True)


def test_grey_values_in_another_unit_and_slices_along_another_axis(shipped: Shipped, heart: tuple[Volume, Box]) -> None:
    image, box = heart
    order = (2, 0, 1)
    moved = Volume((64 * image.array).astype(">u2").transpose(order), image.affine[:, [*order, 3]])
    found = segment(shipped.predictor, moved, box.rearrange(order, (1, 1, 1), moved.array.shape))
    assert np.array_equal(found.mask, shipped.found.mask.transpose(order))
    assert found.box == box.rearrange(order, (1, 1, 1), moved.array.shape)


def test_an_image_that_was_looked_at_before(shipped: Shipped, heart: tuple[Volume, Box]) -> None:
    """Another box and no box, and then the first one again, with all that is kept of the image."""
    image, box = heart
    predictor = shipped.predictor
    predictor.set_image(image)
    predictor.predict([BoxPrompt(Box((box.start[0] + 9, *box.start[1:]), box.stop))])
    predictor.predict(prune="off", return_uncertainty=True)
    again = predictor.predict([BoxPrompt(box)], return_tokens=True)
    assert again.tokens is not None and shipped.found.tokens is not None
    assert np.array_equal(again.mask, shipped.found.mask) and np.array_equal(again.tokens, shipped.found.tokens)
    assert again.kept_fraction == shipped.found.kept_fraction


@torch.no_grad()
@pytest.mark.parametrize("name", NAMES)
def test_keeping_everything_is_no_pruning(name: str) -> None:
    network, spec, _ = load_model(MODELS / f"{name}.safetensors")
    plan = spec.pruning_plan()
    everything = replace(plan, percentile=0.0) if plan.percentile is not None else replace(plan, threshold=0.0)
    edge = 96 if spec.centre != "stack" else 128
    image = torch.rand(3, 3, edge, edge, generator=torch.Generator().manual_seed(0)) * 2 - 1
    prompts = PromptBatch.of(BoxPrompt, [[((20, 24), (60, 70))]] * 3, (edge, edge))
    kept, dense = network.segment(image, prompts, everything), network.segment(image, prompts, None)
    assert all(stage.alive.all() for stage in kept.stages) and kept.stages
    torch.testing.assert_close(kept.logits, dense.logits, atol=2e-3, rtol=1e-4)


@torch.no_grad()
@pytest.mark.parametrize("name", [name for name in NAMES if "overview" not in name])
def test_a_slice_is_pruned_by_itself(name: str) -> None:
    """Where all of it is decoded; with ``decode="kept"`` slices of a call share a rectangle."""
    network, spec, _ = load_model(MODELS / f"{name}.safetensors")
    plan, edge = replace(spec.pruning_plan(), decode="all"), spec.window
    image = torch.rand(3, 3, edge, edge, generator=torch.Generator().manual_seed(0)) * 2 - 1
    boxes = [[((10, 24), (60, 70))], [((50, 40), (90, 120))], [((10, 24), (60, 70)), ((64, 64), (80, 80))]]
    together = network.segment(image, PromptBatch.of(BoxPrompt, boxes, (edge, edge)), plan)
    for number, drawn in enumerate(boxes):
        one = slice(number, number + 1)
        alone = network.segment(image[one], PromptBatch.of(BoxPrompt, [drawn], (edge, edge)), plan)
        assert all(torch.equal(a.alive, b.alive[one]) for a, b in zip(alone.stages, together.stages))
        torch.testing.assert_close(alone.logits, together.logits[one], atol=1e-3, rtol=1e-4)
