"""scripts/research/shared_overview.py: told its own tokens a network answers as ever, told another phase's it does not."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from prato.data.nifti import read_volume
from prato.inference.predictor import Predictor
from prato.models.registry import DEFAULT_MODEL
from scripts.common.model_files import model_file
from scripts.common.results import read_rows
from scripts.research.shared_overview import SHARES, main, overview, segment
from tests.phantoms import make_thin_phantoms
from tests.scripts.cli import run_script


def test_the_network_is_told_the_tokens_that_are_given(tmp_path: Path) -> None:
    make_thin_phantoms(tmp_path, 1)
    volume = read_volume(min(tmp_path.glob("*.nii.gz")))
    predictor = Predictor.from_files(model_file(DEFAULT_MODEL))
    tokens = overview(predictor, volume)
    predictor.set_image(volume)
    plain = predictor.predict().mask
    assert plain.any() and np.array_equal(segment(predictor, volume, tokens), plain)
    assert not np.array_equal(segment(predictor, volume, torch.zeros_like(tokens)), plain)
    assert np.array_equal(segment(predictor, volume, tokens), plain)


@pytest.mark.slow
def test_a_row_for_each_phase_and_share(tmp_path: Path) -> None:
    make_thin_phantoms(studies := tmp_path / "studies", 1)
    split, out = tmp_path / "split.json", tmp_path / "out.csv"
    split.write_text('{"train": [], "validation": ["phantom001"], "seed": 0}')
    done = run_script(main, "--studies", studies, "--split", split, "--out", out)
    assert done.exit_code == 0, done.output
    rows = read_rows(out)
    assert len(rows) == 2 * len(SHARES) and {row["share"] for row in rows} == set(SHARES)
    assert run_script(main, "--studies", tmp_path, "--split", split, "--out", out).exit_code == 2
