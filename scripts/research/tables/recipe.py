"""What scripts/research/recipe_study.py found on validation patients, by which the rows "at its best" and "engine" are trained."""

from __future__ import annotations

from pathlib import Path

from scripts.common.markdown import grid
from scripts.common.results import read_rows
from scripts.research.tables.rows import DATA


def recipe_text(path: Path) -> str:
    """Markdown; empty where ``path`` is not there.

    Raises:
        ValueError: it is no such file.
    """
    if not path.exists():
        return ""
    try:
        rows = read_rows(path)
        sets = [data for data in DATA if any(row["data"] == data for row in rows)]
        cells: dict[tuple[str, bool], dict[str, str]] = {}
        dice: dict[tuple[str, bool], dict[str, float]] = {}
        for row in rows:
            key, data = (row["way"], row["boxed"]), row["data"]
            cells.setdefault(key, {})[data] = f"{row['mean']['dice']:.3f}, {row['mean']['gflops']:.2f}"
            dice.setdefault(key, {})[data] = row["mean"]["dice"]
        patients = {row["data"]: row["patients"] for row in rows}
        seed, commit = rows[0]["seed"], rows[0]["commit"]
    except (ValueError, KeyError, IndexError) as error:
        raise ValueError(f"{path} is not a result of scripts/research/recipe_study.py: {error!r}.") from None
    head = ["tokens are dropped", "tokens under the box", *(f"{DATA[data]}: mean DSC, GFLOP" for data in sets)]
    lines = [[way, "kept" if boxed else "may be dropped", *(own.get(data, "-") for data in sets)] for (way, boxed), own in cells.items()]
    counted = ", ".join(f"{patients[data]} of {DATA[data]}" for data in sets)
    told = f"Validation side ({counted}), tight boxes, seed {seed}, commit `{commit}`."
    return f"{_HEAD}{grid(head, lines)}\n{told} Mean DSC over both data sets: {_together(dice)}.\n"


def _together(cells: dict[tuple[str, bool], dict[str, float]]) -> str:
    """The ways that every data set has, by their mean over the data sets."""
    whole = max(len(own) for own in cells.values())
    means = {key: sum(own.values()) / whole for key, own in cells.items() if len(own) == whole}
    order = sorted(means, key=lambda key: -means[key])
    return "; ".join(
        f"{way}, tokens under the box {'kept' if boxed else 'may be dropped'}: {means[way, boxed]:.3f}" for way, boxed in order
    )


_HEAD = """## What was chosen, and on which side of the split

Two things were chosen, on validation patients alone: how long the engine's rows train before tokens are dropped, and that
*at its best* keeps all tokens under the box. Baselines and literal rows have no such choice, and are trained with the same
rate and budget. We examined this because, at a first look at the test side, rows that drop tokens from the first step were
behind dense ones. Half was chosen from the rows on ACDC in which tokens under the box may be dropped, before the others
were measured. The whole table has one seed, and a point or two may be chance, so it does not show that half is the best
fraction. For this study, both data sets had the steps of their plan files; the rows on ISIC have fewer (column *budget*).

"""
