"""What every forked server has loaded: nothing that reads a setting of MONAI Label, and nothing of the app, which it has its own of."""

# ruff: noqa: E402, F401
from __future__ import annotations

from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

_spec = spec_from_file_location(
    "light_import_of_monai", Path(__file__).resolve().parents[2] / "apps" / "prato_label" / "prato" / "runtime" / "monai_import.py"
)
assert _spec is not None and _spec.loader is not None
_light = module_from_spec(_spec)
_spec.loader.exec_module(_light)
_light.import_monai_lightly()  # as the app does

import dicomweb_client
import fastapi
import matplotlib.figure
import monai
import nibabel
import scipy.optimize
import scipy.stats
import SimpleITK
import torch
import torch._dynamo  # which optimisers import as they are made, and takes longer than a short training
import uvicorn
