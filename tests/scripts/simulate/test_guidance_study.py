"""Three ways to tell a network of a click differ in nothing but where the click enters."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from prato.data.structures import NUM_CLASSES
from prato.models.click_refiner import INPUTS
from prato.refinement.refiner_input import refiner_input
from prato.training.click_trainer import ClickRecipe, ClickTrainer
from scripts.simulate.guidance_study import BUILD, GUIDANCE, ByEmbedding, Entry
from tests.phantoms import click_bank


@given(st.integers(0, 999), st.integers(0, 3), st.tuples(st.integers(0, 31), st.integers(0, 31)))
def test_what_a_click_changes_is_guidance_and_all_guidance_is_blank_without_one(seed, structure, place):
    random = np.random.default_rng(seed)
    image, mask = random.random((3, 32, 32), np.float32), random.integers(0, NUM_CLASSES, (32, 32)).astype(np.uint8)
    scores, certain = random.random((NUM_CLASSES, 32, 32), np.float32), random.random((32, 32)) < 0.5
    stroke = (structure, np.array([place]))
    clicked, blank = (
        refiner_input(image, mask, strokes, newest, certain, [mask, None], scores) for strokes, newest in (([stroke], stroke), ([], None))
    )
    changed = np.flatnonzero((clicked != blank).any((1, 2)))
    assert {*changed.tolist()} <= {*GUIDANCE} and len(changed) > 4
    assert not blank[list(GUIDANCE)].any()


@pytest.mark.parametrize("entry", Entry)
def test_each_is_trained_and_follows_clicks(entry):
    torch.manual_seed(0)
    network = BUILD[entry]()
    trainer = ClickTrainer(network, click_bank(), ClickRecipe(3, batch=2, edge=32))
    trainer.fit()
    assert trainer.step == 3
    blank = torch.rand(1, INPUTS, 32, 32)
    clicked = blank.clone()
    clicked[:, list(GUIDANCE)] += 1
    with torch.no_grad():
        assert not torch.equal(network.eval()(clicked), network(blank))


def test_embeddings_alone_tell_the_unet_of_a_click():
    network = ByEmbedding().eval()
    torch.nn.init.zeros_(network.embed[-1].weight)
    torch.nn.init.normal_(network.out.weight)
    blank = torch.rand(1, INPUTS, 32, 32)
    clicked = blank.clone()
    clicked[:, list(GUIDANCE)] += 1
    with torch.no_grad():
        assert torch.equal(network(clicked), network(blank))
