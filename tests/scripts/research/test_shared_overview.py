"""scripts/research/shared_overview.py: with its own overview a network answers as ever, with another phase's it does not."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from prato.data.nifti import read_volume
from prato.inference.predictor import Predictor, load_segmenter
from prato.inference.stack_segmenter import StackSegmenter
from prato.models.registry import DEFAULT_MODEL
from scripts.common.model_files import model_file
from scripts.common.results import read_rows
from scripts.research.shared_overview import ALL, BEYOND, NOTHING, WAYS, main, segment
from tests.phantoms import make_thin_phantoms
from tests.scripts.cli import run_script


@pytest.mark.slow
def test_the_other_phase_s_overview_is_taken_as_far_as_is_said(tmp_path: Path) -> None:
    make_thin_phantoms(tmp_path, 1)
    volume = read_volume(min(tmp_path.glob("*.nii.gz")))
    segmenter = load_segmenter(model_file(DEFAULT_MODEL), torch.device("cpu"))
    assert isinstance(segmenter, StackSegmenter)
    predictor = Predictor(segmenter)
    predictor.set_image(volume)
    plain = predictor.predict().mask
    assert plain.any()
    for way in WAYS:
        assert np.array_equal(segment(segmenter, volume, volume, way, None), plain)
    upside_down = replace(volume, array=np.ascontiguousarray(volume.array[::-1, ::-1]))
    assert np.array_equal(segment(segmenter, volume, upside_down, NOTHING, None), plain)
    assert not np.array_equal(segment(segmenter, volume, upside_down, ALL, None), plain)
    assert segment(segmenter, volume, upside_down, BEYOND, None).any()


@pytest.mark.slow
def test_a_row_for_each_phase_box_and_way(tmp_path: Path) -> None:
    make_thin_phantoms(studies := tmp_path / "studies", 1)
    split, out = tmp_path / "split.json", tmp_path / "out.csv"
    split.write_text('{"train": [], "validation": ["phantom001"], "seed": 0}')
    done = run_script(main, "--studies", studies, "--split", split, "--out", out)
    assert done.exit_code == 0, done.output
    rows = read_rows(out)
    assert len(rows) == 2 * 2 * len(WAYS) and {(row["box"], row["way"]) for row in rows} == {
        (box, way) for box in ("none", "tight") for way in WAYS
    }
    assert run_script(main, "--studies", tmp_path, "--split", split, "--out", out).exit_code == 2
    refused = run_script(main, "--studies", studies, "--split", split, "--out", out, "--model", "prato_unetr")
    assert refused.exit_code == 2 and "has no overview" in refused.output
