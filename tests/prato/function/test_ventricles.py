import json
import math

import numpy as np
import pytest

from prato.data.structures import STRUCTURES
from prato.function.ventricles import VentricleFunction, body_surface, cardiac_function
from tests.prato.function.planes import plane_of

#: ml: voxels of 1 x 1 x 10 mm hold .01.
SPACING = (1.0, 1.0, 10.0)


def masks_of(lv, rv, myocardium=1000):
    """uint8 (100, 100, 3, T) with so many voxels of each structure in the middle slice, by phase."""
    masks = np.zeros((100, 100, 3, len(lv)), np.uint8)
    for t, (a, b) in enumerate(zip(lv, rv)):
        masks[:, :, 1, t] = plane_of(a, b, myocardium)
    return masks


def test_volumes_fractions_and_mass_of_a_known_heart():
    found = cardiac_function(masks_of([4000, 1600], [3900, 1600]), SPACING, height_cm=180, weight_kg=80)
    assert (found.ed, found.es) == (0, 1)
    assert (found.lv.edv_ml, found.lv.esv_ml, found.lv.sv_ml, found.lv.ef_percent) == pytest.approx((40, 16, 24, 60))
    assert found.rv.sv_ml == pytest.approx(23)
    assert found.lv_mass_g == pytest.approx(10.5)
    assert found.bsa_m2 == pytest.approx(2.0)
    assert found.indexed()["lv_edv_ml_per_m2"] == pytest.approx(20)
    assert len(found.indexed()) == 7


def test_phases_that_somebody_chose_are_taken():
    found = cardiac_function(masks_of([4000, 3000, 1600], [4000, 3000, 1600]), SPACING, phases=(1, 2))
    assert (found.ed, found.es, found.lv.edv_ml) == (1, 2, pytest.approx(30))
    with pytest.raises(ValueError, match="phases 0 to 2"):
        cardiac_function(masks_of([4000, 3000, 1600], [4000, 3000, 1600]), SPACING, phases=(0, 3))


def test_without_height_and_weight_nothing_is_indexed():
    found = cardiac_function(masks_of([400, 160], [390, 160]), SPACING, height_cm=180)
    assert found.bsa_m2 is None
    assert found.indexed() == {}
    assert body_surface(None, 80) is None


@pytest.mark.parametrize(("height", "weight"), [(1.8, 81), (71, 81), (180, 8.1), (180, 81000), (1800, 81), (0, 70)])
def test_height_and_weight_in_other_units_give_no_body_surface_but_a_warning(height, weight):
    found = cardiac_function(masks_of([400, 160], [390, 160]), SPACING, height_cm=height, weight_kg=weight)
    assert found.bsa_m2 is None
    assert found.indexed() == {}
    assert found.warnings[-1].startswith(f"A height of {height} cm and a weight of {weight} kg cannot be right")


@pytest.mark.parametrize(("height", "weight"), [(35, 1), (50, 3.5), (110, 20), (180, 81), (160, 250), (220, 120)])
def test_children_and_heavy_people_have_a_body_surface(height, weight):
    assert cardiac_function(masks_of([400, 160], [390, 160]), SPACING, height_cm=height, weight_kg=weight).bsa_m2 > 0


def test_a_still_heart_has_no_function():
    assert cardiac_function(masks_of([400, 400], [390, 390]), SPACING) is None


def test_the_result_is_plain_json_even_without_a_ventricle():
    found = cardiac_function(masks_of([400, 160], [0, 0]), SPACING)
    assert math.isnan(found.rv.ef_percent)
    read = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    assert read["rv"]["ef_percent"] is None
    assert read["lv"]["ef_percent"] == 60


def ring(count):
    """A smooth beat of ``count`` phases, in voxels."""
    return (3000 + 1000 * np.cos(2 * np.pi * np.arange(count) / count)).astype(int)


def test_a_good_beat_raises_no_doubt():
    assert cardiac_function(masks_of(ring(20), ring(20)), SPACING).warnings == ()


def test_phases_out_of_order_are_doubted_where_their_order_tells_ed_and_es():
    order = np.random.default_rng(0).permutation(20)
    masks = masks_of(ring(20)[order], ring(20)[order])
    found = cardiac_function(masks, SPACING)
    assert (order[found.ed], order[found.es]) == (0, 10)
    assert "out of order" in found.warnings[0]
    assert cardiac_function(masks, SPACING, phases=(found.ed, found.es)).warnings == ()  # chosen by somebody
    assert "out of order" in cardiac_function(masks, SPACING, phases=(found.ed, found.es), found_among=20, count=20).warnings[0]


def test_few_phases_are_doubted():
    assert "10 phases" in cardiac_function(masks_of(ring(10), ring(10)), SPACING).warnings[0]


def test_stroke_volumes_that_differ_are_doubted():
    found = cardiac_function(masks_of(ring(20), 1500 + ring(20) // 2), SPACING, phases=(0, 10))
    assert len(found.warnings) == 1
    assert "LV 20 ml, RV 10 ml" in found.warnings[0]


def test_end_diastole_and_end_systole_that_were_exchanged_are_doubted():
    beat = masks_of([4000, 1600], [4000, 1700])
    assert "more blood at end-systole" in cardiac_function(beat, SPACING, phases=(1, 0)).warnings[0]
    assert cardiac_function(beat, SPACING, phases=(0, 1)).warnings == ()


def test_a_basal_slice_that_comes_and_goes_is_doubted():
    masks = masks_of(ring(20), ring(20))
    masks[:, :, 0, [0, 1, 2, 17, 18, 19]] = plane_of(100, 0)[..., None]  # leaves in systole, comes back: as it should
    assert cardiac_function(masks, SPACING).warnings == ()
    masks[:, :, 0, [8, 12]] = plane_of(100, 0)[..., None]
    assert "LV cavity comes and goes in slice 1 from" in cardiac_function(masks, SPACING).warnings[-1]


def test_slices_that_come_and_go_are_listed():
    masks = masks_of(ring(20), ring(20))
    masks[:, :, 0] = masks[:, :, 2] = masks[:, :, 1]
    masks[..., [4, 11]] = 0
    assert "LV cavity comes and goes in slices 1, 2 and 3 from" in " ".join(cardiac_function(masks, SPACING).warnings)


def test_no_blood_gives_no_fraction():
    assert math.isnan(VentricleFunction.from_volumes(0, 0).ef_percent)


def test_two_frames_that_somebody_chose_may_be_of_a_longer_cine():
    assert cardiac_function(masks_of([4000, 1600], [3900, 1600]), SPACING, phases=(0, 1)).warnings == ()


def test_a_cavity_that_is_not_enclosed_is_doubted_in_the_phases_that_are_measured():
    masks = masks_of([4000, 3000, 1600], [3900, 3000, 1600])
    masks[50:, :, 1, 1:][masks[50:, :, 1, 1:] == STRUCTURES["myocardium"]] = 0
    assert cardiac_function(masks, SPACING, phases=(0, 2)).warnings == (
        "The myocardium does not enclose the LV cavity at end-systole: check the basal slices.",
    )
