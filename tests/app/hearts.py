"""Labels for the small studies of the live tests, a model that has everything to learn, and an app with it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from prato.data.structures import BACKGROUND, STRUCTURES
from prato.models.checkpoint import model_preset, save_model
from tests.app.live import copy_app, tiny_model


def heart(shape: tuple[int, ...] = (40, 36, 5)) -> np.ndarray:
    """The label of a study of ``write_study``: cavity and wall of its disc, and a bit of RV beside it."""
    x, y = np.meshgrid(np.arange(shape[0]) - 20, np.arange(shape[1]) - 18, indexing="ij")
    mask = np.zeros(shape, np.uint8)
    mask[np.hypot(x, y) < 9] = STRUCTURES["myocardium"]
    mask[np.hypot(x, y) < 6] = STRUCTURES["LV cavity"]
    mask[(np.hypot(x + 9, y) < 5) & (np.hypot(x, y) >= 9)] = STRUCTURES["RV cavity"]
    return mask


def blank_model(path: Path, seed: int = 0) -> str:
    """Save a small UNETR that calls everything background, if only just; returns its version. No training makes it worse."""
    spec = model_preset("unetr")
    small = {"img_size": 64, "feature_size": 4, "hidden_size": 24, "mlp_dim": 24, "num_heads": 3}
    spec = spec.model_copy(update={"arguments": {**spec.arguments, **small}, "window": 64, "pixel": 3.0})
    torch.manual_seed(seed)
    network = spec.build()
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if name.startswith("out."):
                parameter.mul_(0 if name.endswith("bias") else 0.01)
                if name.endswith("bias"):
                    parameter[BACKGROUND] = 0.03
    return save_model(path, network, spec)


def app_that_learns(folder: Path) -> Path:
    """The app at ``folder``: its UNETR is a :func:`blank_model`, its other networks are untrained."""
    app = copy_app(folder)
    (app / "model").mkdir()
    blank_model(app / "model" / "prato_unetr.safetensors")
    tiny_model(app / "model" / "prato_swin_unetr.safetensors", "swin_unetr")
    tiny_model(app / "model" / "prato_overview_unet.safetensors", "overview_unet")
    return app


def stack_model(path: Path) -> str:
    """Save a small network for whole stacks that calls everything background, if only just; returns its version."""
    spec = model_preset("overview_unet")
    small = {"filters": (8, 8, 12, 16, 16), "overview_dim": 16, "overview_depth": 1}
    spec = spec.model_copy(update={"arguments": {**spec.arguments, **small}, "window": 96})
    torch.manual_seed(0)
    network = spec.build()
    with torch.no_grad():
        network.output_block.conv.conv.weight.mul_(0.01)
        network.output_block.conv.conv.bias.copy_(torch.tensor([0.03, 0.0, 0.0, 0.0]))
    return save_model(path, network, spec)
