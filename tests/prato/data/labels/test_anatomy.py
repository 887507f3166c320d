"""Geometry tells the structures apart: no false alarm, and no exchange that stays unnoticed."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from prato.data.labels.anatomy import describe_lack, judge_anatomy
from prato.data.structures import STRUCTURES

RV, MYO, LV = STRUCTURES.values()


def heart(slices: int = 6, radius: float = 9.0, wall: float = 3.0, x: float = 0.0) -> np.ndarray:
    """(X, Y, Z) uint8: a cavity in its wall, and another cavity beside it that shrinks towards the last slice."""
    i, j = np.meshgrid(np.arange(48) - 24 - x, np.arange(44) - 20, indexing="ij")
    mask = np.zeros((48, 44, slices), np.uint8)
    for k in range(slices):
        outer = radius * (1 - 0.4 * k / slices)
        r = np.hypot(i, j)
        mask[..., k][np.hypot(i + outer, j) < outer * (1 - k / slices)] = RV
        mask[..., k][r < outer] = MYO
        mask[..., k][r < outer - wall] = LV
    return mask


def renumbered(mask: np.ndarray, order: tuple[int, ...]) -> np.ndarray:
    """``mask`` whose RV, myocardium and LV have the numbers ``order``."""
    return np.array([0, *order], np.uint8)[mask]


hearts = st.builds(heart, slices=st.integers(1, 12), radius=st.floats(8, 17), wall=st.floats(2, 4), x=st.floats(-4, 4))
turns = st.tuples(st.permutations(range(3)), st.lists(st.booleans(), min_size=3, max_size=3))


def turned(mask: np.ndarray, turn: tuple[list[int], list[bool]]) -> tuple[np.ndarray, int]:
    order, reverse = turn
    return np.flip(mask.transpose(order), [axis for axis in range(3) if reverse[axis]]), order.index(2)


@pytest.mark.slow
@given(hearts, turns)
def test_a_heart_confirms_its_own_numbers(mask: np.ndarray, turn: tuple[list[int], list[bool]]) -> None:
    assert judge_anatomy(*turned(mask, turn)).verdict == "confirmed"


@pytest.mark.slow
@given(hearts, turns, st.sampled_from([order for order in permutations((RV, MYO, LV)) if order != (RV, MYO, LV)]))
def test_every_other_numbering_is_contradicted(mask: np.ndarray, turn: tuple[list[int], list[bool]], order: tuple[int, ...]) -> None:
    stored, axis = turned(renumbered(mask, order), turn)
    found = judge_anatomy(stored, axis)
    assert found.verdict == "contradicted"
    fits = {value: name for name, value in zip(("RV cavity", "myocardium", "LV cavity"), order)}
    assert found.sentence.endswith(f"the values fit {', '.join(f'{value} {fits[value]}' for value in sorted(fits))}.")


def test_a_swap_is_called_one() -> None:
    assert judge_anatomy(renumbered(heart(), (LV, MYO, RV)), 2).sentence.startswith("RV and LV cavity seem to be swapped")


@pytest.mark.slow
@given(hearts, st.data())
def test_a_structure_that_is_missing_on_some_slices_changes_nothing(mask: np.ndarray, data: st.DataObject) -> None:
    """As the myocardium is on the last slices of many labels, and the RV beyond its own."""
    slices = mask.shape[2]
    for value in data.draw(st.lists(st.sampled_from([RV, MYO, LV]), max_size=2)):
        k = data.draw(st.integers(0, slices - 1))
        mask[..., k][mask[..., k] == value] = 0
    assert judge_anatomy(mask, 2).verdict != "contradicted"


@pytest.mark.parametrize("values", [(), (RV,), (MYO,), (LV,), (RV, LV), (RV, MYO)])
def test_too_little_to_tell_is_unknown(values: tuple[int, ...]) -> None:
    mask = heart()
    assert judge_anatomy(np.where(np.isin(mask, values), mask, 0), 2).verdict == "unknown"


def test_two_structures_tell_where_one_lies_in_the_other() -> None:
    mask = heart()
    left = np.where(mask != RV, mask, 0)
    assert judge_anatomy(left, 2).verdict == "confirmed"
    assert judge_anatomy(renumbered(left, (0, MYO, RV)), 2).verdict == "contradicted"
    assert judge_anatomy(renumbered(left, (0, LV, MYO)), 2).verdict == "contradicted"


@pytest.mark.parametrize("swapped", [1, 2, 3])
def test_a_swap_on_some_slices_is_seen(swapped: int) -> None:
    mask = heart(10)
    mask[..., 2 : 2 + swapped] = renumbered(mask[..., 2 : 2 + swapped], (LV, MYO, RV))
    found = judge_anatomy(mask, 2)
    assert found.verdict == "contradicted"
    assert f"slice {', '.join(str(k) for k in range(3, 3 + swapped))}:" in found.sentence


def test_a_wall_round_both_cavities_is_nobodys_fault() -> None:
    """Where the RV's wall is drawn as myocardium, too."""
    mask = heart()
    both = np.isin(mask, (RV, LV))
    for axis in (0, 1):
        for step in (-2, -1, 1, 2):
            grown = np.roll(both, step, axis) & (mask == 0)
            mask[grown] = MYO
    assert judge_anatomy(mask, 2).verdict != "contradicted"


@pytest.mark.parametrize(
    ("values", "sentence"), [((RV,), "it lacks the RV cavity."), ((RV, MYO), "it lacks the RV cavity and the myocardium.")]
)
def test_a_label_of_a_part_of_the_heart_lacks_the_rest(values: tuple[int, ...], sentence: str) -> None:
    part = np.where(np.isin(heart(), values), 0, heart())
    assert describe_lack(part, 2) == describe_lack(part.transpose(2, 0, 1), 0) == sentence
    assert describe_lack(heart(), 2) == describe_lack(part[:, :, :3], 2) == describe_lack(np.zeros_like(part), 2) == ""
