"""Write docs/results/paper.md with its figures, and docs/results/paper_tables.md behind it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from prato.data.atomic import make_folder, write_bytes
from scripts.common.paths import ROOT
from scripts.research.experiments.matrix import PAPER_TABLES
from scripts.research.figures.figures import Figures
from scripts.research.tables.cells import table_text
from scripts.research.tables.claims import own_goals, paper_claims
from scripts.research.tables.method_page import fill_method
from scripts.research.tables.outcomes import Outcome, read_outcomes
from scripts.research.tables.paper_summary import summary_text
from scripts.research.tables.ranking import ranking_text
from scripts.research.tables.recipe import recipe_text
from scripts.research.tables.rows import DATA, Table, read_tables
from scripts.research.tables.verdicts import RULE, Claim, overview

SLICES = ROOT / "out" / "paper"

_HEAD = """# Reproducing the paper

Dutta, Maity and Mitra, "Prompt-based Dynamic Token Pruning for Efficient Segmentation of Medical Images"
([arXiv 2506.16369](https://arxiv.org/abs/2506.16369)): its claims and figures, tested here. `make report` writes
this page from [the results](paper). See also [all tables](paper_tables.md), [the method](../method.md), [how to run
it](../experiments.md).

*PrATo engine* and *PrATo at its best* are [our variants](../experiments.md#what-differs) of *PrATo*.
"""
_LEARNING = """**{learning} of {run} rows are *still learning***: over the last doubling of slices, validation DSC rose by 0.01
or more, or there is no curve. They show how fast a method learns, not how good it becomes.
"""
_READ = """**How to read the tables.** Numbers in brackets are the paper's. Its networks, data and trainings differ from ours, so
compare rows with rows, not with brackets. The paper's three columns on ACDC keep their names; ours have the true names.

- DSC, IoU and HD95 are means over cases and structures, ± the standard deviation over seeds where there is more than one.
- HD95 is in mm on ACDC and in pixels of the 256 x 256 image on ISIC. It is undefined if either mask lacks the structure;
  such cases are left out of the mean and counted as *empty* beside it.
- GFLOP: one call of the network on a slice or image, *of* that of the dense network.
- Tokens: the fraction kept after the last stage.
- ms: the same call, with all rows timed in turn in one process ([times.csv](paper/times.csv)). There is no time if the
  weights decide how many tokens are kept.
- Budget: the length of the training, from scratch. Device: where the scores were computed.
"""
_READINGS = """The next claims go beyond the paper's. *Baselines* are all methods that prune or merge tokens, as PrATo does. *Every
method* also includes dense networks and cropping to the box, which use the box without pruning.
"""
_RULES = "[paper.md](paper.md#which-of-the-papers-claims-hold-here) says what *holds* means, and what a baseline is.\n"
_BEYOND = "Claims that go beyond the paper's:\n"


def write(results: Path, out: Path, tables: Path = PAPER_TABLES, slices: Path = SLICES) -> None:
    """The pages ``out``/results/paper.md, with its figures in ``out``/images/paper, and paper_tables.md; and the marked parts of
    ``out``/method.md, reading_the_paper.md and measured/method.md if they are there.

    Args:
        results: the folder of runs.csv and cases.csv. out: the folder of the documents.
        tables: which experiments are the rows of which table. slices: the experiments' slices for the figures.

    Raises:
        ValueError: a file is not what it should be; the message names it.
    """
    outcomes = read_outcomes(results)
    found = read_tables(tables, outcomes)
    claims, goals = paper_claims(found), own_goals(found)
    figures = Figures(found, slices, out / "images" / "paper").text("../images/paper")
    first = Figures(found, slices, out / "images" / "paper").overview("../images/paper")
    page = [
        _HEAD,
        _progress(found),
        "## What was learned\n",
        summary_text(found, claims),
        first,
        "## Which of the paper's claims hold here\n",
    ]
    page += [RULE, overview(claims), *([_READINGS, overview(goals)] if goals else []), "## Figures\n", figures, _made(outcomes)]
    _write_page(out / "results" / "paper.md", page)
    _write_page(out / "results" / "paper_tables.md", _tables_page(found, claims, goals, results / "recipe.csv"))
    pages = [out / "method.md", out / "reading_the_paper.md", out / "measured" / "method.md"]
    if all(page.exists() for page in pages):
        fill_method(pages, out / "results", found)


def _tables_page(found: Mapping[str, Table], claims: Sequence[Claim], goals: Sequence[Claim], recipe: Path) -> list[str]:
    parts = ["# Reproducing the paper: all tables\n", _READ]
    for table in found.values():
        parts += [f"## {table.title}\n", *(f"**{DATA.get(data, data)}**\n\n{table_text(table, data)}" for data in table.rows)]
    parts += [recipe_text(recipe), _ranking(found), "## Why each claim holds or does not\n", _RULES]
    parts += ["".join(claim.text() for claim in claims if claim.because), _BEYOND, "".join(claim.text() for claim in goals)]
    return parts


def _write_page(path: Path, parts: Sequence[str]) -> None:
    make_folder(path.parent)
    write_bytes(path, ("\n".join(part for part in parts if part).rstrip() + "\n").encode())


def _progress(tables: Mapping[str, Table]) -> str:
    rows = {row.experiment: row for table in tables.values() for own in table.rows.values() for row in own}
    run = sum(row.outcome is not None for row in rows.values())
    learning = sum(row.is_still_learning for row in rows.values())
    told = _LEARNING.format(learning=learning, run=run) if learning else ""
    return f"{run} of {len(rows)} experiments have been run. {told}".rstrip() + "\n"


def _ranking(tables: Mapping[str, Table]) -> str:
    table = tables.get("table4")
    ranked = {data: text for data in DATA if table and (text := ranking_text(table, data))}
    return "## Table IV's methods, ranked\n\n" + "\n".join(f"**{DATA[data]}**\n\n{text}" for data, text in ranked.items()) if ranked else ""


def _made(outcomes: Mapping[str, Outcome]) -> str:
    commits = sorted({run["commit"] for outcome in outcomes.values() for run in outcome.runs})
    return f"Measured at the commits {', '.join(f'`{commit}`' for commit in commits)}." if commits else ""
