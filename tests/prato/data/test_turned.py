"""A label that was mirrored or turned is told from one that lies right, by a proposal of the same image."""

from __future__ import annotations

import numpy as np
import pytest

from prato.data.labels.turned import agreements, find_turn, turns


def crescent(shape: tuple[int, int, int] = (40, 36, 6)) -> np.ndarray:
    """A heart's label, that no turn leaves as it is: the RV beside the ring on one side, smaller towards the last slice."""
    i, j, k = np.indices(shape)
    radius = np.hypot(i - 20, j - 17) + k / 2
    mask = np.zeros(shape, np.uint8)
    mask[(np.hypot(i - 27, j - 24) < 9 - k)] = 1
    mask[radius < 9] = 2
    mask[radius < 5] = 3
    return mask


@pytest.mark.parametrize("shape", [(40, 36, 6), (40, 40, 6)])
def test_every_turned_copy_is_found_and_can_be_put_right(shape: tuple[int, int, int]) -> None:
    right = crescent(shape)
    assert find_turn(right, right, 2) is None
    copies = list(turns(right, 2))
    assert len(copies) == (15 if shape[0] == shape[1] else 7)
    for _, copy in copies:
        turn = find_turn(copy, right, 2)
        assert turn is not None and turn.after == 1.0
        assert any(np.array_equal(back, right) for words, back in turns(copy, 2) if words == turn.words)


def test_what_is_unlike_the_proposal_in_every_way_is_not_said_to_be_turned() -> None:
    """A proposal that failed, a label of a slice only, or nothing at all."""
    right = crescent()
    elsewhere, slice_alone = np.roll(right, 15, 0), np.where(np.arange(6) == 0, right, 0).astype(np.uint8)
    for label in (elsewhere, slice_alone, np.zeros_like(right)):
        assert find_turn(right, label, 2) is None
        assert find_turn(label, right, 2) is None


def test_words_for_slices_along_any_axis_and_all_phases_of_a_cine() -> None:
    right = np.moveaxis(crescent(), 2, 0)
    cine = np.stack([right, right], 3)
    for words, copy in (("mirrored along j", cine[:, ::-1]), ("in reverse slice order", cine[::-1])):
        turn = find_turn(copy, cine, 0)
        assert turn is not None and turn.words == words


def test_a_label_a_little_beside_the_proposal_is_not_said_to_be_turned() -> None:
    """Mirrored, a round heart comes nearer to it, and agrees a little better."""
    i, j, _ = np.indices((64, 64, 4))

    def heart(x: int, y: int) -> np.ndarray:
        radius = np.hypot(i - x, j - y)
        return np.select([radius < 6, radius < 10, np.hypot(i - x - 15, j - y) < 8], [3, 2, 1]).astype(np.uint8)

    beside, proposal = heart(30, 30), heart(32, 32)
    scores = agreements(beside, proposal, 2)
    assert max(score for _, score in scores) > scores[0][1] + 0.05
    assert find_turn(beside, proposal, 2) is None
