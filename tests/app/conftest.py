"""One live server for all tests of the app: starting it takes longer than most of them."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from tests.app.guarded import TOKEN, WAITING
from tests.app.live import LiveServer, copy_app, oblique, start_server, tiny_model, write_study


@pytest.fixture(scope="session")
def live_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    """The stock command over a copy of the app with tiny models and a folder of small studies, good and bad."""
    folder = tmp_path_factory.mktemp("live")
    app, studies = copy_app(folder / "app"), folder / "studies"
    models = app / "model"
    models.mkdir()
    tiny_model(models / "prato_unetr.safetensors", "unetr")
    tiny_model(models / "prato_swin_unetr.safetensors", "swin_unetr")
    tiny_model(models / "prato_overview_unet.safetensors", "overview_unet")
    studies.mkdir()
    for n, name in enumerate(("heart_a", "heart_b", "heart_c", "patient001_frame01")):
        write_study(studies / f"{name}.nii.gz", seed=n)
    write_study(studies / "cine.nii.gz", shape=(40, 36, 5, 3))
    write_study(studies / "flat.nii.gz", shape=(40, 36))
    sheared = oblique((4.0, 4.0, 9.0))
    sheared[:3, 1] += 0.2 * sheared[:3, 0]
    write_study(studies / "sheared.nii.gz", affine=sheared)
    singular = np.diag([4.0, 4.0, 0.0, 1.0])
    write_study(studies / "singular.nii.gz", affine=singular)
    (studies / "torn.nii.gz").write_bytes((studies / "heart_a.nii.gz").read_bytes()[:900])
    with start_server(app, studies, folder / "server.log", forked=False) as server:
        yield server


@pytest.fixture(scope="session")
def guarded_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    """``serve.py`` with a token, takes 1 MiB at most and lets two inferences wait; one of its studies takes longer than any test waits."""
    folder = tmp_path_factory.mktemp("guarded")
    app, studies = copy_app(folder / "app"), folder / "studies"
    (app / "model").mkdir()
    tiny_model(app / "model" / "prato_unetr.safetensors", "unetr")
    tiny_model(app / "model" / "prato_swin_unetr.safetensors", "swin_unetr")
    tiny_model(app / "model" / "prato_overview_unet.safetensors", "overview_unet")
    studies.mkdir()
    for n, name in enumerate(("a_ED", "b_ED")):
        write_study(studies / f"{name}.nii.gz", seed=n)
    write_study(studies / "long.nii.gz", shape=(40, 36, 1000))
    (folder / "sessions" / "cut-short").mkdir(parents=True)  # as a power cut leaves one
    guards = {"PRATO_LABEL_TOKEN": TOKEN, "PRATO_LABEL_MAX_REQUEST_MB": "1", "PRATO_LABEL_MAX_WAITING": str(WAITING)}
    # every process of it is to end with it
    with start_server(app, studies, folder / "server.log", guards, forked_training=False) as server:
        yield server


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Chromium; tests that need it are skipped where it is not there. It holds an event loop, which no other file's tests should meet."""
    playwright = pytest.importorskip(
        "playwright.sync_api", reason="the web pages are untested: pip install playwright (tests/requirements.txt)"
    )
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if chromium is None:
        pytest.skip("the web pages are untested: there is no Chromium on this machine (apt-get install chromium)")
    flags = [
        "--no-sandbox",
        "--disable-gpu",
        "--enable-unsafe-swiftshader",
        "--disable-background-networking",
        "--disable-component-update",
        "--no-first-run",
    ]
    with playwright.sync_playwright() as driver:
        started = driver.chromium.launch(executable_path=chromium, args=flags, timeout=200_000)
        yield started
        started.close()
