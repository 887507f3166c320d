"""The Slicer module on the path, as 3D Slicer puts it there, and beside it the real server as the tests of the app start it."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "slicer_module" / "PratoLabel"), str(ROOT / "tests" / "app")]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """The server of the logic's tests, one a file; a file that has its own overrides it."""
    from logic_loop import loop_server  # needs slicer-core, which a test that asks for it has looked for

    with loop_server(tmp_path_factory.mktemp("slicer")) as running:
        yield running


@pytest.fixture
def logic(server: Any) -> Iterator[Any]:
    """The module's logic, connected, with an empty scene."""
    from logic_loop import connected_logic

    from tests.slicer_harness.core import new_scene

    new_scene()
    with connected_logic(server) as connected:
        yield connected


@pytest.fixture
def shown(tmp_path: Path) -> Iterator[Any]:
    """The panel before a double of the server, in an empty scene."""
    from driver import shown_panel  # needs slicer-core and Qt

    with shown_panel(tmp_path) as panel:
        yield panel


@pytest.fixture
def double() -> Iterator[Any]:
    """A double of the server that answers as it is told."""
    from http_double import http_double

    with http_double() as running:
        yield running


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with an image for every kind of request."""
    (tmp_path / "image.nii.gz").write_bytes(b"\x1f\x8b" + bytes(range(256)))
    return tmp_path
