"""What every test shares: one thread of torch, what counts as slow, and which files go to which process of pytest-xdist."""

# ruff: noqa: E402
from __future__ import annotations

import gc

gc.disable()  # until all is imported, which stays

from functools import cache
from pathlib import Path
from typing import Any
from zlib import crc32

import hypothesis
import pytest
import torch

import prato  # noqa: F401  (before any test imports MONAI, as in every command)

# two test processes, or a server beside a test, on two cores: more threads than cores wait for each other
torch.set_num_threads(1)
# nor is any test about how long an example takes
hypothesis.settings.register_profile("untimed", deadline=None)
hypothesis.settings.load_profile("untimed")

ROOT = Path(__file__).resolve().parents[1]
#: What is named by the files that share a server: they run in one process, in the order of their names, so that each server is started
#: once, and what stops it comes last.
SHARED_SERVERS = ("live_server", "guarded_server", "live_logic")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Tests on the real server (``*_live.py``) are slow; with several processes, files with slow tests come first.

    The file that waits longest begins, and the others are mixed: those of a folder wait for the same things, and would do so at once. What
    stops a shared server comes after all that use it.
    """
    items.sort(key=lambda item: item.path.stem == "test_stop_live")
    for item in items:
        if item.path.stem.endswith("_live"):
            item.add_marker(pytest.mark.slow)
    if hasattr(config, "workerinput"):
        slow = {item.path for item in items if item.get_closest_marker("slow")}
        mixed = {path: crc32(_server_or_file(str(path.relative_to(ROOT))).encode()) for path in {item.path for item in items}}
        items.sort(key=lambda item: (item.path.stem != "test_batch_cluster", item.path not in slow, mixed[item.path]))


def pytest_collection_finish() -> None:
    """What is loaded now stays until the end: looking through all of it for garbage, again and again, would take time."""
    gc.collect()
    gc.freeze()
    gc.enable()


@pytest.hookimpl(optionalhook=True)  # of pytest-xdist
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """A file's tests share a process, and so do the files that share a server."""
    from xdist.scheduler import LoadScopeScheduling

    class ByServer(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return _server_or_file(nodeid.split("::", maxsplit=1)[0])

    return ByServer(config, log)


@cache
def _server_or_file(file: str) -> str:
    source = (ROOT / file).read_text(encoding="utf-8")
    return next((server for server in SHARED_SERVERS if server in source), file)
