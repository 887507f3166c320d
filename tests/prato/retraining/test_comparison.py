"""When a candidate counts as worse, and how sure that is."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy.stats import bootstrap

from prato.data.nifti import read_volume, write_volume
from prato.data.structures import STRUCTURES
from prato.data.studies.folder import find_labelled_studies
from prato.retraining.comparison import CaseDice, bootstrap_intervals, compare, measure_dice
from tests.phantoms import make_thin_phantoms

MODEL = Path(__file__).parents[3] / "apps" / "prato_label" / "model" / "prato_overview_unet_small.safetensors"


def dice(mean: list[float], **structures: list[float]) -> CaseDice:
    """Studies s0, s1, ... with ``mean``, and the same for each structure unless given."""
    return {
        f"s{n}": {**{name: structures.get(name.split()[0], mean)[n] for name in STRUCTURES}, "mean": value} for n, value in enumerate(mean)
    }


def test_a_label_that_lacks_a_structure_by_now_decides_nothing(tmp_path: Path) -> None:
    make_thin_phantoms(tmp_path, 1)
    files = find_labelled_studies(tmp_path)
    lacking = read_volume(files[0].label)
    write_volume(files[0].label, np.where(lacking.array == 3, lacking.array, 0), lacking.affine)
    assert list(measure_dice(MODEL, files, "cpu", lambda: None)) == [files[1].name]


def own(count: int) -> dict[str, str]:
    """Every study is of a patient of its own."""
    return {f"s{n}": f"p{n}" for n in range(count)}


def test_equal_is_not_worse_and_less_is() -> None:
    assert compare(dice([0.8, 0.6]), dice([0.8, 0.6]), own(2), 0).regression is None
    assert compare(dice([0.8, 0.6]), dice([0.8, 0.5999]), own(2), 0).regression == "the mean Dice"


@pytest.mark.parametrize(
    ("after", "said"),
    [(0.7, "0.7000 -> 0.7000"), (0.6999, "0.7000 -> 0.6999"), (0.699998, "0.700000 -> 0.699998"), (0.8, "0.7000 -> 0.8000")],
)
def test_what_decided_is_seen_however_small(after: float, said: str) -> None:
    assert compare(dice([0.7]), dice([after]), own(1), 0).summary().startswith(f"mean Dice {said} on 1 patient")


def test_a_patient_counts_once_however_many_studies_there_are() -> None:
    before, after = dice([0.5, 0.5, 0.5]), dice([0.6, 0.6, 0.35])
    assert compare(before, after, own(3), 0).regression is None
    found = compare(before, after, {"s0": "a", "s1": "a", "s2": "b"}, 0)
    assert (found.regression, found.patients) == ("the mean Dice", 2)
    assert found.after["mean"] == pytest.approx(0.475)


def test_a_structure_given_up_for_the_others_is_noticed() -> None:
    before = dice([0.7] * 4)
    after = dice([0.75] * 4, RV=[0.5, 0.52, 0.51, 0.53])
    assert compare(before, after, own(4), 0).regression == "the Dice of the RV cavity"
    assert compare(before, dice([0.75] * 4, RV=[0.69, 0.72, 0.69, 0.70]), own(4), 0).regression is None  # as good as chance


def test_the_interval_is_paired_seeded_and_covers() -> None:
    rng = np.random.default_rng(0)
    before = rng.uniform(0.2, 0.9, 12)  # patients differ far more than models do
    after = before + 0.02 + rng.normal(0, 0.01, 12)
    found = compare(dice(list(before)), dice(list(after)), own(12), 5)
    low, high = found.interval["mean"]
    assert 0 < low < np.mean(after - before) < high < 0.04
    assert compare(dice(list(before)), dice(list(after)), own(12), 5) == found
    assert compare(dice(list(before)), dice(list(after)), own(12), 6) != found


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize(
    ("differences", "interval"),
    [
        # all three draws are of one patient with 1/27 = 3.7 %, more than the 2.5 % at either end (and less than 5 %)
        ([-1.0, 0.0, 2.0], (-1.0, 2.0)),
        # the mean counts the draws of the last patient: none with 33.5 %, three or more with 6.2 %, four or more with 0.9 %
        ([0.0, 0.0, 0.0, 0.0, 0.0, 6.0], (0.0, 3.0)),
    ],
)
def test_the_interval_where_it_can_be_reckoned_by_hand(differences: list[float], interval: tuple[float, float], seed: int) -> None:
    both = np.stack([differences, np.negative(differences)], 1)
    assert np.allclose(bootstrap_intervals(both, seed), [interval, (-interval[1], -interval[0])])


def test_the_interval_is_the_one_of_another_bootstrap() -> None:
    """Of patients, two studies each, against scipy's percentile bootstrap of each patient's mean change."""
    rng = np.random.default_rng(3)
    hearts = np.repeat(rng.uniform(0.2, 0.8, 15), 2)
    changes = np.repeat(rng.exponential(0.03, 15), 2) - 0.02 + rng.normal(0, 0.01, 30)
    found = compare(dice(list(hearts)), dice(list(hearts + changes)), {f"s{n}": f"p{n // 2}" for n in range(30)}, 0).interval["mean"]
    each = changes.reshape(15, 2).mean(1)
    theirs = bootstrap((each,), np.mean, n_resamples=50_000, method="percentile", random_state=np.random.default_rng(4))
    # four standard errors of what 2000 draws say of such a bound; an interval of 90 % would lie 0.31 off, one of 99 % 0.62
    assert found == pytest.approx(tuple(theirs.confidence_interval), abs=0.24 * each.std() / np.sqrt(15))


def test_two_patients_have_no_interval() -> None:
    found = compare(dice([0.5, 0.6]), dice([0.6, 0.7]), own(2), 0)
    assert found.interval == {}
    assert found.to_json()["interval"] is None
    assert found.summary() == "mean Dice 0.5500 -> 0.6500 on 2 patients held out, too few for an interval"
