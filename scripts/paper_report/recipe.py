"""What scripts/paper_recipe.py found on validation patients, by which the rows "at its best" and "engine" are trained."""

from __future__ import annotations

import json
from pathlib import Path

from paper_report.pages import grid
from paper_report.tables import DATA


def recipe_text(path: Path) -> str:
    """Markdown; empty where ``path`` is not there.

    Raises:
        ValueError: it is no such file.
    """
    if not path.exists():
        return ""
    try:
        found = json.loads(path.read_bytes())
        sets = [data for data in DATA if any(row["experiment"]["data"] == data for row in found["rows"])]
        cells: dict[tuple[str, bool], dict[str, str]] = {}
        for row in found["rows"]:
            told = f"{row['mean']['dice']:.3f}, {row['mean']['gflops']:.2f}"
            cells.setdefault((row["way"], row["boxed"]), {})[row["experiment"]["data"]] = told
        looked_at = {data: len({c["patient"] for c in row["cases"]}) for row in found["rows"] for data in [row["experiment"]["data"]]}
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path} is no result of scripts/paper_recipe.py: {error!r}.") from None
    head = ["tokens leave", "tokens under the box", *(f"{DATA[data]}: mean DSC, GFLOP" for data in sets)]
    lines = [[way, "stay" if boxed else "may leave", *(own.get(data, "-") for data in sets)] for (way, boxed), own in cells.items()]
    counted = ", ".join(f"{looked_at[data]} of {DATA[data]}" for data in sets)
    return (
        _HEAD + grid(head, lines) + f"\nThe validation side ({counted}), tight boxes, seed {found['seed']}, commit `{found['commit']}`.\n"
    )


_HEAD = """## What was chosen, and on which side of the split

How long the engine's rows train before tokens leave, and that *at its best* keeps all tokens under the box, was chosen from this table,
which is of validation patients; rivals and literal rows have no such choice, and are trained at the same rate and budget.
One seed: differences of a point or two here may be chance. The first look at the test side was before: it showed that rows whose tokens
leave from the first step lie behind dense ones, which is why the question was asked.

"""
