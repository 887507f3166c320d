"""Clicks far from the heart: refused, whatever part of a mask comes with them."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from lib.infers import click_infer
from prato.data.cine import read_cine, write_cine
from prato.data.nifti import Volume, VolumeError
from prato.inference.image_stack import ImageStack
from prato.inference.request import InferenceRequest, RequestError
from prato.inference.scores import Scores, quantise
from prato.prompts.box import Box
from prato.prompts.clicks import Stroke
from prato.prompts.mask_prompt import encode_part
from prato.runtime.cancel_token import NEVER_CANCELLED
from prato.runtime.region import Region
from tests.storage import Storage, oblique

SHAPE = (24, 20, 6)
IMAGE = ImageStack(Volume(np.zeros(SHAPE, np.float32), np.diag([1.5, 1.5, 8.0, 1.0])))
REVERSED = ImageStack(Storage((0, 1, 2), (1, 1, -1)).volume(oblique(np.zeros(SHAPE, np.float32), (1.5, 1.5, 8.0))))
REACHES = "slice 0, but the heart reaches from slice 3 to 4"


def hearts(*slices: int) -> np.ndarray:
    mask = np.zeros(SHAPE, np.uint8)
    mask[8:14, 8:14, list(slices)] = 3
    return mask


def scores(*slices: int) -> Scores:
    logits = torch.zeros(len(SHAPE) + 1, 4, 5, 5)
    logits[:, 0] = 1
    logits[: len(slices), 3, 2, 2] = 2
    planes = (*slices, *(k for k in range(SHAPE[2]) if k not in slices))[: len(logits)]
    return Scores(quantise(logits).numpy(), Region.whole((5, 5)), (5, 5), planes)


def test_the_phase_that_was_clicked_on_last_is_kept_for_the_next_click(tmp_path: Path) -> None:
    voxels = np.random.default_rng(0).integers(0, 99, (*SHAPE, 3)).astype(np.int16)
    write_cine(tmp_path / "cine.nii.gz", voxels, IMAGE.stored.affine, 40)
    cine = read_cine(tmp_path / "cine.nii.gz")
    first = click_infer.clicked_phase(cine, 2)
    assert np.array_equal(first.stored.array, voxels[..., 2]) and click_infer.clicked_phase(cine, 2) is first
    assert np.array_equal(click_infer.clicked_phase(cine, 0).stored.array, voxels[..., 0])
    assert np.array_equal(click_infer.clicked_phase(cine, 2).stored.array, voxels[..., 2])
    with pytest.raises(VolumeError):
        click_infer.clicked_phase(cine, 3)


def test_beside_the_mask_that_a_model_has_just_made() -> None:
    stroke = Stroke(3, np.array([[10, 10, 0]]))
    with pytest.raises(RequestError, match=REACHES):
        click_infer.correct_prediction(SimpleNamespace(), "cpu", IMAGE, (), hearts(3, 4), [stroke], NEVER_CANCELLED)  # type: ignore[arg-type]


WHOLE, CLICKED, HALF = (Box((0, 0, low), (*SHAPE[:2], high)) for low, high in ((0, 6), (0, 1), (0, 5)))


@pytest.mark.parametrize("image", [IMAGE, REVERSED], ids=["as networks see it", "slices reversed"])
@pytest.mark.parametrize(
    ("sent", "box", "known"), [(hearts(), CLICKED, (3, 4)), (hearts(), WHOLE, (3, 4)), (hearts(3, 4), WHOLE, (0,)), (hearts(4), HALF, (3,))]
)
def test_beside_the_mask_that_was_sent_and_what_the_network_thinks(
    sent: np.ndarray, box: Box, known: tuple[int, ...], image: ImageStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    predictor: Any = SimpleNamespace(scores=lambda *_: scores(*image.renumber_slices(known)))
    monkeypatch.setattr(click_infer.live_refiner, "run", lambda device, call: call(None))
    clicks = [{"structure": "LV", "points": [[10, 10, 0]]}]
    request = InferenceRequest.parse({"clicks": clicks, "previous": encode_part(sent, box)})
    with pytest.raises(RequestError, match=REACHES):
        click_infer.correct(predictor, "cpu", image, request, NEVER_CANCELLED)
