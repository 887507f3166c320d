"""What is said of a simulation's goals, from rows worked out by hand."""

from __future__ import annotations

from typing import Any

import pytest

from scripts.simulate.summary import against, mean_goal, runs


def row(strategy: str, patients: int, dice: float, voxels: int, **more: Any) -> dict[str, Any]:
    """A round in which two studies with hearts of 100 voxels were labelled, each with ``voxels`` corrected."""
    about = {
        "strategy": strategy,
        "seed": 0,
        "pruned": True,
        "labelled_patients": patients,
        "dice": dice,
        "seconds": {"train": 60.0},
        "validation_voxels": voxels,
    }
    return {**about, "corrected": {"studies": 2, "voxels": 2 * voxels, "heart_voxels": 200}, **more}


ROWS = [
    row("random", 2, 0.50, 100),
    row("jitter", 2, 0.50, 100),
    row("random", 4, 0.80, 60),
    row("jitter", 4, 0.70, 80),
    row("random", 6, 0.70, 50),
    row("jitter", 6, 0.81, 20, unlabelled={"studies": 1, "voxels": 30}),
    row("random", 8, 0.78, 40, unlabelled={"studies": 2, "voxels": 25}),
    {**row("all", 80, 0.80, 0), "seed": 7},
]


def test_the_work_of_a_run_leaves_out_the_first_round() -> None:
    random, jitter = runs(ROWS)
    assert random.patients == [2, 4, 6, 8] and random.spent(4) == [120, 220, 300]
    assert random.a_study(3) == 55 and random.of_heart(3) == 0.55
    assert random.validation(3) == 55
    assert (random.archive, jitter.archive) == (525 / 10, 430 / 7)
    assert jitter.spent_until(0.78) == 200 and jitter.spent_until(0.9) is None
    assert against(jitter, [random, jitter]) is random and against(random, [random, jitter]) is None


def test_a_dice_reached_once_by_chance_is_not_reached() -> None:
    random, jitter = runs(ROWS)  # 95 % of 0.80, from the only model on all patients: 0.76
    assert random.reached() == 8 and jitter.reached() == 6
    assert (random.spent_to_goal(), jitter.spent_to_goal()) == (300, 200)
    assert runs(ROWS[:5])[0].reached() is None and runs(ROWS[:5])[0].spent_to_goal() is None
    assert runs([*ROWS[:5], ROWS[-1]])[0].reached() is None  # above it at 4 patients, below at 6


def test_goals_are_of_the_same_pruning() -> None:
    dense = [{**each, "pruned": False} for each in ROWS if each["strategy"] == "random"]
    found = runs([*ROWS, *dense])
    assert [run.goal is None for run in found] == [False, False, True]
    assert against(found[1], found) is found[0] and against(found[2], found) is None


def test_the_goal_that_is_drawn_is_the_mean_of_the_seeds() -> None:
    of_seeds = [{**each, "seed": seed} for seed in (0, 1) for each in (*ROWS[:4:2], row("all", 80, 0.8 + 0.1 * seed, 0))]
    assert mean_goal(runs(of_seeds), pruned=True) == (pytest.approx(0.95 * 0.85), 80)
    assert mean_goal(runs(of_seeds), pruned=False) is None
