"""Generated hearts and lesions, made once."""

from pathlib import Path

import pytest
import torch

from prato.models.checkpoint import model_preset, save_model
from tests.phantoms import make_thin_phantoms
from tests.prato.training.test_stack_training import SMALL
from tests.scripts.research.small import make_blobs, small_unetr


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The folders of three phantom patients and twelve lesions."""
    folder = tmp_path_factory.mktemp("data")
    make_thin_phantoms(folder / "acdc", 3)
    return {"acdc": folder / "acdc", "isic": make_blobs(folder / "isic", 12)}


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Networks for a test."""
    small_unetr(monkeypatch)


@pytest.fixture(scope="session")
def overview_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model file of an untrained network that looks at whole stacks, small enough for a test."""
    spec = model_preset("overview_swin_unetr")
    spec = spec.model_copy(update={"arguments": {**spec.arguments, **SMALL}})
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("model") / "overview.safetensors"
    save_model(path, spec.build(), spec)
    return path
