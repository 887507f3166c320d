"""scripts/pack_studies.py: what training loads of the copy is what it loads of the original."""

import os
from pathlib import Path

import numpy as np
import pytest
import torch

from prato.data.cases import load_training_case
from prato.data.nifti import read_volume, write_volume
from prato.data.studies.folder import find_labelled_studies
from prato.labelling.versions import LabelVersions
from prato.models.registry import PIXEL
from scripts import pack_studies
from tests.scripts.cli import run_script


@pytest.fixture
def studies(tmp_path: Path) -> Path:
    folder = tmp_path / "studies"
    (folder / "labels" / "final").mkdir(parents=True)
    add_study(folder, "a_1", (90, 112, 4), (1.8, 1.8, 8.0))
    add_study(folder, "b_1", (3, 70, 61), (9.0, 1.4, 1.7))
    return folder


def add_study(folder: Path, name: str, shape: tuple[int, ...], spacing: tuple[float, ...]) -> None:
    rng = np.random.default_rng(sum(shape))
    affine = np.eye(4)
    affine[:3, :3], affine[:3, 3] = np.linalg.qr(rng.standard_normal((3, 3)))[0] @ np.diag(spacing), (10, -20, 30)
    image = np.cumsum(rng.standard_normal(shape), axis=int(np.argsort(shape)[1])).astype(np.float32)
    label = np.zeros(shape, np.uint8)
    label[tuple(slice(n // 3, n - n // 4) for n in shape)] = 2
    write_volume(folder / f"{name}.nii.gz", image, affine)
    write_volume(folder / "labels" / "final" / f"{name}.nii.gz", label, affine)


def test_training_sees_the_same(studies: Path, tmp_path: Path) -> None:
    add_study(studies, "thin_1", (7, 80, 66), (2.1, 1.2, 1.3))
    done = run_script(pack_studies.main, "--studies", studies, "--out", tmp_path / "small", "--edge", 100)
    assert done.exit_code == 0, done.output
    count = len(find_labelled_studies(studies))
    assert f"{count} of {count} studies are in {tmp_path / 'small'}, {count} of them new." in done.output
    for before, after in zip(find_labelled_studies(studies), find_labelled_studies(tmp_path / "small"), strict=True):
        whole, small = load_training_case(before, PIXEL), load_training_case(after, PIXEL)
        assert whole and small and small.pixel == pytest.approx(whole.pixel, rel=1e-6) and small.slices == whole.slices
        cut = [(w - s) // 2 for w, s in zip(whole.image.shape[1:], small.image.shape[1:])]
        assert max(small.image.shape[1:]) <= 100
        inner = tuple(slice(c, c + s) for c, s in zip(cut, small.image.shape[1:]))
        assert torch.equal(small.label, whole.label[:, inner[0], inner[1]])
        difference = (small.image - whole.image[:, inner[0], inner[1]]).abs()
        assert difference.median() < 0.004 and (difference < 0.005).float().mean() > 0.98  # half a step, but for the two tails
        # the middle of the image lies where it lay
        centre = [read_volume(f.image).affine @ (*((np.array(read_volume(f.image).array.shape) - 1) / 2), 1) for f in (before, after)]
        np.testing.assert_allclose(centre[0], centre[1], atol=1e-3)
    times = {p: p.stat().st_mtime_ns for p in (tmp_path / "small").rglob("*.nii.gz")}
    done = run_script(pack_studies.main, "--studies", studies, "--out", tmp_path / "small", "--edge", 100)
    assert done.exit_code == 0 and f"{count} of {count} studies are in {tmp_path / 'small'}, 0 of them new." in done.output
    assert times == {p: p.stat().st_mtime_ns for p in (tmp_path / "small").rglob("*.nii.gz")}


def test_what_is_left_out_is_named_and_told_by_the_exit_code(studies: Path, tmp_path: Path) -> None:
    label = studies / "labels" / "final" / "a_1.nii.gz"
    volume = read_volume(label)
    write_volume(label, np.zeros_like(volume.array), volume.affine)
    (studies / "labels" / "final" / "b_1.nii.gz").write_bytes(b"no image")
    done = run_script(pack_studies.main, "--studies", studies, "--out", tmp_path / "small")
    assert done.exit_code == 1
    assert "a_1 is left out: its label is empty." in done.stderr and "b_1 is left out: " in done.stderr
    assert f"0 of 2 studies are in {tmp_path / 'small'}, 0 of them new." in done.stdout
    assert not [*(tmp_path / "small").glob("*.nii.gz")]


def test_what_was_corrected_or_sent_back_since_is_not_trained_on_as_it_was(studies: Path, tmp_path: Path) -> None:
    small = tmp_path / "small"
    labels = {study: LabelVersions(studies, study) for study in ("a_1", "b_1")}
    volumes = {study: read_volume(studies / "labels" / "final" / f"{study}.nii.gz") for study in labels}
    for study, label in labels.items():
        label.save(volumes[study], {"annotator": "Ada"})
    run_script(pack_studies.main, "--studies", studies, "--out", small)
    before = {study: voxels(small, study) for study in labels}
    labels["a_1"].save(volumes["a_1"].with_array(np.roll(volumes["a_1"].array, 9, 1)), {"annotator": "Ada"})
    labels["b_1"].review("sent back", {"annotator": "Bob", "reason": "the base is missing"})
    done = run_script(pack_studies.main, "--studies", studies, "--out", small)
    assert done.exit_code == 1 and "b_1 is left out: The label for b_1 is a proposal or was sent back" in done.stderr
    assert "1 of 2 studies are in" in done.stdout and "1 of them new" in done.stdout
    assert not np.array_equal(before["a_1"], voxels(small, "a_1"))
    assert [file.study for file in find_labelled_studies(small)] == ["a_1"]


@pytest.mark.parametrize("fate", ["emptied", "removed", "damaged", "older"])
def test_a_copy_of_a_label_that_is_not_there_any_more_is_not_trained_on(studies: Path, tmp_path: Path, fate: str) -> None:
    small, label = tmp_path / "small", studies / "labels" / "final" / "a_1.nii.gz"
    assert run_script(pack_studies.main, "--studies", studies, "--out", small).exit_code == 0
    volume = read_volume(label)
    if fate == "removed":
        label.unlink()
    elif fate == "damaged":
        (studies / "a_1.nii.gz").write_bytes(b"no image")
    else:
        write_volume(label, np.roll(volume.array, 9, 1) if fate == "older" else np.zeros_like(volume.array), volume.affine)
        os.utime(label, (1e9, 1e9))
    done = run_script(pack_studies.main, "--studies", studies, "--out", small)
    assert done.exit_code == (fate in ("emptied", "damaged"))
    assert ("1 of them new" in done.stdout) == (fate == "older")
    assert [file.study for file in find_labelled_studies(small)] == (["a_1", "b_1"] if fate == "older" else ["b_1"])
    assert "0 of them new" in run_script(pack_studies.main, "--studies", studies, "--out", small).stdout


def test_a_label_that_was_drawn_on_the_copy_stays(studies: Path, tmp_path: Path) -> None:
    small = tmp_path / "small"
    run_script(pack_studies.main, "--studies", studies, "--out", small)
    copy = read_volume(small / "labels" / "final" / "a_1.nii.gz")
    LabelVersions(small, "a_1").save(copy.with_array(np.roll(copy.array, 3, 0)), {"annotator": "Ada"})
    drawn = voxels(small, "a_1")
    os.utime(studies / "a_1.nii.gz", (4e9, 4e9))
    run_script(pack_studies.main, "--studies", studies, "--out", small)
    assert np.array_equal(drawn, voxels(small, "a_1"))


def voxels(folder: Path, study: str) -> np.ndarray:
    return read_volume(folder / "labels" / "final" / f"{study}.nii.gz").array


def test_refused_in_a_sentence(studies: Path, tmp_path: Path) -> None:
    for arguments, said in [
        (("--studies", tmp_path, "--out", tmp_path / "x"), "no labelled studies"),
        (("--studies", studies, "--out", studies), "another"),
        (("--studies", studies, "--out", studies / "a_1.nii.gz"), "a_1.nii.gz cannot be written: name a folder"),
    ]:
        done = run_script(pack_studies.main, *arguments)
        assert done.exit_code == 2 and said in done.stderr and done.stderr.count("\n") == 1
