"""Write docs/results/paper.md with its figures."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from prato.data.atomic import write_bytes
from scripts.common.paths import ROOT
from scripts.research.experiments.matrix import PAPER_TABLES
from scripts.research.figures.figures import Figures
from scripts.research.tables.cells import table_text
from scripts.research.tables.claims import own_goals, paper_claims
from scripts.research.tables.method_page import fill_method
from scripts.research.tables.outcomes import Outcome, read_outcomes
from scripts.research.tables.ranking import ranking_text
from scripts.research.tables.recipe import recipe_text
from scripts.research.tables.rows import DATA, Table, read_tables
from scripts.research.tables.verdicts import RULE, overview

SLICES = ROOT / "out" / "paper"

_HEAD = """# The paper, run again

Dutta, Maity and Mitra, "Prompt-based Dynamic Token Pruning for Efficient Segmentation of Medical Images"
([arXiv 2506.16369](https://arxiv.org/abs/2506.16369)): its tables, claims and figures from our own runs. All of it is written by
`scripts/research/paper.py report` from the files in [paper](paper), one a run, each with its command, commit, seed and device. The method
as it
was read, and why: [method.md](../method.md).

**How to read it.** Numbers in brackets are the paper's. Its networks, data and trainings are not those of the rows, so compare rows
with rows, not with brackets. The paper's three columns on ACDC are given as they are named there, beside ours by true
names. DSC, IoU and HD95 are means over cases and structures, ± the standard deviation over seeds where there is more than one. HD95 is
in mm on ACDC and in pixels of the 256 x 256 image on ISIC; a structure of which either mask is empty has none, is left out of the mean,
and is counted as *empty* beside it. GFLOP and ms: the network's call on a slice or image; GFLOP *of* the dense network's. Tokens: what
goes on after the last stage. Budget: what the training was given, from fresh weights. **A row of some hundred steps says how soon a
method learns, not how good it becomes**: with such budgets no network here is near what it can reach, and claims of one row over
another are claims about these budgets.
"""


def write(results: Path, out: Path, tables: Path = PAPER_TABLES, slices: Path = SLICES) -> None:
    """The page ``out``/results/paper.md with its figures in ``out``/images/paper, and the marked parts of ``out``/method.md if it is there.

    Args:
        results: the folder with a folder of result files a table. out: the folder of the documents.
        tables: which experiments are the rows of which table. slices: the experiments' slices for the figures.

    Raises:
        ValueError: a file is not what it should be; the message names it.
    """
    outcomes = read_outcomes(results)
    found = read_tables(tables, outcomes)
    parts = [_HEAD, _progress(found), "## What of the paper holds here\n", RULE, _claims(found)]
    for table in found.values():
        parts += [f"## {table.title}\n", *(f"**{DATA.get(data, data)}**\n\n{table_text(table, data)}" for data in table.rows)]
    parts += [
        recipe_text(results / "recipe.csv"),
        _ranking(found),
        "## Figures\n",
        Figures(found, slices, out / "images" / "paper").text("../images/paper"),
        _made(outcomes),
    ]
    page = out / "results" / "paper.md"
    page.parent.mkdir(parents=True, exist_ok=True)
    write_bytes(page, ("\n".join(part for part in parts if part).rstrip() + "\n").encode())
    if (out / "method.md").exists():
        fill_method(out / "method.md", out / "results", found)


def _progress(tables: Mapping[str, Table]) -> str:
    rows = {row.experiment: row for table in tables.values() for own in table.rows.values() for row in own}
    run = sum(row.outcome is not None for row in rows.values())
    return f"{run} of {len(rows)} experiments have been run.\n"


def _claims(tables: Mapping[str, Table]) -> str:
    claims, goals = paper_claims(tables), own_goals(tables)
    text = overview(claims) + "\n" + "".join(claim.text() for claim in claims if claim.because)
    if goals:
        text += "\nBeyond what the paper claims, in two readings: *baselines* are the paper's six and ToMe, which prune or merge as PrATo; "
        text += (
            "*every method* counts dense networks and the cut to the box too, which use the box without pruning.\n\n"
            + overview(goals)
            + "\n"
            + "".join(claim.text() for claim in goals)
        )
    return text


def _ranking(tables: Mapping[str, Table]) -> str:
    table = tables.get("table4")
    ranked = {data: text for data in DATA if table and (text := ranking_text(table, data))}
    return "## Table IV's methods, ranked\n\n" + "\n".join(f"**{DATA[data]}**\n\n{text}" for data, text in ranked.items()) if ranked else ""


def _made(outcomes: Mapping[str, Outcome]) -> str:
    commits = sorted({run["commit"] for outcome in outcomes.values() for run in outcome.runs})
    return f"Measured at the commits {', '.join(f'`{commit}`' for commit in commits)}." if commits else ""
