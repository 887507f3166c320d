"""The Slicer module on the path, as 3D Slicer puts it there, and beside it the real server as the tests of the app start it."""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "slicer_module" / "PratoLabel"), str(ROOT / "tests" / "app")]
