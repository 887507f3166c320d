"""Volumes and function: on solids with known volumes."""

from __future__ import annotations

import numpy as np
import pytest

from prato.function.curve import VolumeCurve
from prato.function.curve import find_ed_es as find_server_s
from PratoLabelLib.measures.cardiac import CardiacVolumes, VentricularFunction, compute_function, compute_volumes, find_ed_es, find_flags
from tests.slicer_module.cardiac_masks import LABELS, SWAPPED, ellipsoid, heart


def ellipsoid_ml(*axes: float) -> float:
    return 4 / 3 * np.pi * np.prod(axes) / 1000


@pytest.mark.parametrize("labels", [LABELS, SWAPPED])
@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 2, 0)])
def test_an_ellipsoid_shell_beside_an_ellipsoid(order: tuple[int, ...], labels: dict[str, int]) -> None:
    shape, spacing = (120, 90, 20), (1.3, 1.7, 8.0)
    inner, outer, right = (24.0, 28.0, 52.0), (34.0, 38.0, 63.0), (26.0, 33.0, 58.0)
    left = (45.0, 75.0, 77.0)
    mask = np.zeros(shape, np.int16)
    mask[ellipsoid(shape, spacing, left, outer)] = labels["myocardium"]
    mask[ellipsoid(shape, spacing, left, inner)] = labels["LV cavity"]
    mask[ellipsoid(shape, spacing, (112.0, 75.0, 77.0), right)] = labels["RV cavity"]
    found = compute_volumes(mask.transpose(order), labels, tuple(spacing[axis] for axis in order))
    wall = ellipsoid_ml(*outer) - ellipsoid_ml(*inner)
    assert found.lv_ml == pytest.approx(ellipsoid_ml(*inner), rel=0.01)
    assert found.rv_ml == pytest.approx(ellipsoid_ml(*right), rel=0.01)
    assert found.myocardium_ml == pytest.approx(wall, rel=0.01)
    assert found.myocardial_mass_g == pytest.approx(1.05 * wall, rel=0.01)


def test_a_tube_of_known_voxels() -> None:
    found = compute_volumes(heart(), LABELS, (10.0, 1.5, 1.25))
    voxel = 10.0 * 1.5 * 1.25 / 1000
    expected = (6 * 90 * voxel, 6 * 64 * voxel, 6 * 80 * voxel, 6 * 80 * voxel * 1.05)
    assert (found.rv_ml, found.lv_ml, found.myocardium_ml, found.myocardial_mass_g) == pytest.approx(expected)


def test_a_structure_without_a_name_or_voxels_has_no_volume() -> None:
    assert compute_volumes(heart(), {"LV cavity": 3}, (1, 1, 1)) == CardiacVolumes(0.0, pytest.approx(0.384), 0.0, 0.0)
    assert compute_volumes(np.zeros((3, 4, 5), np.uint8), LABELS, (1, 1, 1)) == CardiacVolumes(0.0, 0.0, 0.0, 0.0)


@pytest.mark.parametrize("spacing", [(1.0, 1.0), (1.0, 1.0, 0.0), (1.0, -1.0, 1.0), (1.0, 1.0, float("nan")), (1.0, float("inf"), 1.0)])
def test_a_spacing_that_cannot_be_is_refused(spacing: tuple[float, ...]) -> None:
    with pytest.raises(ValueError, match="three positive lengths in mm"):
        compute_volumes(heart(), LABELS, spacing)


def test_a_mask_that_is_not_3d_is_refused() -> None:
    with pytest.raises(ValueError, match="3D, not 2D"):
        compute_volumes(heart()[0], LABELS, (1, 1, 1))
    with pytest.raises(ValueError, match="3D, not 4D"):
        find_flags(heart()[None], LABELS, 0)


# Function and phases


def test_function_of_a_ventricle() -> None:
    assert compute_function(150.0, 60.0) == VentricularFunction(150.0, 60.0, 90.0, pytest.approx(60.0))
    assert compute_function(0.0, 10.0) is None
    assert compute_function(80.0, 100.0).ejection_fraction == pytest.approx(-25.0)  # the RV may lag behind the LV: shown as it is


def sized(lv_ml: float) -> CardiacVolumes:
    return CardiacVolumes(1.1 * lv_ml, lv_ml, 100.0, 105.0)


def test_phases_are_told_by_the_cavities() -> None:
    assert find_ed_es({"c_02": sized(90), "c_01": sized(140), "c_07": sized(55), "c_09": sized(70)}) == ("c_01", "c_07")
    assert find_ed_es({"only": sized(90)}) is None
    assert find_ed_es({}) is None


def test_both_cavities_tell_end_diastole_and_end_systole_as_on_the_server() -> None:
    by_phase = {f"c_0{t}": CardiacVolumes(rv, lv, 0.0, 0.0) for t, (rv, lv) in enumerate([(120, 139), (150, 138), (50, 60), (80, 59)])}
    curve = VolumeCurve(*(np.array([getattr(of, name) for of in by_phase.values()]) for name in ("rv_ml", "myocardium_ml", "lv_ml")))
    assert find_ed_es(by_phase) == ("c_01", "c_02")
    assert find_server_s(curve, is_cycle=True) == (1, 2)


def test_two_phases_of_one_size_are_still_two() -> None:
    assert set(find_ed_es({"a": sized(90), "b": sized(90)})) == {"a", "b"}
