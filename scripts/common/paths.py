"""Where things lie in this repository."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
#: The app that a server runs, and its shipped weights.
APP = ROOT / "apps" / "prato_label"
MODELS = APP / "model"
DOCS = ROOT / "docs"
RESULTS, IMAGES = DOCS / "results", DOCS / "images"
#: Which patients of ACDC the shipped models were trained on, and which they were validated on.
ACDC_SPLIT = RESULTS / "acdc_split.json"
#: The network behind a click; it serves every model.
REFINER = APP / "refiner" / "click_refiner.safetensors"
