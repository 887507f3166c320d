"""Generated data and plans small enough for a test."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image

from scripts.research.experiments import sizes
from scripts.research.experiments.schema import Experiment

PLAN = {"after": [4, 7, 10], "percentile": 25.0}
#: UNETR in which a step takes a blink.
_UNETR = {"img_size": None, "norm_name": "batch", "spatial_dims": 2, "feature_size": 4, "hidden_size": 24, "mlp_dim": 48, "num_heads": 2}


def small_unetr(patched: pytest.MonkeyPatch) -> None:
    """Let "reduced" be smaller still."""
    patched.setitem(sizes.SIZES, ("unetr", "reduced"), _UNETR)


def tiny(method: str = "dense", sees_box: str = "not at all", data: str = "isic", **changed: Any) -> Experiment:
    """An experiment of two steps on images of 64 pixels."""
    given: dict[str, Any] = {"network": "unetr", "method": method, "sees_box": sees_box, "data": data, "budget": {"steps": 2, "batch": 2}}
    if method == "prato":
        given |= {"sees_box": "as prompt" if sees_box == "not at all" else sees_box, "plan": PLAN}
    return Experiment(**{**given, "image": 64, **changed})


def write_matrix(path: Path, rows: Mapping[str, dict[str, Any]], **common: Any) -> Path:
    """A matrix on "isic" with ``rows``, in which every experiment is as small as :func:`tiny`."""
    small = {"network": "unetr", "method": "dense", "sees_box": "not at all", "box": "tight", "image": 64}
    data = {name: {"budget": {"steps": 2, "batch": 2}} for name in ("acdc", "isic")}
    rows = {name: {"data": ["isic"], **row} for name, row in rows.items()}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(yaml.safe_dump({"common": {**small, **common}, "data": data, "rows": rows}))
    return path


def make_blobs(folder: Path, count: int) -> Path:
    """So many photographs of a dark ellipse on bright skin with their masks, as ISIC 2017 lies in its folder."""
    rng = np.random.default_rng(0)
    for part in ("images", "masks"):
        (folder / part).mkdir(parents=True)
    i, j = np.mgrid[:256, :256]
    for number in range(count):
        (a, b), (r, s) = rng.uniform(80, 176, 2), rng.uniform(30, 70, 2)
        lesion = ((i - a) / r) ** 2 + ((j - b) / s) ** 2 <= 1
        colour = np.where(lesion[..., None], (90, 60, 50), (220, 180, 160)) + rng.normal(0, 8, (256, 256, 3))
        Image.fromarray(colour.clip(0, 255).astype(np.uint8)).save(folder / "images" / f"ISIC_{number:07d}.jpg")
        Image.fromarray(lesion).save(folder / "masks" / f"ISIC_{number:07d}_segmentation.png")
    return folder
