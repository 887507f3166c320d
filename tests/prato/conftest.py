"""Small model files and hearts for the tests of the science."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from prato.data.nifti import Volume
from prato.inference.image_stack import ImageStack
from prato.inference.prediction import Prediction
from prato.inference.predictor import Predictor
from prato.models.checkpoint import ModelSpec, model_preset, save_model
from prato.prompts.box import Box, BoxPrompt

SMALL = {
    "unetr": {"feature_size": 4, "hidden_size": 24, "mlp_dim": 48, "num_heads": 2},
    "swin_unetr": {"feature_size": 12, "window_size": 4, "num_heads": (1, 2, 2, 4)},
    "overview_unet": {"filters": (8, 8, 12, 16, 16), "overview_dim": 16, "overview_depth": 1},
    "overview_swin_unetr": {"feature_size": 12, "num_heads": (1, 2, 2, 4), "overview_dim": 16, "overview_depth": 1},
}


def small_spec(name: str) -> ModelSpec:
    spec = model_preset(name)
    return spec.model_copy(update={"arguments": {**spec.arguments, **SMALL[name]}})


def predict(predictor: Predictor, image: Volume | ImageStack, *boxes: Box, **options: Any) -> Prediction:
    """What ``predictor``'s networks make of ``image`` for ``boxes``, whatever image it has itself."""
    own = Predictor(predictor.segmenter, predictor.locator)
    own.set_image(image)
    return own.predict([BoxPrompt(box) for box in boxes], **options)


@pytest.fixture(scope="session")
def model_files(tmp_path_factory) -> dict[str, Path]:
    """Untrained model files: good for everything but the quality of a mask."""
    folder = tmp_path_factory.mktemp("models")
    files = {}
    for name in SMALL:
        torch.manual_seed(0)
        files[name] = folder / f"{name}.safetensors"
        save_model(files[name], small_spec(name).build(), small_spec(name))
    return files


@pytest.fixture
def heart() -> Volume:
    """A bright disc in the dark, 60 x 50 x 5 voxels of 2 x 2 x 8 mm, and its oblique affine."""
    i, j = np.meshgrid(np.arange(60), np.arange(50), indexing="ij")
    disc = (((i - 30) * 2) ** 2 + ((j - 20) * 2) ** 2 <= 30**2).astype(np.float32)
    array = np.repeat(disc[:, :, None] * 200, 5, axis=2)
    array += np.random.default_rng(0).normal(0, 5, array.shape).astype(np.float32)
    angle = 0.5
    affine = np.eye(4)
    affine[:3, :3] = np.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]]) * [2, 2, 8]
    return Volume(array, affine)
