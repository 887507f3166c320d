"""The paper's tables as data: which experiment is which row, and what the paper prints there."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scripts.common.results import read_rows
from scripts.research.datasets.base import dataset_class, list_datasets
from scripts.research.tables.outcomes import Outcome

#: Data sets as they are written.
DATA = {name: dataset_class(name).title for name in list_datasets()}
NETWORKS = {"unetr": "UNETR", "swin_unetr": "Swin UNETR", "transunet": "TransUNet", "segformer": "SegFormer"}
#: What the paper prints of a row.
_PRINTED = ("left", "right", "myocardium", "dice", "iou", "hd95", "gflops", "ms")
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

    def design(self, key: str, default: Any = None) -> Any:
        """A value of the experiment, or of the pruning plan in it; ``default`` where there is none or nothing was run."""
        design = self.outcome.design if self.outcome else {}
        return design.get(key, design.get("plan", {}).get(key, default))

    @property
    def is_prato(self) -> bool:
        """It prunes by relevance to a box."""
        return bool(self.design("method") == "prato")

    @property
    def is_literal(self) -> bool:
        """It is PrATo as the paper has it, without what this project adds."""
        return self.is_prato and self.design("recipe", "paper") == "paper" and not self.has_box_channel

    @property
    def has_box_channel(self) -> bool:
        """The box is one more channel of its input."""
        return self.design("sees_box") in ("as a channel", "as prompt and channel")

    @property
    def has_box(self) -> bool:
        """Its network is told of the box, in one way or another."""
        return self.design("sees_box", "not at all") != "not at all"

    @property
    def is_still_learning(self) -> bool:
        """It was run, and a longer training would give another result."""
        return self.outcome is not None and self.outcome.is_still_learning

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

    def measured(self, data: str) -> list[Row]:
        """Rows that have been run."""
        return [row for row in self.rows.get(data, ()) if row.outcome and row.outcome.runs]

    def longest(self, data: str) -> list[Row]:
        """Of the rows that have been run, those that saw the most slices in training: what can be compared."""
        seen = [(row.outcome.slices, row) for row in self.measured(data) if row.outcome]
        most = max((slices for slices, _ in seen), default=0)
        return [row for slices, row in seen if slices == most]

    def where(self, data: str, wanted: Callable[[Row], bool]) -> list[Row]:
        """Rows that have been run and are ``wanted``."""
        return [row for row in self.measured(data) if wanted(row)]


def read_tables(path: Path, outcomes: Mapping[str, Outcome]) -> dict[str, Table]:
    """The tables of ``path`` by name, with ``outcomes`` in their rows.

    Raises:
        ValueError: the file is not such a file.
    """
    rows: dict[str, dict[str, list[Row]]] = {}
    titles: dict[str, str] = {}
    try:
        for each in read_rows(path):
            printed = {name: each[name] for name in _PRINTED if name in each}
            row = Row(str(each["row"]), each["experiment"], printed, outcomes.get(each["experiment"]))
            titles[each["table"]] = each["title"]
            rows.setdefault(each["table"], {}).setdefault(each["data"], []).append(row)
    except (OSError, ValueError, KeyError) as error:
        raise ValueError(f"{path} is not a file of tables with a title and rows: {error!r}.") from None
    return {name: Table(name, titles[name], {data: tuple(own) for data, own in rows[name].items()}) for name in sorted(rows)}
