"""scripts/import_acdc.py as a user runs it: exit codes, what is printed where, nothing changed on bad input."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from click.testing import Result

from scripts import import_acdc
from tests.scripts.cli import run_script


def run(*arguments: object) -> Result:
    return run_script(import_acdc.main, *arguments)


def complaints(done: Result) -> list[str]:
    """Lines on stderr that are not the progress bar."""
    return [line for line in done.stderr.replace("\r", "\n").splitlines() if line.strip() and "patient/s" not in line]


@pytest.fixture
def patient(tmp_path: Path) -> Path:
    folder = tmp_path / "ACDC" / "patient101"
    folder.mkdir(parents=True)
    (folder / "Info.cfg").write_text("ED: 1\nES: 2\nGroup: NOR\nHeight: 170.0\nNbFrame: 3\nWeight: 70.0\n")
    cine = np.random.default_rng(0).integers(0, 500, (9, 8, 3, 3)).astype(np.int16)
    parts = {"_4d": cine, "_frame01": cine[..., 0], "_frame02": cine[..., 1]}
    parts |= {f"_frame0{f}_gt": np.full((9, 8, 3), f, np.uint8) for f in (1, 2)}
    for ending, array in parts.items():
        image = nib.Nifti1Image(array, np.diag([-1.0, -1.0, 1.0, 1.0]))
        image.set_sform(image.affine, code=2)
        image.header.set_zooms((1.25, 1.25, 10.0, 1.0)[: array.ndim])
        nib.save(image, folder / f"patient101{ending}.nii.gz")
    return folder


def test_import_twice_then_all_frames(patient: Path, tmp_path: Path) -> None:
    target = tmp_path / "studies"
    done = run(patient.parent, target)
    assert (
        done.exit_code == 0 and "2 studies of 1 patient are in" in done.stdout and "4 files written" in done.stdout and not complaints(done)
    )
    assert "0 files written, 4 there already" in run(patient.parent, target, "--frames", "ed,es").stdout
    done = run(patient.parent, target, "--frames", "all")
    assert done.exit_code == 0 and "1 file written" in done.stdout
    np.testing.assert_allclose(
        np.abs(np.diag(nib.Nifti1Image.from_filename(target / "patient101_frame03.nii.gz").affine)), (1.25, 1.25, 10, 1)
    )


def test_a_corrected_label_is_kept_and_named(patient: Path, tmp_path: Path) -> None:
    target = tmp_path / "studies"
    run(patient.parent, target)
    label = target / "labels" / "final" / "patient101_frame01.nii.gz"
    label.write_bytes((target / "labels" / "final" / "patient101_frame02.nii.gz").read_bytes())
    before = label.read_bytes()
    done = run(patient.parent, target)
    assert done.exit_code == 0 and "labels/final/patient101_frame01.nii.gz" in done.stdout and label.read_bytes() == before


def test_each_fault_is_one_line_and_nothing_is_written(patient: Path, tmp_path: Path) -> None:
    (patient / "patient101_frame01_gt.nii.gz").unlink()
    image = patient / "patient101_frame02.nii.gz"
    image.write_bytes(image.read_bytes()[:-20])
    done = run(patient.parent, tmp_path / "studies")
    assert done.exit_code == 2 and not (tmp_path / "studies").exists()
    lines = complaints(done)
    assert len(lines) == 2 and "patient101_frame01_gt.nii.gz" in lines[0] and "patient101_frame02.nii.gz" in lines[1]


@pytest.mark.parametrize("arguments", [("nowhere", "studies"), ("nowhere",), ("ACDC", "studies", "--frames", "es")])
def test_unusable_arguments(patient: Path, tmp_path: Path, arguments: tuple[str, ...]) -> None:
    done = run(*(tmp_path / a if a in ("nowhere", "studies", "ACDC") else a for a in arguments))
    assert done.exit_code == 2 and complaints(done) and not (tmp_path / "studies").exists()


def test_a_target_that_cannot_be_made(patient: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    done = run(patient.parent, tmp_path / "file" / "studies")
    assert done.exit_code == 2 and len(complaints(done)) == 1 and "cannot be written to" in complaints(done)[0]
