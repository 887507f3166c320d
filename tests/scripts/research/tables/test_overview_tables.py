"""The tables of docs/measured/accuracy.md that tell how a model errs."""

import pytest

from prato.models.registry import DEFAULT_MODEL as MODEL
from scripts.common.results import Row
from scripts.research.tables.overview_tables import by_phase, corruption_table, doubt_table, function_table, place_table, way_table

NAMES = ("RV cavity", "myocardium", "LV cavity")


def cells(table: str, *start: str) -> list[str]:
    """The cells of the row that begins with these."""
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()]
    (found,) = [row for row in rows if row[: len(start)] == list(start)]
    return found


def test_a_corruption_is_compared_with_the_same_studies_clean():
    dice = {("clean", "a"): 0.9, ("clean", "b"): 0.8, ("blur", "a"): 0.89, ("blur", "b"): 0.79, ("noise", "a"): 0.9, ("noise", "b"): 0.77}
    rows = [
        {"model": MODEL, "box": box, "corruption": name, "study": study, "mean_dice": value - worse}
        for (name, study), value in dice.items()
        for box, worse in (("tight", 0.0), ("none", 0.02 if name == "noise" else 0.0))
    ]
    table = corruption_table([*rows, {**rows[0], "model": "another", "mean_dice": 0.1}])
    assert cells(table, "blur") == ["blur", "0.840", "-0.010", "0.840", "-0.010", "yes"]
    # the mean loses more than is allowed without a box alone
    assert cells(table, "noise") == ["noise", "0.835", "-0.015", "0.815", "-0.035", "no"] and cells(table, "clean")[-1] == "-"


def study(patient: str, expert: float, mask: float, dice: float) -> dict:
    volumes = {name: {"expert": expert, "mask": mask} for name in NAMES}
    row = {"model": MODEL, "box": "tight", "prune": "plan", "patient": patient, "volumes_ml": volumes, "mean_dice": dice}
    return {**row, "scores": {name: {"dice": dice - 0.1} for name in NAMES}}


def test_ejection_fractions_and_both_phases():
    rows = [study("a", 40, 50, 0.7), study("a", 100, 100, 0.9), study("b", 100, 100, 0.9), study("b", 60, 60, 0.8)]
    diastole, systole = by_phase(rows)
    assert [row["volumes_ml"]["LV cavity"]["expert"] for row in (*diastole, *systole)] == [100, 100, 40, 60]
    found = cells(function_table(rows), "tight", "plan")
    assert found[2:4] == ["5.0", "-5.0 ± 7.1"] and found[-2:] == ["0.900 / 0.750", "0.800 / 0.650"]


def test_shares_of_what_is_wrong_and_what_other_ways_change():
    wrong = {"basal": 3.0, "apical": 1.0}
    rows = [
        {
            "model": MODEL,
            "box": "tight",
            "place": place,
            "dice": dict.fromkeys(NAMES, 0.5),
            "ml": {name: {"found": 9.0, "missed": ml if name == "RV cavity" else 0.0, "too much": ml} for name in NAMES},
        }
        for place, ml in wrong.items()
    ]
    table = place_table(rows)
    assert cells(table, "tight", "basal")[-2:] == ["75 %", "38 %"] and cells(table, "tight", "apical")[-2:] == ["25 %", "12 %"]
    rows = [
        {"model": MODEL, "box": "tight", "way": way, "mean_dice": dice, "dice": dict.fromkeys(NAMES, dice)}
        for way, dice in (("as answered", 0.9), ("finer", 0.91))
    ]
    assert cells(way_table(rows), "finer") == ["finer", "0.9100", "+0.0100", "0.910"]


@pytest.mark.parametrize("table", [corruption_table, function_table, place_table, way_table])
def test_no_rows_are_no_error(table):
    assert table([]).count("\n") == 2


def doubt(version: str, fault: str, dice: float, masks: int, warned: int) -> Row:
    counts = {"masks": {"0 to 30": masks, "90 to 100": 0}, "warned": {"0 to 30": warned, "90 to 100": 0}}
    return {"model_version": version, "fault": fault, "median_dice": dice, **counts}


def test_masks_that_are_warned_of_are_counted_by_how_good_they_are_and_versions_are_compared() -> None:
    rows = [doubt("a", "clean", 0.96, 7, 7), doubt("b", "inverted", 0.1, 3, 2), doubt("b", "clean", 0.95, 1, 1)]
    table = doubt_table(rows)
    assert table.splitlines()[0].startswith("| fault | median DSC | of version a | warned, DSC 0 to 30 % |")
    assert cells(table, "clean") == ["clean", "0.950", "0.960", "1 of 1", "-"]
    assert cells(table, "inverted") == ["inverted", "0.100", "-", "2 of 3", "-"]
    assert cells(table, "all") == ["all", "", "", "3 of 4", "-"]
    assert table.index("clean") < table.index("inverted")
