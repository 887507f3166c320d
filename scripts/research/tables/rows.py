"""The paper's tables as data: which experiment is which row, and what the paper prints there."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scripts.research.tables.outcomes import Outcome

#: Data sets as they are written.
DATA = {"acdc": "ACDC", "isic": "ISIC 2017"}
NETWORKS = {"unetr": "UNETR", "swin_unetr": "Swin UNETR", "transunet": "TransUNet", "segformer": "SegFormer"}
#: Table VI's boxes, in the order of the paper's claim.
BOXES = ("tight", "partial", "oversized", "misleading")


@dataclass(frozen=True)
class Row:
    """One row of one table on one data set.

    Attributes:
        label: what the row is called. experiment: its name.
        printed: the paper's numbers by column, as printed; empty where it has none.
        outcome: None while it has not been run.
    """

    label: str
    experiment: str
    printed: Mapping[str, float]
    outcome: Outcome | None

    def asked(self, key: str, default: Any = None) -> Any:
        """A value of the experiment's plan file, or of the pruning plan in it; ``default`` where there is none or nothing was run."""
        plan = self.outcome.plan if self.outcome else {}
        return plan.get(key, (plan.get("plan") or {}).get(key, default))

    @property
    def prato(self) -> bool:
        """It prunes by relevance to a box."""
        return bool(self.asked("method") == "prato")

    @property
    def literal(self) -> bool:
        """It is PrATo as the paper has it, without what this project adds."""
        return self.prato and self.asked("recipe", "paper") == "paper"

    def dice(self) -> float | None:
        """Mean DSC over cases, structures and seeds."""
        return self.outcome.mean("dice") if self.outcome else None


@dataclass(frozen=True)
class Table:
    """A table of the paper.

    Attributes:
        name: "table1" to "table6". title: as it is written over it.
        rows: by data set.
    """

    name: str
    title: str
    rows: Mapping[str, tuple[Row, ...]]

    def run(self, data: str) -> list[Row]:
        """Rows that have been run."""
        return [row for row in self.rows.get(data, ()) if row.outcome and row.outcome.runs]

    def where(self, data: str, wanted: Callable[[Row], bool]) -> list[Row]:
        """Rows that have been run and are ``wanted``."""
        return [row for row in self.run(data) if wanted(row)]


def read_tables(path: Path, outcomes: Mapping[str, Outcome]) -> dict[str, Table]:
    """The tables of ``path`` by name, with ``outcomes`` in their rows.

    Raises:
        ValueError: the file is not such a file.
    """
    try:
        found = json.loads(path.read_bytes())
        return {name: _table(name, found[name], outcomes) for name in sorted(found)}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{path} is no file of tables with a title and rows: {error!r}.") from None


def _table(name: str, table: Mapping[str, Any], outcomes: Mapping[str, Outcome]) -> Table:
    rows: dict[str, list[Row]] = {}
    for row in table["rows"]:
        made = Row(row["row"], row["experiment"], row["printed"], outcomes.get(row["experiment"]))
        rows.setdefault(row["data"], []).append(made)
    return Table(name, table["title"], {data: tuple(own) for data, own in rows.items()})
