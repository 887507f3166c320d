"""Rows come back as they were written, one run's rows are replaced without touching another's, and what is no such file is named."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scripts.common.results import delete_rows, read_rows, replace_rows, write_rows

ROWS = [
    {"model": "unetr", "commit": "5531e12", "dice": {"RV cavity": 0.9, "LV cavity": 1.0}, "hd95": None, "stages": [4, 7], "pruned": True},
    {"model": "a, b", "commit": "0330ddc", "dice": {"RV cavity": 0.1}, "hd95": 1e-7, "said": 'with "quotes"\nand lines', "seed": 0},
]


def test_rows_come_back_as_they_were_written(tmp_path: Path) -> None:
    path = tmp_path / "folder" / "rows.csv"
    write_rows(path, ROWS)
    assert read_rows(path) == ROWS
    assert path.read_text().splitlines()[0] == "model,dice.RV cavity,dice.LV cavity,hd95,stages,pruned,said,seed,commit"
    before = path.read_bytes()
    write_rows(path, read_rows(path))
    assert path.read_bytes() == before


@given(
    st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1)
    | st.sampled_from(["995814796", "0330", "1e5", "null", "true", '"a"', "[1]", "{}", "-0.5"])
)
def test_text_comes_back_as_text(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    path = tmp_path_factory.getbasetemp() / "text.csv"
    rows = [{"version": text, "case": 0}]
    write_rows(path, rows)
    assert read_rows(path) == rows and type(read_rows(path)[0]["version"]) is str


def test_a_version_of_digits_alone_is_found_again(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    for dice in (0.1, 0.2):
        replace_rows(path, [{"model_version": "995814796012", "dice": dice}], ("model_version",))
    assert read_rows(path) == [{"model_version": "995814796012", "dice": 0.2}]


def test_a_run_takes_the_place_of_the_same_run(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    for model, seed, cases in (("a", 0, 2), ("b", 0, 1), ("a", 1, 1)):
        replace_rows(path, [{"model": model, "seed": seed, "case": n} for n in range(cases)], ("model", "seed"))
    replace_rows(path, [{"model": "a", "seed": 0, "case": 9}], ("model", "seed"))
    assert [(row["model"], row["seed"], row["case"]) for row in read_rows(path)] == [("a", 0, 9), ("b", 0, 0), ("a", 1, 0)]


@pytest.mark.parametrize("text", ["", "a,b\n1,2,3\n", 'a\n"x', "a note", "two lines\nof a note\n"])
def test_what_is_no_file_of_results_is_named(tmp_path: Path, text: str) -> None:
    path = tmp_path / "rows.csv"
    path.write_text(text)
    with pytest.raises(ValueError, match=r"rows\.csv is not a CSV file of results"):
        read_rows(path)


def test_rows_that_are_outdated_go_and_the_others_stay(tmp_path: Path) -> None:
    path = tmp_path / "runs.csv"
    assert delete_rows(path, lambda row: True) == [] and not path.exists()
    write_rows(path, [{"name": "a", "steps": 1}, {"name": "b", "steps": 2}])
    assert delete_rows(path, lambda row: row["steps"] < 2) == [{"name": "a", "steps": 1}]
    assert read_rows(path) == [{"name": "b", "steps": 2}]
