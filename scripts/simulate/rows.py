"""What a simulation found so far: a row a round in one CSV file."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Any

from scripts.common.results import Row, read_rows, write_rows


class Rows:
    """The rounds in ``file``, written as they come; every new one says how it was ``made``.

    Raises:
        ValueError: ``file`` is there, but no simulation of ``budget`` on ``patients``.
    """

    def __init__(self, file: Path, budget: dict[str, Any], patients: Collection[str], made: dict[str, Any]) -> None:
        self.file, self.budget, self.made = file, budget, made
        self.rows = self._stored(patients) if file.exists() else []

    def of(self, strategy: str, seed: int, pruned: bool) -> list[Row]:
        """Those of one run, in order."""
        return [row for row in self.rows if (row["strategy"], row["seed"], row["pruned"]) == (strategy, seed, pruned)]

    def append(self, row: Row) -> None:
        """Add ``row``, on disk before this returns."""
        self.rows.append({**row, **self.made, "budget": self.budget})
        write_rows(self.file, self.rows)

    def _stored(self, patients: Collection[str]) -> list[Row]:
        try:
            rows = read_rows(self.file)
            same = all(row["budget"] == self.budget and set(row.get("patients", ())) <= set(patients) for row in rows)
        except (ValueError, KeyError, TypeError, OSError):
            same = False
        if not same:
            raise ValueError(
                f"{self.file} is not a simulation of this budget and split: use those that it was begun with, or another file."
            )
        return rows
