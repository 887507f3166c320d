"""What the report says of results whose answer is known, and that its figures are there."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from scripts.common.results import read_rows, write_rows
from scripts.research.figures.slices import read_slices
from scripts.research.paper_page import write
from scripts.research.tables.claims import paper_claims
from scripts.research.tables.method_page import fill_method
from scripts.research.tables.outcomes import read_outcomes
from scripts.research.tables.paper_summary import summary_text
from scripts.research.tables.ranking import ranking_text
from scripts.research.tables.recipe import recipe_text
from scripts.research.tables.rows import read_tables
from tests.scripts.research.tables.paper_results import Made, all_tables, write_results

PRATO = {"method": "prato"}


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A report on everything, but for one row that was not run."""
    folder = tmp_path_factory.mktemp("report")
    unrun = [Made("table4", "ToMe", "table4/tome_acdc", 0.0, {}, printed={"dice": 0.5})]
    tables = write_results(folder / "results", all_tables(), unrun, folder / "material")
    write(folder / "results", folder / "docs", tables, folder / "material")
    return folder / "docs"


@pytest.mark.slow
def test_every_row_stands_beside_what_is_printed(written: Path) -> None:
    lines = (written / "results" / "paper_tables.md").read_text().splitlines()
    (row, isic) = (line for line in lines if line.startswith("| PrATo |"))
    assert "(0.717) | 0.615, 0.717, 0.819 |" in row and "(19.9)" in row and "(3.5)" in row  # the mean of the printed columns
    assert row.count("±") >= 6 and "3 seeds" in row and "3.00 ± 0.00 of 4.00 | 42 %" in row
    assert re.search(r"\| \d\.\d \(3\.5\) \|", row)  # ms
    assert "(0.863)" in isic
    (tome,) = (line for line in lines if line.startswith("| ToMe |"))
    assert "(0.500)" in tome and "| not run |" in tome
    run = len({made.name for made in all_tables()})
    assert f"{run} of {run + 1} experiments have been run." in (written / "results" / "paper.md").read_text()
    assert sum(line.startswith("## Table") and "ranked" not in line for line in lines) == 6


@pytest.mark.slow
def test_figures_are_there_and_small(written: Path) -> None:
    text = (written / "results" / "paper.md").read_text()
    for name in ("overview", *(f"figure{n}" for n in (3, 4, 5, 6, 7, 8, 9))):
        path = written / "images" / "paper" / f"{name}.png"
        assert f"(../images/paper/{name}.png)" in text
        assert path.stat().st_size < 300_000
        pixels = np.asarray(Image.open(path).convert("L"))
        assert 700 < pixels.shape[1] < 1100 and pixels.std() > 10
    assert "Left out" not in text


def test_what_was_learned_comes_first(written: Path) -> None:
    text = (written / "results" / "paper.md").read_text()
    learned = text.split("## What was learned")[1].split("##")[0]
    assert re.search(r"\d+ hold, \d+ do not, and \d+ are not shown either way", learned)
    assert re.search(r"\*\*ACDC\*\*, best of \d+ rows of Table IV, by mean DSC, at 800 slices: PrATo, best 0\.9", learned)
    assert "PrATo ranks" in learned
    assert "ACDC, mean DSC without pruning: dense 0.8" in learned


def test_what_was_learned_is_short_and_says_what_is_still_learning(written: Path) -> None:
    text = (written / "results" / "paper.md").read_text()
    learned = text.split("## What was learned")[1].split("##")[0]
    assert len(text.split("## Which of the paper's claims")[0].split()) <= 400
    assert "ACDC, pruning with the same box: PrATo is" in learned
    assert re.search(r"\*\*(\d+) of \1 rows are \*still learning\*\*\*", text)
    assert "all rows are *still learning*" in text
    assert text.index("overview.png") < text.index("## Which of the paper's claims")


def test_a_row_is_still_learning_until_its_last_doubling_gains_nothing(tmp_path: Path) -> None:
    tables = write_results(tmp_path, [Made("table4", "PrATo", "table4/prato", 0.75, PRATO)])
    (run,) = read_rows(tmp_path / "runs.csv")

    def is_still_learning(curve: dict[int, float], **spent: int) -> bool:
        write_rows(tmp_path / "runs.csv", [{**run, "spent": {**run["spent"], **spent}}])
        points = [{"experiment": "table4/prato", "seed": 0, "slices": slices, "dice": dice} for slices, dice in curve.items()]
        write_rows(tmp_path / "curves.csv", points or [{"experiment": "other", "seed": 0, "slices": 1, "dice": 0.0}])
        (row,) = read_tables(tables, read_outcomes(tmp_path))["table4"].rows["acdc"]
        return row.is_still_learning

    flat, rising = {15_000: 0.5, 30_000: 0.792, 60_032: 0.8}, {15_000: 0.5, 30_000: 0.79, 60_032: 0.8001}
    assert not is_still_learning(flat, slices=60_032) and is_still_learning(rising, slices=60_032)
    assert is_still_learning(flat)  # of some hundred steps: the curve is another training's
    assert is_still_learning({}, slices=60_032) and is_still_learning({60_032: 0.8, 10_000: 0.8}, slices=60_032)


def test_what_the_box_as_a_channel_adds_to_prato_is_said(tmp_path: Path) -> None:
    told = {**PRATO, "sees_box": "as prompt and channel"}
    rows = [
        Made("table4", "PrATo", "table4/prato", 0.8, PRATO),
        Made("table4", "PrATo + box", "table4/prato_box", 0.9, told),
        Made("table4", "PrATo engine", "table4/engine", 0.7, {**PRATO, "recipe": "engine"}),
        Made("table4", "Dense", "table4/dense", 0.85, {}),
        Made("table4", "Dense + box", "table4/dense_box", 0.85, {"sees_box": "as a channel"}),
        Made("table4", "Dense in a window", "table4/window", 0.6, {"sees_box": "in a window"}),
        Made("table4", "TRAM", "table4/tram", 0.5, {"method": "tram"}),
    ]
    tables = read_tables(write_results(tmp_path, rows), read_outcomes(tmp_path))
    said = summary_text(tables, paper_claims(tables))
    assert re.search(r"ACDC, pruning with the same box.*: (.*; )?the box as a channel adds \+0\.1\d\d to PrATo\.", said)
    assert "PrATo ranks 4 of 7" in said and "PrATo + box ranks" not in said


def test_only_rows_trained_for_as_long_as_any_are_ranked(tmp_path: Path) -> None:
    long = {"budget": {"slices": 60_000, "batch": 64}, "spent": {"steps": 938, "batch": 64}}
    rows = [
        Made("table4", "TRAM", "table4/tram", 0.9, {"method": "tram"}),
        Made("table4", "Random", "table4/random", 0.7, {"method": "random", **long}),
        Made("table4", "PrATo", "table4/prato", 0.8, {**PRATO, **long}),
    ]
    table = read_tables(write_results(tmp_path, rows), read_outcomes(tmp_path))["table4"]
    assert [row.label for row in table.longest("acdc")] == ["Random", "PrATo"] and len(table.measured("acdc")) == 3
    assert "| 1 | PrATo |" in ranking_text(table, "acdc") and "TRAM" not in ranking_text(table, "acdc")
    said = summary_text({"table4": table}, paper_claims({"table4": table}))
    assert "best of 2 rows of Table IV, by mean DSC, at 60,032 slices" in said and "TRAM" not in said


def test_methods_are_ranked_by_dice(written: Path) -> None:
    text = (written / "results" / "paper_tables.md").read_text()
    ranking = [line.split(" | ")[1] for line in text.split("ranked\n")[1].splitlines() if line.startswith("| ")][2:6]
    assert ranking == ["PrATo, best", "crop to the box", "Random, same box", "TRAM, same box"]


def test_nothing_run_says_so(tmp_path: Path) -> None:
    tables = write_results(tmp_path / "results", [], [Made("table5", "UNETR", "table5/unetr", 0.0, {})])
    write(tmp_path / "results", tmp_path / "docs", tables, tmp_path / "material")
    text = (tmp_path / "docs" / "results" / "paper.md").read_text()
    assert "0 of 1 experiments" in text and "not run" in text and "Left out" in text
    assert "| not run |" in (tmp_path / "docs" / "results" / "paper_tables.md").read_text()
    assert not list((tmp_path / "docs").glob("images/paper/*"))


@pytest.mark.slow
def test_a_missing_surface_is_counted_and_not_averaged(tmp_path: Path) -> None:
    tables = write_results(tmp_path, [Made("table4", "PrATo", "table4/prato", 0.75, PRATO)])
    path = tmp_path / "cases.csv"
    first = read_rows(path)[0]
    write_rows(path, [{**first, "hd95": {"RV cavity": None, "myocardium": 5.0, "LV cavity": 7.0}}])
    write(tmp_path, tmp_path / "docs", tables, tmp_path / "none")
    assert "| 6.0, 1 empty |" in (tmp_path / "docs" / "results" / "paper_tables.md").read_text()


def test_what_is_no_result_is_named(tmp_path: Path) -> None:
    tables = write_results(tmp_path, [Made("table4", "PrATo", "table4/prato", 0.75, PRATO)])
    write_rows(tmp_path / "runs.csv", [{"experiment": "table4/half", "network": "unetr"}])
    with pytest.raises(ValueError, match=r"runs\.csv holds a row that is not a result of an experiment: it lacks spent"):
        read_outcomes(tmp_path)
    (tmp_path / "runs.csv").write_text("")
    with pytest.raises(ValueError, match=r"runs\.csv is not a CSV file"):
        read_outcomes(tmp_path)
    tables.write_text("table\ntable4\n")
    with pytest.raises(ValueError, match=r"tables\.csv"):
        read_tables(tables, {})
    (tmp_path / "table4").mkdir()
    (tmp_path / "table4" / "half.npz").write_bytes(b"PK")
    with pytest.raises(ValueError, match=r"half\.npz does not hold slices"):
        read_slices(tmp_path, "table4/half")


@pytest.mark.slow
def test_the_pages_on_the_method_are_filled_from_results(tmp_path: Path) -> None:
    """Outside of the parts that are written, they have no decimals: a measured number would be one typed by hand."""
    docs = Path(__file__).parents[3] / "docs"
    pages = [tmp_path / "method.md", tmp_path / "reading_the_paper.md", tmp_path / "measured.md"]
    for page, shipped in zip(pages, (docs / "method.md", docs / "reading_the_paper.md", docs / "measured" / "method.md")):
        page.write_text(re.sub(r"(: begin -->\n).*?(<!-- )", r"\1\2", shipped.read_text(), flags=re.DOTALL))
    left = re.sub(r"\(https?:[^)]*\)|2506\.16369", "", "".join(page.read_text() for page in pages))
    assert set(re.findall(r"\d+\.\d+", left)) == {"1.5"}  # how oversized boxes are drawn
    rows = [*all_tables(), Made("table2", "25th percentile", "a/b", 0.7, PRATO, printed={"gflops": 26.78})]
    rows.append(Made("table2", "50th percentile", "a/c", 0.7, PRATO, printed={"gflops": 37.31}))
    folder = tmp_path / "results"
    tables = read_tables(write_results(folder, rows), read_outcomes(folder))
    fill_method(pages, docs / "results", tables)
    text = "".join(page.read_text() for page in pages)
    assert not re.search(r": begin -->\n<!-- ", text)
    assert "within 8 % of the exchanged rows" in text and "| relevance minus random tokens, 25 % kept |" in text
    assert re.search(r"\d+ hold, \d+ do not, and \d+ are not shown either way", text)
    fill_method(pages, docs / "results", tables)
    assert text == "".join(page.read_text() for page in pages)
    pages[-1].write_text(pages[-1].read_text().replace("speed: begin", "haste: begin"))
    with pytest.raises(ValueError, match=r"speed"):
        fill_method(pages, docs / "results", tables)
    pages[-1].write_text(pages[-1].read_text() + "<!-- speed: begin -->\n<!-- speed: end -->\n")
    with pytest.raises(ValueError, match="haste"):
        fill_method(pages, docs / "results", tables)


def test_what_was_chosen_on_validation_patients_is_told(tmp_path: Path) -> None:
    path = tmp_path / "recipe.csv"
    assert recipe_text(path) == ""
    row = {"data": "acdc", "way": "after half", "mean": {"dice": 0.5, "gflops": 1.0}, "patients": 1, "seed": 0, "commit": "abc"}
    write_rows(path, [{**row, "boxed": boxed} for boxed in (False, True)])
    text = recipe_text(path)
    assert "| after half | may be dropped | 0.500, 1.00 |" in text and "| after half | kept | 0.500, 1.00 |" in text and "1 of ACDC" in text
    path.write_text("{}")
    with pytest.raises(ValueError, match="not a result of"):
        recipe_text(path)
