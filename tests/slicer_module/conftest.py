"""What the tests of the Slicer module share: servers, real and fake, and the panel or the logic in front of them."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture(scope="module", autouse=True)
def _closed() -> Iterator[None]:
    """In 3D Slicer, C++ owns the windows that modules' panels lie in. Here they would be garbage, and another thread that happened to
    collect it would wait for the main thread for ever."""
    yield
    if "PySide6.QtWidgets" in sys.modules:
        import shiboken6
        from PySide6.QtWidgets import QApplication

        for window in QApplication.topLevelWidgets() if QApplication.instance() else ():
            if shiboken6.isValid(window):  # it may have gone with another
                shiboken6.delete(window)


@pytest.fixture(scope="session")
def labelling_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """The real server of the logic's tests, which change its studies one after another."""
    from tests.slicer_module.live_logic import start_labelling_server  # needs slicer-core, which a test that uses it has checked

    with start_labelling_server(tmp_path_factory.mktemp("slicer")) as running:
        yield running


@pytest.fixture
def logic(labelling_server: Any) -> Iterator[Any]:
    """The module's logic, connected, with an empty scene."""
    from tests.slicer_harness.core import new_scene
    from tests.slicer_module.live_logic import connected_logic

    new_scene()
    with connected_logic(labelling_server) as connected:
        yield connected


@pytest.fixture
def driver(tmp_path: Path) -> Iterator[Any]:
    """The panel in front of a fake server, in an empty scene."""
    from tests.slicer_module.panel_driver import run_panel  # needs slicer-core and Qt

    with run_panel(tmp_path) as panel:
        yield panel


@pytest.fixture
def cine_driver(tmp_path: Path) -> Iterator[Any]:
    """The same, of a server that has a cine."""
    from tests.slicer_module.cine_driver import run_cine_panel

    with run_cine_panel(tmp_path) as panel:
        yield panel


@pytest.fixture
def fake_server() -> Iterator[Any]:
    """A server that replies as the test sets it."""
    from tests.slicer_module.fake_server import run_fake_server

    with run_fake_server() as running:
        yield running


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with an image for every kind of request."""
    (tmp_path / "image.nii.gz").write_bytes(b"\x1f\x8b" + bytes(range(256)))
    return tmp_path


@pytest.fixture
def questions(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Answers what the panel asks."""
    from tests.slicer_module.unsent import Questions  # needs slicer-core

    return Questions(monkeypatch)
