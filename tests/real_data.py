"""Data of real patients, which are not part of the project: where they lie, or which tests are skipped for want of them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest


def require_real_data(name: str) -> Path:
    """The folder ``name`` of the one that PRATO_SHARED_DATA names, by default ``shared/data`` beside the repository; skips without it."""
    folder = Path(os.environ.get("PRATO_SHARED_DATA", Path(__file__).resolve().parents[2] / "shared" / "data")) / name
    if not folder.is_dir():
        pytest.skip(f"REAL DATA MISSING: {folder} does not exist (PRATO_SHARED_DATA names the folder that holds {Path(name).parts[0]}/)")
    return folder
