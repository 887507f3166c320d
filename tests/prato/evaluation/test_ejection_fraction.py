"""Ejection fractions of masks beside the expert's."""

import math

import pytest

from prato.evaluation.ejection_fraction import ejection_errors, summarise


def row(patient: str, mask: float, expert: float) -> dict:
    volumes = {"LV cavity": {"mask": mask, "expert": expert}, "RV cavity": {"mask": mask / 2, "expert": expert}}
    return {"patient": patient, "volumes_ml": volumes}


def test_phases_are_told_by_the_expert_s_volumes_and_errors_are_in_points():
    rows = [row("a", 50, 40), row("a", 100, 100), row("b", 100, 100), row("b", 30, 50), row("alone", 80, 80)]
    found = ejection_errors(rows, "LV cavity")
    assert found == {"a": (pytest.approx(50), pytest.approx(60)), "b": (pytest.approx(70), pytest.approx(50))}
    assert summarise(found) == {
        "mae": pytest.approx(15),
        "bias": pytest.approx(5),
        "sd": pytest.approx(450**0.5),
    }  # of a sample: 15 and 15 from the mean, by n - 1
    assert math.isnan(summarise({"a": (50.0, 60.0)})["sd"])
    assert ejection_errors(rows, "RV cavity")["a"] == (pytest.approx(50), pytest.approx(60))


def test_a_mask_without_blood_ejects_nothing():
    assert ejection_errors([row("a", 0, 40), row("a", 0, 100)], "LV cavity") == {"a": (0.0, pytest.approx(60))}


def test_a_cavity_that_the_expert_did_not_draw_has_no_ejection_fraction_to_be_wrong_about():
    found = ejection_errors([row("a", 50, 0), row("a", 100, 0), row("b", 40, 50), row("b", 100, 100)], "RV cavity")
    assert [*found] == ["b"] and not math.isnan(summarise(found)["mae"])
    assert all(math.isnan(value) for value in summarise({}).values())
