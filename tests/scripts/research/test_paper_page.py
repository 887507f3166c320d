"""What the report says of results whose answer is known, and that its figures are there."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from scripts.common.results import read_rows, write_rows
from scripts.research.figures.slices import read_slices
from scripts.research.paper_page import write
from scripts.research.tables.claims import own_goals, paper_claims
from scripts.research.tables.method_page import fill_method
from scripts.research.tables.outcomes import read_outcomes
from scripts.research.tables.paired import Paired, compare_patients, holm
from scripts.research.tables.paper_summary import count_verdicts, summary_text
from scripts.research.tables.ranking import ranking_text
from scripts.research.tables.recipe import recipe_text
from scripts.research.tables.rows import read_tables
from scripts.research.tables.verdicts import FAILS, HOLDS, NOT_RUN, NOT_SHOWN, Claim, beside
from tests.scripts.research.tables.paper_results import PATIENTS, Made, all_tables, write_results

PRATO = {"method": "prato"}


def claims(folder: Path, rows: list[Made]) -> dict[str, Claim]:
    tables = read_tables(write_results(folder, rows), read_outcomes(folder))
    return {claim.says: claim for claim in [*paper_claims(tables), *own_goals(tables)]}


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
    assert re.search(r"\*\*ACDC\*\*, the best of \d+ rows of Table IV trained on 800 slices, by mean DSC: PrATo, best 0\.9", learned)
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


def test_rows_of_different_budgets_are_not_compared(tmp_path: Path) -> None:
    rows = [
        Made("table4", "TRAM", "table4/tram", 0.7, {"method": "tram", "budget": {"slices": 60_000, "batch": 64}}),
        Made("table4", "PrATo", "table4/prato", 0.75, PRATO, 2.0),
    ]
    assert claims(tmp_path, rows)["PrATo beats each baseline as it was published"].verdict == NOT_RUN


def test_a_rival_that_was_trained_for_less_is_neither_ahead_nor_as_good(tmp_path: Path) -> None:
    long = {"budget": {"slices": 60_000, "batch": 64}, "spent": {"steps": 938, "batch": 64}}
    boxed = {"sees_box": "as a channel"}
    short = Made("table4", "TRAM + box", "table4/tram_box", 0.9, {"method": "tram", **boxed}, gflops=0.5)
    prato = Made("table4", "PrATo", "table4/prato", 0.8, {**PRATO, **long}, 2.0)
    alone = claims(tmp_path / "alone", [prato, short])
    first = "PrATo has a higher mean DSC than every baseline that sees the same box"
    cheaper = "PrATo takes fewer operations than every equally good method"
    assert alone[first].verdict == NOT_RUN and alone[cheaper].verdict == NOT_RUN
    rival = Made("table4", "Random + box", "table4/random_box", 0.7, {"method": "random", **boxed, **long}, gflops=0.5)
    both = claims(tmp_path / "both", [prato, short, rival])
    assert both[first].verdict == HOLDS and "above 1 of 1 trained for as long." in both[first].because[0]
    assert both[cheaper].verdict == HOLDS and "TRAM" not in both[cheaper].because[0]
    better = both["PrATo is better than every baseline that sees the same box"]
    assert better.told() == "holds (1 of 2)" and both[first].told() == "holds (1 of 2)" and "*holds (1 of 2)*" in better.text()


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
    assert re.search(r"ACDC, the box as a channel of the image adds \+0\.1\d\d to PrATo\.", said)
    assert "PrATo ranks 4 of 7" in said and "PrATo + box ranks" not in said


def test_a_claim_that_some_rows_have_not_decided_is_not_counted_as_holding(tmp_path: Path) -> None:
    rows = [
        Made("table4", "TRAM", "table4/tram", 0.7, {"method": "tram"}),
        Made("table4", "PrATo", "table4/prato", 0.75, PRATO, 2.0),
    ]
    short = Made("table4", "Random", "table4/random", 0.7, {"method": "random", "budget": {"slices": 10, "batch": 1}})
    for count, own in ((1, rows), (0, [*rows, short])):
        tables = read_tables(write_results(tmp_path / str(count), own), read_outcomes(tmp_path / str(count)))
        assert f"{count} hold" in count_verdicts(tables, paper_claims(tables))


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
    assert "the best of 2 rows of Table IV trained on 60,032 slices" in said and "TRAM" not in said


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


def test_verdicts_follow_the_numbers(tmp_path: Path) -> None:
    dense, pruned = Made("table5", "dense", "table5/dense", 0.8, {}), Made("table5", "pruned", "table5/pruned", 0.8, PRATO, 3.0)
    says = "Pruning cuts the operations of UNETR without loss"
    assert claims(tmp_path / "a", [dense, pruned])[says].verdict == HOLDS
    assert claims(tmp_path / "b", [dense, replace(pruned, dice=0.7)])[says].verdict == FAILS
    assert claims(tmp_path / "c", [dense, replace(pruned, gflops=4.1)])[says].verdict == FAILS
    found = claims(tmp_path / "d", [dense, replace(pruned, dice=0.9, gflops=2.0)])[says]
    assert "4.00 to 2.00 GFLOP per slice (-50 %), 42 % of the tokens kept; DSC 0.80" in found.because[0]
    assert claims(tmp_path / "e", [dense])[says].verdict == NOT_RUN


def test_the_order_of_the_boxes_is_looked_at_step_by_step(tmp_path: Path) -> None:
    says = "DSC falls from tight to partial to oversized to misleading boxes"
    dice = {"tight": 0.8, "partial": 0.78, "oversized": 0.76, "misleading": 0.6}
    rows = [Made("table6", box, f"table6/{box}", value, {**PRATO, "box": box, "model_of": "table4/prato"}) for box, value in dice.items()]
    assert claims(tmp_path / "a", rows)[says].verdict == HOLDS
    swapped = [
        replace(row, dice=0.77) if row.row == "oversized" else replace(row, dice=0.75) if row.row == "partial" else row for row in rows
    ]
    found = claims(tmp_path / "b", swapped)[says]
    assert found.verdict == FAILS and found.because[-1] == "By mean DSC, the order is tight, oversized, partial, misleading."


def test_prato_is_compared_with_baselines_and_against_those_with_its_box(tmp_path: Path) -> None:
    rows = [
        Made("table4", "TRAM", "table4/tram", 0.7, {"method": "tram"}),
        Made("table4", "TRAM, box", "table4/tram_box", 0.8, {"method": "tram", "sees_box": "as a channel"}),
        Made("table4", "PrATo", "table4/prato", 0.75, PRATO, 2.0),
    ]
    found = claims(tmp_path / "a", rows)
    assert found["PrATo beats each baseline as it was published"].verdict == HOLDS
    assert found["PrATo is better than every baseline that sees the same box"].verdict == FAILS
    assert found["PrATo has a higher mean DSC than every baseline that sees the same box"].verdict == FAILS
    assert found["PrATo takes fewer operations than every equally good method"].verdict == HOLDS
    equal = claims(tmp_path / "b", [replace(row, dice=0.75) for row in rows])["PrATo beats each baseline as it was published"]
    assert equal.verdict == NOT_SHOWN and "Not shown to differ from TRAM" in equal.because[1]


def test_prato_is_near_the_literature_where_every_structure_is(tmp_path: Path) -> None:
    says, prato = "PrATo is within 2 points of the literature's best automatic DSC", Made("table4", "PrATo", "table4/prato", 0.99, PRATO)
    assert claims(tmp_path / "a", [prato])[says].verdict == HOLDS
    far = claims(tmp_path / "b", [replace(prato, dice=0.925)])[says]  # the LV cavity alone is more than two points below
    gaps = {name: float(ours) - float(best) for name, ours, best in re.findall(r"(\w+ ?\w*) (\d\.\d+) against (\d\.\d+)", far.because[0])}
    assert far.verdict == FAILS and [name for name, gap in gaps.items() if gap < -0.02] == ["LV cavity"]


def test_cropping_and_equal_weights_are_held_against_prato_as_it_is(tmp_path: Path) -> None:
    rows = [
        Made("table1", "PrATo", "table4/prato", 0.8, PRATO),
        Made("table1", "PrATo, equal weights", "table4/equal", 0.7, {**PRATO, "plan": {"weights": "equal"}}),
        Made("table1", "crop to the box", "table4/crop", 0.75, {"sees_box": "by cropping"}),
    ]
    found = claims(tmp_path, rows)
    assert [says for says in found if says.startswith("Pruning beats cropping")] == ["Pruning beats cropping the image to the box"]
    assert found["Weighting queries by their entropy helps"].verdict == HOLDS


def test_a_verdict_counts_what_its_data_set_divides(tmp_path: Path) -> None:
    tram, prato = Made("table4", "TRAM", "table4/tram", 0.7, {"method": "tram"}), Made("table4", "PrATo", "table4/prato", 0.75, PRATO)
    says = "PrATo beats each baseline as it was published"
    for data, subjects in (("acdc", "patients"), ("isic", "images")):
        rows = [replace(row, design={**row.design, "data": data}) for row in (tram, prato)]
        assert claims(tmp_path / data, rows)[says].because[0].endswith(f" on {PATIENTS} {subjects}.")


def test_patients_are_witnesses_once(tmp_path: Path) -> None:
    write_results(tmp_path, [Made("table4", "PrATo", "table4/prato", 0.75, PRATO, seeds=3)])
    outcome = read_outcomes(tmp_path)["table4/prato"]
    assert [run["seed"] for run in outcome.runs] == [0, 1, 2]
    assert len(outcome.dice_by_patient()) == PATIENTS
    assert outcome.mean("dice") == pytest.approx(np.mean(list(outcome.dice_by_patient().values())))


@pytest.mark.slow
def test_a_missing_surface_is_counted_and_not_averaged(tmp_path: Path) -> None:
    tables = write_results(tmp_path, [Made("table4", "PrATo", "table4/prato", 0.75, PRATO)])
    path = tmp_path / "cases.csv"
    first = read_rows(path)[0]
    write_rows(path, [{**first, "hd95": {"RV cavity": None, "myocardium": 5.0, "LV cavity": 7.0}}])
    write(tmp_path, tmp_path / "docs", tables, tmp_path / "none")
    assert "| 6.0, 1 empty |" in (tmp_path / "docs" / "results" / "paper_tables.md").read_text()


def test_paired_by_hand() -> None:
    one = {f"p{n}": 0.5 + 0.01 * n for n in range(8)}
    found = compare_patients(one | {"alone": 0.1}, {name: value - 0.02 for name, value in one.items()})
    assert found is not None and found.patients == 8
    assert found.difference == pytest.approx(0.02) and found.interval == pytest.approx((0.02, 0.02))
    assert found.p == pytest.approx(2 / 2**8)  # all eight signs alike
    same = compare_patients(one, one)
    assert same is not None and same.p == 1.0 and not same.better and not same.worse
    assert compare_patients(one, {"other": 1.0}) is None
    two = compare_patients({"a": 1.0, "b": 1.0}, {"a": 0.0, "b": 0.5})
    assert two is not None and two.interval is None


def test_holm_by_hand() -> None:
    ps = [0.04, 0.01, 0.03, 0.5]
    assert [found.p for found in holm([Paired(9, 0.1, None, p) for p in ps])] == pytest.approx([0.09, 0.04, 0.09, 0.5])
    assert holm([]) == []


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
    pages = [tmp_path / "method.md", tmp_path / "measured.md"]
    for page, shipped in zip(pages, (docs / "method.md", docs / "measured" / "method.md")):
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
    pages[1].write_text(pages[1].read_text().replace("speed: begin", "haste: begin"))
    with pytest.raises(ValueError, match=r"speed"):
        fill_method(pages, docs / "results", tables)
    pages[1].write_text(pages[1].read_text() + "<!-- speed: begin -->\n<!-- speed: end -->\n")
    with pytest.raises(ValueError, match="haste"):
        fill_method(pages, docs / "results", tables)


def test_a_seed_that_one_row_lacks_says_nothing_of_their_difference(tmp_path: Path) -> None:
    rows = [
        Made("table4", "TRAM", "table4/tram", 0.7, {"method": "tram"}),
        Made("table4", "PrATo", "table4/prato", 0.75, PRATO, seeds=2),
    ]
    tables = write_results(tmp_path, rows)
    path = tmp_path / "cases.csv"
    cases = read_rows(path)
    for case in cases:
        if (case["experiment"], case["seed"]) == ("table4/prato", 1):
            case["dice"] = dict.fromkeys(case["dice"], 0.0)
    write_rows(path, cases)
    tram, prato = read_tables(tables, read_outcomes(tmp_path))["table4"].measured("acdc")
    assert prato.dice() == pytest.approx(0.375, abs=0.03)
    [(_, ours, theirs)] = beside(prato, [tram])
    assert ours == pytest.approx(0.75, abs=0.05) and theirs == tram.dice()


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
