"""Models that look at whole stacks, for what is measured of their overview."""

from __future__ import annotations

import torch

from prato.inference.predictor import load_segmenter
from prato.inference.stack_segmenter import StackSegmenter
from scripts.common.model_files import model_file


def load_overview_model(name: str) -> StackSegmenter:
    """The shipped model ``name``, or a model file, on the CPU.

    Raises:
        ValueError: there is no such model, or it has no overview.
    """
    segmenter = load_segmenter(model_file(name), torch.device("cpu"))
    if not isinstance(segmenter, StackSegmenter):
        raise ValueError(f"{name} has no overview: name a model that looks at whole stacks.")
    return segmenter
