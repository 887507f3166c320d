"""What a simulation found so far, kept in one JSON file."""

from __future__ import annotations

import json
from collections.abc import Collection
from pathlib import Path
from typing import Any

from prato.data.atomic import write_bytes

Row = dict[str, Any]


class Rows:
    """The rows in ``file``, written as they come; every new one says how it was ``made``.

    Raises:
        ValueError: ``file`` is there, but no simulation of ``budget`` on ``patients``.
    """

    def __init__(self, file: Path, budget: dict[str, Any], patients: Collection[str], made: dict[str, Any]) -> None:
        self.file, self.budget, self.made = file, budget, made
        self.rows = self._stored(patients) if file.exists() else []
        file.parent.mkdir(parents=True, exist_ok=True)

    def of(self, strategy: str, seed: int, pruned: bool) -> list[Row]:
        """Those of one run, in order."""
        return [row for row in self.rows if (row["strategy"], row["seed"], row["pruned"]) == (strategy, seed, pruned)]

    def keep(self, row: Row) -> None:
        """Add ``row``, on disk before this returns."""
        self.rows.append({**row, **self.made})
        write_bytes(self.file, (json.dumps({"budget": self.budget, "rows": self.rows}, indent=1) + "\n").encode())

    def _stored(self, patients: Collection[str]) -> list[Row]:
        try:
            stored = json.loads(self.file.read_text())
            rows: list[Row] = stored["rows"]
            same = stored["budget"] == self.budget and all(set(row.get("patients", ())) <= set(patients) for row in rows)
        except (ValueError, KeyError, TypeError, AttributeError):
            same = False
        if not same:
            raise ValueError(f"{self.file} is not a simulation of this budget and split: give what it was begun with, or another file.")
        return rows
