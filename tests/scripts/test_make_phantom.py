"""scripts/make_phantom.py as a user runs it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from prato.data.cine import read_cine
from prato.data.labels.check import check_label, read_label_volume
from prato.data.studies.folder import find_labelled_studies, load_manifest
from prato.function.hearts import find_hearts
from prato.labelling.trusted import find_trusted_phases
from prato.labelling.versions import anatomy_warnings
from prato.phantom.beat import MIN_PHASES, make_beats, random_timing
from scripts import make_phantom
from tests.scripts.cli import run_script


@pytest.mark.slow
def test_patients_are_made_and_a_second_run_leaves_them_alone(tmp_path: Path) -> None:
    done = run_script(make_phantom.main, tmp_path / "s", "--patients", 1, "--seed", 4)
    assert done.exit_code == 0 and "2 studies of 1 patient are in" in done.stdout
    before = {p: p.read_bytes() for p in (tmp_path / "s").rglob("*") if p.is_file()}
    assert len(before) == 5
    again = run_script(make_phantom.main, tmp_path / "s", "--patients", 3, "--seed", 5)
    assert again.exit_code == 2 and "not an empty folder" in again.stderr
    assert {p: p.read_bytes() for p in (tmp_path / "s").rglob("*") if p.is_file()} == before


@pytest.mark.slow
def test_whole_beats_are_studies_that_can_be_measured(tmp_path: Path) -> None:
    folder = tmp_path / "s"
    done = run_script(make_phantom.main, folder, "--cine", "--patients", 2, "--phases", 6, "--seed", 4)
    assert done.exit_code == 0 and "2 studies of 2 patients" in done.stdout, done.output
    manifest, begins = load_manifest(folder), set()
    assert manifest is not None and [*manifest.studies] == ["phantom001_4d", "phantom002_4d"]
    for name, study in manifest.studies.items():
        image, path = read_cine(folder / f"{name}.nii.gz"), folder / "labels" / "final" / f"{name}.nii.gz"
        assert len(image) == 6 and image.warnings == () and image.times_ms is not None and 600 < image.times_ms[1] * 6 < 1300
        label = check_label(image.grid(), read_label_volume(path, name), name)
        assert label.dtype == np.uint8 and all(set(np.unique(label[..., t])) == {0, 1, 2, 3} for t in range(6))
        assert anatomy_warnings(image.grid().with_array(label)) == ()
        begins.add(study.ed)
    assert begins != {0}  # anywhere in the cycle
    hearts = find_hearts(folder)
    assert hearts.left_out == [] and [heart.name for heart in hearts.hearts] == [*manifest.studies]
    for heart in hearts.hearts:
        study = manifest.studies[heart.name]
        assert (heart.phases[heart.function.ed], heart.phases[heart.function.es]) == (str(study.ed), str(study.es))
        assert heart.ed_es_source == "named by the manifest" and 10 < heart.function.lv.ef_percent < 80
    trusted, left_out = find_trusted_phases(find_labelled_studies(folder))
    assert len(trusted) == 12 and not left_out
    make_beats(tmp_path / "again", 1, 4, 6)
    for name in ("phantom001_4d.nii.gz", "labels/final/phantom001_4d.nii.gz"):
        assert (tmp_path / "again" / name).read_bytes() == (folder / name).read_bytes()


@given(seed=st.integers(0, 2**32), number=st.integers(1, 999), start=st.floats(0, 1), phases=st.integers(MIN_PHASES, 40))
def test_end_systole_is_another_phase_than_end_diastole(seed: int, number: int, start: float, phases: int) -> None:
    timing = random_timing(np.random.default_rng([seed, number]))
    at = (start + np.arange(phases) / phases) % 1
    away = np.abs((at[:, None] - [0, timing.end] + 0.5) % 1 - 0.5)  # of each phase from both moments
    assert away[:, 0].argmin() != away[:, 1].argmin()


@pytest.mark.parametrize(
    "arguments", [("--cine", "--phases", MIN_PHASES - 1), ("--patients", 0), ("--patients", "x"), ("--seed", -1), ("--phases", 20)]
)
def test_unusable_arguments(tmp_path: Path, arguments: tuple[object, ...]) -> None:
    done = run_script(make_phantom.main, tmp_path / "s", *arguments)
    assert done.exit_code == 2 and not (tmp_path / "s").exists()
