"""The Slicer module on the path, as 3D Slicer puts it there."""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "slicer_module" / "PratoLabel"))
