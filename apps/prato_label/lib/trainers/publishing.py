"""The step from a trained candidate to the model that answers."""

from __future__ import annotations

import os
from pathlib import Path

from prato.data.atomic import write_bytes

_KEPT = 5


def publish(candidate: Path, model: Path, versions: Path, current: str) -> None:
    """Put ``candidate`` in the place of ``model`` in one step; the model that was there is kept as ``versions/<current>.safetensors``.

    The last five replaced models are kept. ``candidate`` must lie on the same file system.
    """
    versions.mkdir(parents=True, exist_ok=True)
    write_bytes(versions / f"{current}{model.suffix}", model.read_bytes())
    os.replace(candidate, model)
    for old in sorted(versions.glob(f"*{model.suffix}"), key=lambda path: path.stat().st_mtime_ns)[:-_KEPT]:
        old.unlink()
