"""A process that changes a studies folder and is killed at a step that the test chooses; see tests/prato/labelling/saver.py."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.prato.labelling import saver

ROOT = Path(__file__).parents[1]
KILLED = -9
Order = Callable[..., int]


@contextmanager
def killable() -> Iterator[Order]:
    """Lets another process do something in the folder ``studies`` of an order, and be killed; each order returns its exit code."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "apps" / "prato_label")}
    command = [sys.executable, saver.__file__]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stdin and process.stdout
        ask, answer = process.stdin, process.stdout

        def give(studies: Path, do: str, seed: int = 0, **more: float | str) -> int:
            ask.write(json.dumps({"studies": str(studies), "do": do, "seed": seed, **more}) + "\n")
            ask.flush()
            return int(answer.readline())

        yield give
        ask.close()
