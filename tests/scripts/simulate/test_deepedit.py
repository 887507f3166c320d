"""DeepEdit begins as the U-Net that it is made of, and learns from clicks."""

from __future__ import annotations

import numpy as np
import torch

from prato.models.checkpoint import load_model
from prato.models.registry import DEFAULT_MODEL
from prato.training.click_sessions import ClickSampler
from scripts.common.paths import MODELS
from scripts.research.baselines.unet import WindowUNet
from scripts.simulate.deepedit import IMAGES, WINDOW, add_clicks, deepedit_network, train_deepedit
from tests.phantoms import click_bank


def test_clicks_are_channels_of_their_structures():
    found = add_clicks(np.zeros((IMAGES, 40, 48), np.float32), {2: [[10, 20]], 0: [[0, 47]]})
    assert found.shape == (IMAGES + 4, 40, 48)
    assert found.max((1, 2)).tolist() == [0, 0, 0, 1, 0, 1, 0]
    assert found[5, 10, 20] == 1 and found[3, 0, 47] == 1


def test_it_begins_with_all_of_the_default_network_s_unet():
    known = load_model(MODELS / f"{DEFAULT_MODEL}.safetensors")[0]
    learned, own = known.state_dict(), deepedit_network(known).state_dict()
    shared = [name for name in own if not name.startswith("skip_layers.")]  # the same blocks once more
    assert all(torch.equal(own[name][tuple(slice(n) for n in learned[name].shape)], learned[name]) for name in shared)


def test_it_is_the_unet_before_it_is_trained_and_sees_clicks_after():
    torch.manual_seed(0)
    unet = WindowUNet().eval()
    network = deepedit_network(unet).eval()
    image = np.random.default_rng(0).random((IMAGES, WINDOW, WINDOW), np.float32)
    clicked, other = (torch.from_numpy(add_clicks(image, clicks))[None] for clicks in ({3: [[50, 60]]}, {}))
    with torch.no_grad():
        assert torch.allclose(network(clicked), unet(torch.from_numpy(image)[None]), atol=1e-4)
    losses: list[float] = []
    train_deepedit(network, ClickSampler(click_bank(), 0, 1, WINDOW), 4, losses.append, batch=2)
    assert len(losses) == 2 and np.isfinite(losses).all()
    with torch.no_grad():
        assert not torch.allclose(network.eval()(clicked), network(other), atol=1e-4)
