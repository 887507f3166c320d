"""Clicks as others use them: DeepEdit (Diaz-Pinto et al., arXiv:2305.10655) by MONAI's own transforms, for one slice at a time.

A U-Net sees the image, and for each structure a channel of the clicks on it. In training, half of the slices are looked at without clicks;
for the others, clicks are drawn where its own answer is wrong, round after round, as :class:`monai.apps.deepedit.interaction.Interaction`
does for a batch of one.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from monai.apps.deepedit.transforms import (
    AddGuidanceSignalDeepEditd,
    AddInitialSeedPointMissingLabelsd,
    AddRandomGuidanceDeepEditd,
    FindDiscrepancyRegionsDeepEditd,
)
from monai.losses.dice import DiceCELoss
from torch import Tensor, nn

from prato.data.structures import BACKGROUND, NUM_CLASSES, STRUCTURES
from prato.models.checkpoint import channels_last
from prato.runtime.precision import autocast
from prato.training.click_sessions import SCENE, ClickSampler
from scripts.research.baselines.unet import WindowUNet

#: Channels of the image, the slice between its neighbours; edge of the window, pixels; rounds of clicks; share of slices with clicks.
IMAGES, WINDOW, ROUNDS, CLICKED = 3, 112, 3, 0.5
_NAMES = {"background": BACKGROUND, **STRUCTURES}
#: MONAI's types are narrower than what its transforms take.
_SIGNAL: Any = AddGuidanceSignalDeepEditd("image", number_intensity_ch=IMAGES)


def deepedit_network(known: nn.Module) -> nn.Module:
    """The U-Net with the weights of ``known``, one of that shape or a network that holds one; those of clicks are zero."""
    network = WindowUNet(in_channels=IMAGES + NUM_CLASSES)
    own = dict(network.named_parameters()) | dict(network.named_buffers())
    with torch.no_grad():
        for name, value in known.state_dict().items():
            if name in own:
                own[name].zero_()[tuple(slice(n) for n in value.shape)] = value
    return channels_last(network)


def add_clicks(image: np.ndarray, clicks: dict[int, list[list[int]]]) -> np.ndarray:
    """float32 (IMAGES + classes, h, w): ``image`` (at least IMAGES, h, w) and the signals of ``clicks``, pixels by structure."""
    guidance = {name: [[0, *pixel] for pixel in clicks.get(value, [])] for name, value in _NAMES.items()}
    return np.asarray(_SIGNAL({"image": image, "guidance": guidance})["image"], np.float32)


def train_deepedit(network: nn.Module, sampler: ClickSampler, slices: int, report: Callable[[float], object], batch: int = 12) -> None:
    """Train for so many ``slices``; ``report`` gets the loss of each step."""
    steps, rate = -(-slices // batch), 3e-4
    random.seed(0)
    optimiser = torch.optim.AdamW(network.parameters(), rate)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, rate, total_steps=steps + 1, pct_start=0.1)
    loss_of = DiceCELoss(to_onehot_y=True, softmax=True)
    seed: Any = AddInitialSeedPointMissingLabelsd("label").set_random_state(0)
    more: Any = AddRandomGuidanceDeepEditd("label").set_random_state(0)
    find: Any = FindDiscrepancyRegionsDeepEditd("label")
    for _ in range(steps):
        items = [_slice(sampler) for _ in range(batch)]
        clicked = [item for item in items if sampler.random.random() < CLICKED]
        for item in clicked:
            item.update(_SIGNAL(seed(item)))
        for number in range(ROUNDS if clicked else 0):
            for item, answer in zip(clicked, _answer(network.eval(), clicked).argmax(1, keepdim=True)):
                if sampler.random.random() < 1 - number / ROUNDS:
                    found = more(find({**item, "pred": answer.numpy(), "probability": 1.0}))
                    item.update(_SIGNAL({"image": item["image"], "guidance": dict(found["guidance"])}))
        loss = loss_of(_answer(network.train(), items, learn=True), torch.from_numpy(np.stack([item["label"] for item in items])))
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimiser.step()
        schedule.step()
        report(float(loss.detach()))


def _slice(sampler: ClickSampler) -> dict[str, Any]:
    """A slice as DeepEdit's transforms want it, without a click: cut and spoilt as for the click refiner."""
    session, low = sampler.begin(), (SCENE - WINDOW) // 2
    at = (slice(None), *(slice(low, low + WINDOW),) * 2)
    nothing: dict[str, list[Any]] = {name: [] for name in _NAMES}
    image = np.concatenate([session.image[at], np.zeros((NUM_CLASSES, WINDOW, WINDOW), np.float32)])
    label = session.truth[None][at].astype(np.float32)
    return {"image": image, "label": label, "label_names": _NAMES, "sids": {name: [0] for name in _NAMES}, "guidance": nothing}


def _answer(network: nn.Module, items: list[dict[str, Any]], learn: bool = False) -> Tensor:
    images = torch.from_numpy(np.stack([np.asarray(item["image"], np.float32) for item in items]))
    with torch.set_grad_enabled(learn), autocast(images.device):
        logits: Tensor = network(images.contiguous(memory_format=torch.channels_last))
    return logits.float()
