"""The phantom: hearts of plausible size that beat, in ACDC's layout, on an oblique grid that nibabel and SimpleITK agree on."""

from __future__ import annotations

import time
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
from scipy.ndimage import label

from prato.data.structures import NUM_CLASSES, STRUCTURES
from prato.data.studies.folder import load_manifest
from prato.phantom.frames import Phantom, make_phantom, make_phantoms

NUMBERS = range(1, 5)


@pytest.fixture(scope="module")
def patients() -> list[Phantom]:
    return [make_phantom(0, number) for number in NUMBERS]


def ml(phantom: Phantom, phase: str, name: str) -> float:
    voxel = abs(np.linalg.det(phantom.affine[:3, :3])) / 1000
    return float((phantom.labels[phase] == STRUCTURES[name]).sum() * voxel)


@pytest.mark.slow
def test_hearts_beat_within_what_is_seen_in_people(patients: list[Phantom]) -> None:
    for p in patients:
        ed, es = ml(p, "ED", "LV cavity"), ml(p, "ES", "LV cavity")
        assert 80 < ed < 320 and 80 < ml(p, "ED", "RV cavity") < 300 and 80 < ml(p, "ED", "myocardium") < 260
        assert 0.3 < (ed - es) / ed < 0.78
        assert ml(p, "ES", "RV cavity") < 0.8 * ml(p, "ED", "RV cavity")
        assert ml(p, "ES", "myocardium") == pytest.approx(ml(p, "ED", "myocardium"), rel=0.2), "muscle is neither made nor lost in a beat"


@pytest.mark.slow
def test_patients_differ_and_one_is_hypertrophic(patients: list[Phantom]) -> None:
    assert {p.kind for p in patients} == {"normal", "hypertrophic", "dilated"}
    ratio = {p.kind: ml(p, "ED", "myocardium") / ml(p, "ED", "LV cavity") for p in patients[:3]}
    assert ratio["hypertrophic"] > ratio["normal"] > ratio["dilated"]
    assert len({round(ml(p, "ED", "LV cavity"), 1) for p in patients}) == len(patients)
    assert np.ptp([p.images["ED"].mean() for p in patients]) > 20


@pytest.mark.slow
def test_layout_in_index_space_is_that_of_acdc(patients: list[Phantom]) -> None:
    """RV at lower i than the LV, base at k = 0, and blood brighter than muscle brighter than lung."""
    for p in patients:
        for phase in ("ED", "ES"):
            mask, image = p.labels[phase], p.images[phase]
            rv, myo, lv = (np.argwhere(mask == STRUCTURES[s]) for s in ("RV cavity", "myocardium", "LV cavity"))
            assert rv[:, 0].mean() < lv[:, 0].mean() - 10
            area = [(mask[:, :, k] == STRUCTURES["LV cavity"]).sum() for k in np.flatnonzero((mask > 0).any((0, 1)))]
            assert max(area[:4]) > 2 * area[-1], "the LV must taper to the apex"
            assert rv[:, 2].max() <= myo[:, 2].max()
            blood, muscle = image[mask == STRUCTURES["LV cavity"]].mean(), image[mask == STRUCTURES["myocardium"]].mean()
            assert blood > 2 * muscle
            assert np.percentile(image, 15) < 0.25 * muscle
        assert (p.labels["ED"][:, :, 0] > 0).any()


def test_the_ring_is_closed_and_the_crescent_is_one_piece(patients: list[Phantom]) -> None:
    for p in patients:
        for mask in p.labels.values():
            assert mask.dtype == np.uint8 and set(np.unique(mask)) == set(range(NUM_CLASSES))
            for k in range(mask.shape[2]):
                plane = mask[:, :, k]
                assert label(plane == STRUCTURES["RV cavity"])[1] <= 1
                cavity = np.pad(plane == STRUCTURES["LV cavity"], 1)
                round_it = np.zeros_like(cavity)
                for axis, step in ((0, 1), (0, -1), (1, 1), (1, -1)):
                    round_it |= np.roll(cavity, step, axis)
                beside = np.pad(plane, 1)[round_it & ~cavity]
                assert (beside == STRUCTURES["myocardium"]).all(), "the LV cavity touches something other than myocardium"


def test_papillary_muscles_are_dark_and_belong_to_the_cavity(patients: list[Phantom]) -> None:
    p = patients[0]
    k = p.labels["ED"].shape[2] // 2
    plane, mask = p.images["ED"][:, :, k].astype(float), p.labels["ED"][:, :, k]
    blood = plane[mask == STRUCTURES["LV cavity"]]
    muscle = np.median(plane[mask == STRUCTURES["myocardium"]])
    assert 0.01 < (blood < (muscle + np.median(blood)) / 2).mean() < 0.25


@pytest.mark.slow
def test_grid_is_anisotropic_oblique_and_read_alike(tmp_path: Path, patients: list[Phantom]) -> None:
    make_phantoms(tmp_path / "s", 1, seed=0)
    path = tmp_path / "s" / "phantom001_ED.nii.gz"
    image, itk = nib.Nifti1Image.from_filename(path), sitk.ReadImage(str(path))
    spacing = np.linalg.norm(image.affine[:3, :3], axis=0)
    assert 1.4 <= spacing[0] <= 1.65 and spacing[0] == pytest.approx(spacing[1]) and 8 <= spacing[2] <= 10
    np.testing.assert_allclose(itk.GetSpacing(), spacing, rtol=1e-5)
    np.testing.assert_allclose(
        np.array(itk.TransformIndexToPhysicalPoint((5, 6, 7))) * (-1, -1, 1), (image.affine @ (5, 6, 7, 1))[:3], atol=1e-3
    )
    for p in patients:
        direction = p.affine[:3, :3] / np.linalg.norm(p.affine[:3, :3], axis=0)
        np.testing.assert_allclose(direction.T @ direction, np.eye(3), atol=1e-9)
        assert (np.abs(direction).max(axis=0)[[1, 2]] < 0.98).all(), "the slices must be oblique"
        assert direction[0, 2] < 0 < direction[1, 2] and direction[2, 2] < 0, "base to apex points left, front and down"
        assert direction[2, 1] < -0.7, "j points to the feet"
        assert np.linalg.det(direction) < 0, "index space must have the handedness of a stack stored from base to apex"


def test_noise_is_rician_in_air(patients: list[Phantom]) -> None:
    corner = patients[0].images["ED"][:6, -30:].astype(float)
    # outside the body both channels are noise alone: a Rayleigh distribution, whose mean is 1.91 standard deviations
    assert corner.min() >= 0 and corner.mean() / corner.std() == pytest.approx(1.91, abs=0.45)


@pytest.mark.slow
def test_files_and_manifest_and_the_same_bytes_again(tmp_path: Path) -> None:
    make_phantoms(tmp_path / "a", 1, seed=5)
    make_phantoms(tmp_path / "b", 1, seed=5)
    ids = ["phantom001_ED", "phantom001_ES"]
    names = sorted(["manifest.json", *(f"{place}{i}.nii.gz" for i in ids for place in ("", "labels/final/"))])
    for folder in (tmp_path / "a", tmp_path / "b"):
        assert sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file()) == names
    assert all((tmp_path / "a" / n).read_bytes() == (tmp_path / "b" / n).read_bytes() for n in names)
    manifest = load_manifest(tmp_path / "a")
    assert manifest is not None and manifest.source == "phantom" and sorted(manifest.studies) == sorted(ids)
    assert {s.patient for s in manifest.studies.values()} == {"phantom001"}


@pytest.mark.slow
def test_a_patient_depends_on_seed_and_number_alone(patients: list[Phantom]) -> None:
    assert np.array_equal(make_phantom(0, 2).images["ES"], patients[1].images["ES"])
    assert not np.array_equal(make_phantom(1, 2).affine, patients[1].affine)


def test_a_folder_in_use_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "mine.nii.gz").write_text("x")
    with pytest.raises(FileExistsError, match="not an empty folder"):
        make_phantoms(tmp_path, 1, seed=0)
    assert [p.name for p in tmp_path.iterdir()] == ["mine.nii.gz"]


@pytest.mark.slow
def test_a_patient_takes_seconds_not_minutes() -> None:
    begun = time.process_time()
    make_phantom(3, 3)
    assert time.process_time() - begun < 60  # of its own
