"""scripts/research/doubtful_masks.py: what is spoilt how, and how masks are counted."""

import numpy as np
import pytest

from scripts.common.results import read_rows
from scripts.research import doubtful_masks
from scripts.research.corruptions import corrupt
from scripts.research.doubtful_masks import FAULTS, summarise
from tests.phantoms import make_thin_phantoms
from tests.scripts.cli import run_script
from tests.scripts.research.test_corruptions import heart


@pytest.mark.parametrize("fault", FAULTS)
def test_image_and_label_stay_together_and_the_same_study_gives_the_same(fault: str) -> None:
    volume, label = heart(6)
    (image, truth), (again, _) = (corrupt(fault, volume, label, "study", FAULTS) for _ in range(2))
    assert image.array.shape == truth.shape and truth.any() and np.array_equal(image.array, again.array)
    bright = image.array[truth == 3].mean() > image.array[truth == 0].mean()
    assert bright == (fault != "inverted") or fault == "bright background"


def test_what_the_faults_are() -> None:
    volume, label = heart()
    half, _ = corrupt("pixels called half as large", volume, label, "s", FAULTS)
    assert half.spacing == pytest.approx((0.625, 0.75, 8.0)) and np.array_equal(half.array, volume.array)
    cut, truth = corrupt("cut off in the heart", volume, label, "s", FAULTS)
    assert cut.array.shape == (24, 28, 5) and np.array_equal(truth, label[:24, :28])
    _, truth = corrupt("slices shifted", volume, label, "s", FAULTS)
    middles = np.array([np.argwhere(truth[:, :, k]).mean(0) * volume.spacing[:2] for k in range(5)])
    assert 2 < np.ptp(middles, axis=0).max() <= 30 and np.abs(middles - middles.mean(0)).max() <= 30
    inverted = corrupt("inverted", volume, label, "s", FAULTS)[0].array
    assert inverted.min() == 0 and (inverted.argmin(), inverted.argmax()) == (volume.array.argmax(), volume.array.argmin())
    dark = volume.array <= np.percentile(volume.array, 30)
    assert (corrupt("bright background", volume, label, "s", FAULTS)[0].array[dark] == volume.array.max()).all()
    for fault, share in (("noise of 20 %", 0.2), ("noise of 40 %", 0.4)):
        added = corrupt(fault, volume, label, "s", FAULTS)[0].array - volume.array
        assert added.std() == pytest.approx(share * np.percentile(volume.array, 99), rel=0.05)


def test_masks_are_counted_by_how_good_they_are() -> None:
    found = [
        {"mean_dice": 0.1, "warnings": ["structure_is_missing", "intensity_outliers"]},
        {"mean_dice": 0.29, "warnings": ["intensity_outliers"]},
        {"mean_dice": 0.3, "warnings": ["lv_cavity_is_open"]},
        {"mean_dice": 1.0, "warnings": []},
    ]
    row = summarise(found)
    assert row["median_dice"] == 0.295
    assert row["masks"] == {"0 to 30": 2, "30 to 60": 1, "60 to 80": 0, "80 to 90": 0, "90 to 100": 1}
    assert row["warned"] == {"0 to 30": 1, "30 to 60": 1, "60 to 80": 0, "80 to 90": 0, "90 to 100": 0}


@pytest.mark.slow
def test_the_command_writes_a_row_a_fault(tmp_path) -> None:
    make_thin_phantoms(tmp_path / "studies", patients=1)
    out = tmp_path / "doubtful.csv"
    given = ["--studies", tmp_path / "studies", "--out", out]
    done = run_script(doubtful_masks.main, *given, "--fault", "clean", "--fault", "inverted")
    assert done.exit_code == 0, done.output
    rows = read_rows(out)
    assert [row["fault"] for row in rows] == ["clean", "inverted"]
    assert all(sum(row["masks"].values()) == 2 for row in rows)
