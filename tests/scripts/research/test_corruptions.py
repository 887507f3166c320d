"""scripts/research/corruptions.py: each corruption does what it says to an image and its label, and nothing else."""

import numpy as np
import pytest

from prato.data.nifti import Volume
from scripts.common.results import read_rows
from scripts.research import corruptions
from scripts.research.corruptions import CORRUPTIONS, corrupt
from tests.phantoms import make_thin_phantoms
from tests.scripts.cli import run_script

SPACING = (1.25, 1.5, 8.0)


def heart(slices: int = 5) -> tuple[Volume, np.ndarray]:
    """A disc of two rings that grows from slice to slice, brighter than the noise round it, off the middle of 64 x 48 voxels."""
    i, j = np.mgrid[:64, :48]
    distance = np.hypot((i - 24) * SPACING[0], (j - 28) * SPACING[1])[..., None] - np.arange(slices) * 1.5
    label = np.where(distance < 12, 3, np.where(distance < 20, 2, 0)).astype(np.uint8)
    image = 100 + np.array([0, 0, 150, 300])[label] + np.random.default_rng(0).normal(0, 10, label.shape)
    affine = np.diag([*SPACING, 1.0])
    affine[:3, 3] = (-20, 5, 40)
    return Volume(image.astype(np.float32), affine), label


def middle_mm(volume: Volume, label: np.ndarray) -> np.ndarray:
    """Where the labelled voxels' middle lies in space."""
    at = np.argwhere(label > 0).mean(0)
    return volume.affine[:3, :3] @ at + volume.affine[:3, 3]


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_a_corrupted_heart_is_where_it_was_and_as_large(name: str) -> None:
    volume, label = heart(6)
    image, truth = corrupt(name, volume, label, "study")
    assert image.array.shape == truth.shape and truth.dtype == np.uint8
    assert np.allclose(middle_mm(image, truth), middle_mm(volume, label), atol=0.6)
    for value in (2, 3):
        ml = [np.count_nonzero(each == value) * np.prod(of.spacing) for each, of in ((truth, image), (label, volume))]
        assert ml[0] == pytest.approx(ml[1], rel=0.03)
    # bright where the cavity is, whatever was done
    assert image.array[truth == 3].mean() > image.array[truth == 0].mean() + 50
    again, _ = corrupt(name, volume, label, "study")
    assert np.array_equal(again.array, image.array)


@pytest.mark.parametrize("name", ["gamma 0.5", "gamma 2", "bias field", "noise", "blur"])
def test_grey_values_change_and_the_grid_does_not(name: str) -> None:
    volume, label = heart()
    image, truth = corrupt(name, volume, label, "study")
    assert np.array_equal(truth, label) and np.array_equal(image.affine, volume.affine) and not np.allclose(image.array, volume.array)


def test_how_much_each_corruption_does() -> None:
    volume, label = heart()
    dark, bright = (corrupt(f"gamma {g}", volume, label, "s")[0].array for g in ("2", "0.5"))
    assert dark.mean() < volume.array.mean() < bright.mean()
    order = np.argsort(volume.array.ravel())
    assert (np.diff(dark.ravel()[order]) >= -1e-3).all()  # no grey value overtakes another
    ratio = corrupt("bias field", volume, label, "s")[0].array / volume.array
    assert ratio.min() == pytest.approx(0.5, abs=0.01) and ratio.max() == pytest.approx(1.5, abs=0.01)
    assert np.allclose(ratio, ratio[:, :, :1], atol=1e-3)
    added = corrupt("noise", volume, label, "s")[0].array - volume.array
    assert added.std() == pytest.approx(0.05 * np.percentile(volume.array, 99), rel=0.05)
    edges = [np.abs(np.diff(each.array, axis=0)).max() for each in (volume, corrupt("blur", volume, label, "s")[0])]
    assert edges[1] < 0.6 * edges[0]


def test_grids_that_change() -> None:
    volume, label = heart(5)
    coarse, _ = corrupt("pixels of 2.5 mm", volume, label, "s")
    assert coarse.spacing[:2] == pytest.approx((2.5, 2.5), rel=0.03) and coarse.spacing[2] == 8.0
    thick, truth = corrupt("double thickness", volume, label, "s")
    assert thick.array.shape == (64, 48, 2) and thick.spacing == pytest.approx((1.25, 1.5, 16.0))
    assert np.allclose(thick.array[:, :, 0], volume.array[:, :, :2].mean(2))
    areas = [(each > 0).sum((0, 1)) for each in (label, truth)]
    assert areas[0][0] < areas[1][0] < areas[0][1]  # half-way between the two
    turned, truth = corrupt("quarter turn", volume, label, "s")
    assert np.array_equal(np.rot90(turned.array, -1), volume.array) and np.array_equal(np.rot90(truth, -1), label)
    flipped, _ = corrupt("slices flipped", volume, label, "s")
    assert np.array_equal(flipped.array[:, :, ::-1], volume.array)


@pytest.mark.slow
def test_a_model_is_measured_under_each(tmp_path, overview_file) -> None:
    make_thin_phantoms(tmp_path / "studies", 1)
    flags = ["--studies", tmp_path / "studies", "--out", tmp_path / "c.csv", "--model", overview_file, "--box", "tight"]
    done = run_script(corruptions.main, *flags, "--corruption", "clean", "--corruption", "double thickness")
    assert done.exit_code == 0, done.output
    rows = read_rows(tmp_path / "c.csv")
    assert [row["corruption"] for row in rows] == ["clean", "double thickness"] * 2
    assert all(0 <= row["mean_dice"] <= 1 and set(row["dice"]) == {"RV cavity", "myocardium", "LV cavity"} for row in rows)
