"""The tables of docs/measured/cines.md compare each way with the same hearts left alone, and say the worst case beside the mean."""

from __future__ import annotations

from typing import Any

from scripts.research.tables.cine_tables import found_table, propagation_table, request_table, shared_table, smooth_table
from tests.scripts.research.tables.test_overview_tables import cells


def beat(cine: str, way: str, changed: float, dice: float, error: float, kind: str = "phantom", minima: int = 1) -> dict[str, Any]:
    row = {"cine": cine, "kind": kind, "way": way, "minima": {"lv": minima, "rv": 1}, "flicker": {"lv": 4.0, "rv": 5.0}}
    row |= {"changed_back": changed, "dice": {"mean": dice, "es": dice - 0.1}, "ef_error": {"lv": error}}
    return {**row, "off": {"ed": -2, "es": 1}}


def test_smoothing_is_compared_heart_by_heart_and_unknown_dice_is_left_out():
    rows = [beat("a", "none", 0.8, 0.92, 2.0), beat("b", "none", 0.6, 0.90, 3.0), beat("a", "median", 0.2, 0.91, 2.5)]
    rows += [beat("b", "median", 0.2, 0.91, 3.1)]
    unlabelled = [{**beat("c", way, 1.0, 0.0, 0.0, "real", minima=2)} for way in ("none", "median")]
    for row in unlabelled:
        del row["dice"], row["ef_error"]
    labelled = [beat("d", "none", 2.0, 0.92, 1.0, "real"), beat("d", "median", 1.0, 0.90, 0.5, "real")]
    table = smooth_table([*rows, *unlabelled, *labelled])
    assert cells(table, "generated", "median")[2:] == ["0.2", "4.0", "5.0", "0 of 4", "+0.0000, -0.0100", "+0.0000, -0.0100", "+0.3, +0.5"]
    assert cells(table, "real", "median")[5:] == ["1 of 4", "-0.0200, -0.0200", "-0.0200, -0.0200", "-0.5, -0.5"]


def test_of_two_phases_the_one_with_the_larger_lv_is_at_end_diastole():
    def row(study: str, way: str, dice: float, lv: float, found: float) -> dict[str, Any]:
        names = ("RV cavity", "myocardium", "LV cavity")
        volumes = {name: {"mask": found, "expert": lv} for name in names}
        scores = {name: dice - 0.03 * (name == "RV cavity") for name in names}
        about = {"study": study, "patient": study[0], "model": "default", "box": "none", "way": way}
        return {**about, "dice": scores, "volumes_ml": volumes}

    rows = [row("a2", "nothing", 0.90, 100, 100), row("a1", "nothing", 0.80, 50, 50)]
    rows += [row("a2", "all", 0.88, 100, 100), row("a1", "all", 0.70, 50, 60)]
    table = shared_table(rows)
    assert cells(table, "default", "none", "nothing")[3:] == ["0.8900", "0.7900", "0.7700", "0.0", "0.0"]
    assert cells(table, "default", "none", "all")[3:] == ["0.8700", "0.6900", "0.6700", "10.0", "10.0"]


def test_ed_and_es_are_counted_within_one_phase():
    rows = [{"moved_mm": 1.5, "off": {"ed": ed, "es": 0}} for ed in (-1, 0, 1, -4)]
    table = found_table(rows, [beat("a", "none", 0, 0, 0), beat("b", "none", 0, 0, 0, "real"), beat("b", "median", 0, 0, 0, "real")])
    assert cells(table, "generated, contours moved by 1.5 mm")[1:] == ["3 of 4", "4 of 4", "4", "0"]
    assert cells(table, "the default network's masks, real hearts")[1:] == ["0 of 1", "1 of 1", "2", "1"]


def test_what_is_left_is_of_the_same_hearts_without_following():
    def row(cine: str, way: str, left: float, dice: float, seconds: float | None) -> dict[str, Any]:
        about = {"cine": cine, "kind": "phantom", "keys": "ED", "way": way, "seconds": seconds}
        return {**about, "left": {"mean": left}, "dice": {"mean": dice}}

    rows = [row("a", "none", 1000, 0.9, 0.0), row("b", "none", 3000, 0.8, 0.0), row("a", "moved", 1100, 0.89, 2.0)]
    rows += [row("b", "moved", 900, 0.95, 4.0), row("b", "tuned", 1500, 0.9, None)]
    table = propagation_table(rows)
    assert cells(table, "generated", "ED", "moved")[3:] == ["1 of 2", "50 %", "+0.070", "3.0"]
    assert cells(table, "generated", "ED", "tuned")[3:] == ["0 of 1", "50 %", "+0.100", "-"]


def test_a_request_without_a_time_for_each_phase_has_no_share():
    row = {"model": "m", "request": "one request", "phases": 40, "slices": 20, "ms": 4000.4, "above_idle_mib": 408}
    assert cells(request_table([row]), "m")[3:] == ["40 x 20", "4,000", "-", "-", "-", "408"]
