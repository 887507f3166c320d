import numpy as np
import pytest

from prato.data.structures import STRUCTURES
from prato.inference.postprocess import remove_small_components

RV, MYO, LV = (STRUCTURES[name] for name in ("RV cavity", "myocardium", "LV cavity"))


def heart(at: int = 4, slices: tuple[int, int] = (1, 5)) -> np.ndarray:
    """A ring of myocardium round an LV, an RV beside it, with the corner at ``at``."""
    mask = np.zeros((40, 40, 6), dtype=np.uint8)
    mask[at : at + 12, at : at + 8, slice(*slices)] = MYO
    mask[at + 2 : at + 8, at + 2 : at + 6, slice(*slices)] = LV
    mask[at + 12 : at + 16, at : at + 8, slice(*slices)] = RV
    return mask


def test_a_whole_heart_is_left_alone() -> None:
    mask = heart()
    kept = remove_small_components(mask)
    np.testing.assert_array_equal(kept, mask)
    assert kept is not mask and kept.dtype == np.uint8


@pytest.mark.parametrize("structure", STRUCTURES.values())
def test_islands_of_any_structure_go(structure: int) -> None:
    mask = heart()
    mask[30:33, 30:33, 2] = structure
    np.testing.assert_array_equal(remove_small_components(mask), heart())


def test_a_cavity_s_second_part_goes_though_it_touches_the_heart() -> None:
    mask = heart()
    mask[4:6, 12:14, 2] = RV  # beside the myocardium, far from the right ventricle
    np.testing.assert_array_equal(remove_small_components(mask), heart())


def test_myocardium_in_parts_stays_where_it_touches_a_structure() -> None:
    mask = heart()
    mask[:, :, 4] = 0
    mask[6:8, 6:8, 4] = LV  # the apex: a tip of the cavity, and of the wall a piece that the wall does not touch
    mask[8:9, 8:9, 5] = MYO
    np.testing.assert_array_equal(remove_small_components(mask), mask)


def test_a_slice_that_was_missed_does_not_part_the_heart() -> None:
    mask = heart(slices=(0, 6))
    mask[:, :, 2] = 0
    np.testing.assert_array_equal(remove_small_components(mask), mask)


def test_two_hearts_of_a_like_size_stay() -> None:
    one, other = heart(2), heart(20, (2, 4))
    mask = one | other
    mask[35:37, 2:4, 2] = LV
    np.testing.assert_array_equal(remove_small_components(mask), one | other)


def test_nothing_found_is_nothing_kept() -> None:
    assert not remove_small_components(np.zeros((8, 8, 4), dtype=np.uint8)).any()
