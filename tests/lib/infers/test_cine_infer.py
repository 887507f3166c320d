"""What is remembered of a cine from one request to the next."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from lib.infers.cine_infer import answer
from lib.infers.inference_queue import InferenceSlot
from prato.data.cine import Cine, read_cine, write_cine
from prato.inference.cine_predictor import predict_cine
from prato.inference.prediction import CinePrediction
from prato.inference.predictor import Predictor
from prato.inference.request import InferenceRequest
from tests.app.live import tiny_model


@pytest.mark.slow
def test_end_diastole_belongs_to_the_model_that_found_it_also_where_that_was_published_while_the_request_waited(tmp_path: Path) -> None:
    array = np.random.default_rng(0).integers(0, 200, (40, 36, 5, 3)).astype(np.int16)
    write_cine(tmp_path / "beat.nii.gz", array, np.diag([4.0, 4.0, 9.0, 1.0]), 300)
    versions = [tiny_model(tmp_path / f"{seed}.safetensors", "overview_unet", seed) for seed in (0, 1)]
    published, cine, asked = Predictor.from_files(tmp_path / "1.safetensors"), read_cine(tmp_path / "beat.nii.gz"), []

    def predict(device: str, cine: Cine, phases: Sequence[int], *drawn: Any, **options: Any) -> CinePrediction:
        asked.append(tuple(phases))
        found = predict_cine(published, cine, phases)
        version = versions[1] if len(asked) == 1 else versions[0]  # rolled back after the first request
        return replace(found, predictions=tuple(replace(one, model_version=version) for one in found.predictions))

    models: Any = SimpleNamespace(version=lambda: versions[0], predict_cine=predict)
    for _ in range(2):
        answer(models, "cpu", cine, InferenceRequest.parse({}), InferenceSlot("one"))
    assert asked == [(0, 1, 2), (0, 1, 2)]
