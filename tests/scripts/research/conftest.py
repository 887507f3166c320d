"""Generated hearts and lesions, made once."""

from pathlib import Path

import pytest

from tests.phantoms import make_thin_phantoms
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
