"""The paper's figures, as far as the experiments have left what they show."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from scripts.research.datasets.base import dataset_class
from scripts.research.figures.curves import draw_overview, draw_queries, draw_stages
from scripts.research.figures.panels import draw_boxes, draw_methods, draw_retention
from scripts.research.figures.slices import ShownSlices, read_slices
from scripts.research.tables.rows import DATA, Row, Table


@dataclass(frozen=True)
class Figures:
    """Draws all figures.

    Attributes:
        tables: with their outcomes. slices: the folder with the experiments' slices. images: where the figures go.
    """

    tables: Mapping[str, Table]
    slices: Path
    images: Path

    def text(self, link: str) -> str:
        """Draw them; Markdown with each figure, linked below the folder ``link``, or a line that says what it lacks."""
        return self._text(self._all(), link)

    def overview(self, link: str) -> str:
        """As :meth:`text`, the one figure of DSC against what it costs."""
        return self._text([("DSC against cost, same box", "overview", self._overview)], link)

    def _text(self, figures: Sequence[tuple[str, str, Callable[[Path], bool]]], link: str) -> str:
        lines = []
        for title, name, draw in figures:
            path = self.images / f"{name}.png"
            lines.append(f"### {title}\n")
            # the slices are not in the repository: without them a figure of theirs stays as it is
            if draw(path) or path.exists():
                lines.append(f"![{title}]({link}/{name}.png)\n")
            else:
                lines.append("Left out: no experiment has left what it shows.\n")
        return "\n".join(lines)

    def _all(self) -> list[tuple[str, str, Callable[[Path], bool]]]:
        methods = [(number, data) for data in DATA if (number := dataset_class(data).figure)]
        return [
            *((f"Figure {n}: the methods on {DATA[data]}", f"figure{n}", self._methods(data)) for n, data in methods),
            ("Figure 5: operations, and tokens by stage", "figure5", self._stages),
            ("Figure 6: four networks, dense and pruned", "figure6", self._hosts),
            ("Figure 7: where tokens stay", "figure7", self._retention),
            ("Figure 8: ranks and weights of the queries, both spread evenly by definition", "figure8", self._queries),
            ("Figure 9: one slice under four boxes", "figure9", self._boxes),
        ]

    def _rows(self, table: str, data: str) -> list[Row]:
        return self.tables[table].measured(data) if table in self.tables else []

    def _found(self, rows: list[Row]) -> dict[str, ShownSlices]:
        """The rows' slices by label."""
        found = ((row.label, read_slices(self.slices, row.experiment)) for row in rows)
        return {label: shown for label, shown in found if shown is not None}

    def _overview(self, path: Path) -> bool:
        table = self.tables.get("table4")
        rows = {data: own for data in DATA if table and (own := [row for row in table.longest(data) if row.has_box])}
        if rows:
            draw_overview(path, rows)
        return bool(rows)

    def _methods(self, data: str) -> Callable[[Path], bool]:
        def draw(path: Path) -> bool:
            found = self._found(sorted(self._rows("table4", data), key=_dense_first))
            if found:
                draw_methods(path, data, found)
            return bool(found)

        return draw

    def _stages(self, path: Path) -> bool:
        rows = {row.experiment: row for table in ("table4", "table5") for row in self._rows(table, "acdc")}
        pruned = [
            row
            for row in rows.values()
            if row.design("sees_box") != "as a channel" and row.outcome and row.outcome.runs[0].get("token_density")
        ]
        if pruned:
            draw_stages(path, pruned)
        return bool(pruned)

    def _hosts(self, path: Path) -> bool:
        found = self._found(self._rows("table5", "acdc"))
        if found:
            draw_methods(path, "acdc", found)
        return bool(found)

    def _retention(self, path: Path) -> bool:
        rows = [row for data in DATA for row in self._rows("table4", data) if row.is_prato or row.design("method") == "random"]
        found = self._found([_with_data_title(row) for row in rows if row.design("sees_box") != "as a channel"])
        kept = {label: shown for label, shown in found.items() if shown.retention is not None}
        if kept:
            draw_retention(path, kept)
        return bool(kept)

    def _queries(self, path: Path) -> bool:
        rows = [row for data in DATA for row in self._rows("table4", data) if row.is_prato]
        found = self._found([_with_data_title(row) for row in rows])
        weighted = {label: shown for label, shown in found.items() if shown.rank is not None and shown.weight is not None}
        if weighted:
            draw_queries(path, weighted)
        return bool(weighted)

    def _boxes(self, path: Path) -> bool:
        rows = [row for row in self._rows("table6", "acdc") if row.is_literal]
        found = self._found([replace(row, label=str(row.design("box"))) for row in rows])
        if len(found) > 1:
            draw_boxes(path, "acdc", found)
        return len(found) > 1


def _dense_first(row: Row) -> int:
    """Dense, then the baselines, then PrATo, as the paper has them."""
    return {"dense": 0, "prato": 2}.get(str(row.design("method")), 1)


def _with_data_title(row: Row) -> Row:
    return replace(row, label=f"{row.label}, {DATA[str(row.design('data', 'acdc'))]}")
