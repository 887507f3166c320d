"""scripts/bench/cine_request.py: what is served has the size that is asked for, and no two images of it are the same."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from prato.data.cine import read_cine, write_cine
from prato.data.nifti import read_volume
from scripts.bench.cine_request import _read, _write_heart


@pytest.mark.parametrize(("slices", "phases"), [(5, 7), (2, 3)], ids=["repeated", "left out"])
def test_a_cine_and_its_phases_are_served(tmp_path: Path, slices: int, phases: int) -> None:
    array = (500 + 100 * np.random.default_rng(0).normal(size=(24, 20, 3, 4))).astype(np.int16)
    write_cine(tmp_path / "real.nii.gz", array, np.diag([1.5, 1.5, 8, 1]), 200)
    images, affine, beat_ms = _read(tmp_path / "real.nii.gz")
    assert images.shape == array.shape and beat_ms == pytest.approx(800)
    for n in range(2):
        _write_heart(tmp_path, n, images, affine, beat_ms, phases, slices)
    cines = [read_cine(tmp_path / f"heart{n}.nii.gz") for n in range(2)]
    assert [len(cine) for cine in cines] == [phases] * 2 and cines[0].times_ms[1] == pytest.approx(800 / phases)
    seen = set()
    for n, cine in enumerate(cines):
        for t in range(phases):
            phase, alone = cine.phase(t).array, read_volume(tmp_path / f"heart{n}_frame{t:02d}.nii.gz").array
            assert np.array_equal(phase, alone) and phase.shape == (24, 20, slices)
            assert np.abs(phase[:, :, 1] - array[:, :, 1, t % 4]).max() <= 1
            seen.add(phase.tobytes())
    assert len(seen) == 2 * phases
