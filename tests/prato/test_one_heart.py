import numpy as np
import pytest

from prato.box import Box
from prato.labels import STRUCTURES
from prato.one_heart import one_heart

RV, MYO, LV = (STRUCTURES[name] for name in ("RV cavity", "myocardium", "LV cavity"))


def heart(at: int = 4, slices: tuple[int, int] = (1, 5)) -> np.ndarray:
    """A ring of myocardium round an LV, an RV beside it, with the corner at ``at``."""
    mask = np.zeros((40, 40, 6), dtype=np.uint8)
    mask[at : at + 12, at : at + 8, slice(*slices)] = MYO
    mask[at + 2 : at + 8, at + 2 : at + 6, slice(*slices)] = LV
    mask[at + 12 : at + 16, at : at + 8, slice(*slices)] = RV
    return mask


def around(mask: np.ndarray) -> Box:
    box = Box.around(mask)
    assert box is not None
    return box


def test_a_whole_heart_is_left_alone() -> None:
    mask = heart()
    kept = one_heart(mask, [around(mask)])
    np.testing.assert_array_equal(kept, mask)
    assert kept is not mask and kept.dtype == np.uint8


@pytest.mark.parametrize("structure", STRUCTURES.values())
def test_islands_of_any_structure_go(structure: int) -> None:
    mask = heart()
    mask[30:33, 30:33, 2] = structure
    np.testing.assert_array_equal(one_heart(mask, [around(heart())]), heart())


def test_a_cavity_s_second_part_goes_though_it_touches_the_heart() -> None:
    mask = heart()
    mask[4:6, 12:14, 2] = RV  # beside the myocardium, far from the right ventricle
    np.testing.assert_array_equal(one_heart(mask, [around(mask)]), heart())


def test_myocardium_in_parts_stays_where_it_touches_a_structure() -> None:
    mask = heart()
    mask[:, :, 4] = 0
    mask[6:8, 6:8, 4] = LV  # the apex: a tip of the cavity, and of the wall a piece that the wall does not touch
    mask[8:9, 8:9, 5] = MYO
    np.testing.assert_array_equal(one_heart(mask, [around(mask)]), mask)


def test_the_largest_part_stays_where_the_box_shows_little_of_it() -> None:
    mask = heart()
    mask[22:24, 6:8, 2] = RV  # an island; the box holds all of it and none of the ventricle
    np.testing.assert_array_equal(one_heart(mask, [Box((21, 5, 1), (26, 9, 4))]), heart())


def test_a_slice_that_was_missed_does_not_part_the_heart() -> None:
    mask = heart(slices=(0, 6))
    mask[:, :, 2] = 0
    np.testing.assert_array_equal(one_heart(mask, [around(mask)]), mask)


def test_a_right_ventricle_a_pixel_off_its_wall_stays() -> None:
    mask = heart(slices=(2, 3))
    mask[16:20, 4:12, 2] = 0
    mask[17:21, 4:12, 2] = RV
    np.testing.assert_array_equal(one_heart(mask, [around(mask)]), mask)


def test_what_is_in_the_box_goes_before_something_larger_outside() -> None:
    mask = heart(2)
    mask[20:38, 20:38, 2:4] = RV
    np.testing.assert_array_equal(one_heart(mask, [around(heart(2))]), heart(2))


def test_of_two_boxes_each_keeps_what_is_in_it() -> None:
    one, other = heart(2), heart(20, (2, 4))
    mask = one | other
    mask[35:37, 2:4, 2] = LV
    np.testing.assert_array_equal(one_heart(mask, [around(one), around(other)]), one | other)


def test_nothing_found_is_nothing_kept() -> None:
    assert not one_heart(np.zeros((8, 8, 4), dtype=np.uint8), [Box((1, 1, 1), (4, 4, 4))]).any()
