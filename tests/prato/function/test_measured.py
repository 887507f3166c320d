"""Which phases give a heart its function, whoever asks."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from itertools import permutations

import numpy as np
import pytest

from prato.data.nifti import Volume
from prato.data.structures import STRUCTURES, voxel_ml
from prato.data.studies.ed_es import NamedPhases
from prato.function.measured import Heart, MeasuredHeart, NoFunctionError
from prato.labelling.doubts import anatomy_warnings
from tests.app.hearts import heart
from tests.prato.function.planes import plane_of

#: ml of both cavities, by phase.
BEAT = [40, 50, 44, 30, 20, 16, 24, 32]
SPACING = (1.0, 1.0, 10.0)


def mask_of(lv_ml: int, rv_ml: int) -> np.ndarray:
    """uint8 (120, 120, 3): voxels of 0.01 ml."""
    mask = np.zeros((120, 120, 3), np.uint8)
    mask[:, :, 1] = plane_of(100 * lv_ml, 100 * rv_ml, edge=120)
    return mask


def measure(
    drawn: Iterable[int], trusted: Collection[int], named: tuple[int, int] | None = None, count: int | None = 8, rv: float = 1.0
) -> MeasuredHeart:
    masks = {t: mask_of(BEAT[t], int(rv * BEAT[t])) if t in drawn else np.zeros((120, 120, 3), np.uint8) for t in range(8)}
    marks = () if named is None else (NamedPhases(*named, "marked", "marked by Ada"),)
    return Heart(masks, SPACING, marks, count).measure(trusted)


def test_what_labellers_vouch_for_is_measured_alone() -> None:
    heart = measure(range(8), trusted=(2, 4, 6))
    assert (heart.phases, heart.function.ed, heart.function.es, heart.ed_es_source) == ((2, 4, 6), 2, 4, "found")
    assert heart.function.warnings[0].startswith("3 of 8 phases are measured: end-diastole and end-systole are the fullest")
    heart = measure(range(8), trusted=(2, 4, 6), named=(2, 6))
    assert (heart.function.ed, heart.function.es, heart.ed_es_source, heart.function.warnings) == (2, 6, "marked", ())


@pytest.mark.parametrize(
    ("trusted", "named", "proposals"),
    [((), None, "phase 1 and phase 5"), ((5,), None, "phase 1"), ((1, 4, 5), (2, 5), "phase 2")],
)
def test_where_these_give_no_function_proposals_are_measured_and_named(
    trusted: Collection[int], named: tuple[int, int] | None, proposals: str
) -> None:
    heart = measure(range(8), trusted, named)
    assert (heart.phases, heart.function.es) == (tuple(range(8)), 5)
    assert heart.function.warnings[0] == f"Proposals, or phases that were sent back, are measured: {proposals}."


def test_of_some_phases_the_fullest_and_the_emptiest_count_however_many_they_are() -> None:
    volumes = [32, 28, 29, 29, 30, 34, 41, 45, 46, 46, 49]  # by the shape of a whole beat, phases 9 and 2
    masks = {t: mask_of(ml, ml) for t, ml in zip((*range(8), 9, 12, 15), volumes)}
    heart = Heart(masks, SPACING, (), count=20).measure(masks.keys())
    assert (heart.function.ed, heart.function.es) == (15, 1)
    assert heart.function.warnings[0].startswith("11 of 20 phases are measured")


def test_no_other_phases_take_the_place_of_named_ones() -> None:
    with pytest.raises(NoFunctionError, match=r"marked by Ada as phase 7 and phase 5, which are not both among the measured phases$"):
        measure((0, 1, 5), trusted=(0, 1), named=(7, 5))


def test_every_doubt_is_told_of_some_phases_too() -> None:
    assert "The stroke volumes differ (LV 34 ml, RV 17 ml)" in measure((1, 5), trusted=(1, 5), named=(1, 5), rv=0.5).function.warnings[0]


def test_a_phase_whose_cavities_are_swapped_is_doubted_in_its_labellers_words() -> None:
    right = np.stack([heart(), np.where(heart() == STRUCTURES["LV cavity"], 2, heart())], 3)
    right[20:23, 18:21, :, 1] = STRUCTURES["LV cavity"]
    swapped = right.copy()
    swapped[..., 1] = np.array([0, 3, 2, 1], np.uint8)[right[..., 1]]
    told = anatomy_warnings(Volume(swapped, np.diag([4.0, 4.0, 9.0, 1.0])))
    marks = (NamedPhases(0, 1, "marked", "marked by Ada"),)
    for mask, begin in ((right, ()), (swapped, told)):
        warnings = Heart({t: mask[..., t] for t in range(2)}, (4.0, 4.0, 9.0), marks, count=2).measure((0, 1)).function.warnings
        assert warnings[: len(begin)] == begin and warnings[len(begin)].startswith("The stroke volumes differ")
    assert told[0].startswith("Phase 1: RV and LV cavity seem to be swapped")


def test_phases_of_no_known_cine_are_few() -> None:
    assert measure((1, 5), trusted=(1, 5), count=None).function.warnings[0].startswith("Only 2 phases are measured")


def test_one_phase_and_hearts_that_stand_still_have_no_function() -> None:
    with pytest.raises(NoFunctionError, match="fewer than two of its phases"):
        measure((1,), trusted=(1,))
    masks = dict.fromkeys(range(3), mask_of(20, 20))
    with pytest.raises(NoFunctionError, match="no phase of it differs"):
        Heart(masks, SPACING, (), count=3).measure(masks.keys())
    with pytest.raises(NoFunctionError, match="differ in size"):
        Heart({0: mask_of(20, 20), 1: mask_of(9, 9)[:90]}, SPACING, (), count=None).measure((0, 1))


def test_a_voxel_is_as_large_whichever_way_its_image_is_stored() -> None:
    rng = np.random.default_rng(0)
    for edges in rng.uniform(0.5, 11, (200, 3)):
        assert len({voxel_ml(order) for order in permutations(edges)}) == 1
        assert voxel_ml(edges) == pytest.approx(np.prod(edges) / 1000)
