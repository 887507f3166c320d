"""Who is on which side: assign_split once, for good."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from prato.data.studies.folder import find_labelled_studies
from prato.data.studies.splits import Split, load_split
from prato.models.registry import PIXEL
from prato.retraining import training_data
from prato.retraining.file_changes import FileChanges
from prato.retraining.training_data import SPLIT_NAME, TooFewPatientsError, assign_split, load_training_data
from tests.phantoms import make_thin_phantoms


def patients(count: int) -> list[str]:
    return [f"p{n:03d}" for n in range(count)]


def test_half_and_half_at_the_start_then_by_share() -> None:
    assert [len(assign_split(None, patients(n), 0.2, 1).validation) for n in (2, 3, 7, 8, 50)] == [1, 1, 1, 2, 10]
    assert len(assign_split(None, patients(40), 0.5, 1).validation) == 20


def test_nobody_ever_changes_sides() -> None:
    split = None
    sides: dict[str, str] = {}
    for count in (2, 3, 5, 9, 30, 31, 80):
        split = assign_split(split, patients(count), 0.2, seed=count)  # not even when the seed is another
        now = dict.fromkeys(split.train, "train") | dict.fromkeys(split.validation, "validation")
        assert sides.items() <= now.items()
        assert len(now) == count
        sides = now
    assert abs(len(split.validation) - 16) <= 1


def test_the_seed_shuffles() -> None:
    assert len({tuple(assign_split(None, patients(10), 0.2, seed).validation) for seed in range(20)}) > 5
    assert assign_split(None, patients(10), 0.2, 3) == assign_split(None, reversed(patients(10)), 0.2, 3)


def test_the_first_newcomer_fills_a_side_that_fell_empty() -> None:
    split = Split(seed=1, train=["a"], validation=["b"])
    assert "c" in assign_split(split, ["a", "c"], 0.2, 1).validation
    assert "c" in assign_split(split, ["b", "c"], 0.2, 1).train


@pytest.mark.parametrize(
    ("labelled", "words"),
    [
        ([], "at least 2 patients, .*: there are no labels yet"),
        (["x"], "there are only labels of x"),
        (["x", "x"], "there are only labels of x"),
        (["a", "b"], "All 2 labelled patients are on the training side"),
        (["c", "d"], "All 2 labelled patients are on the validation side"),
    ],
)
def test_too_few(labelled: list[str], words: str) -> None:
    with pytest.raises(TooFewPatientsError, match=words):
        assign_split(Split(seed=1, train=["a", "b"], validation=["c", "d"]), labelled, 0.2, 1)


@pytest.mark.slow
def test_two_servers_that_begin_to_train_on_a_folder_put_newcomers_on_the_same_side(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def assign_slowly(*arguments: Any) -> Split:
        time.sleep(0.5)
        return assign_split(*arguments)

    def load(seed: int, share: float) -> dict[str, list[str]]:
        return load_training_data(FileChanges(find_labelled_studies(tmp_path), int), PIXEL, share, seed, int).patients()

    make_thin_phantoms(tmp_path, 4)
    monkeypatch.setattr(training_data, "assign_split", assign_slowly)
    with ThreadPoolExecutor(2) as threads:
        one, other = threads.map(load, (1, 2), (0.2, 0.5))
    stored = load_split(tmp_path / SPLIT_NAME)
    assert one == other == {"train": stored.train, "validation": stored.validation}
