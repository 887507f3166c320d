"""Volumes, ejection fraction and mass of every heart in a studies folder, as a table, and on request a page about each."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated

import typer

from prato.data.atomic import first_line, make_folder, write_bytes
from prato.function.hearts import find_hearts, table_rows
from prato.function.report import write_report
from scripts.common.refusals import refuses_in_one_sentence


@refuses_in_one_sentence
def main(
    studies: Annotated[Path, typer.Argument(metavar="STUDIES", help="Studies folder: 4D files, or single frames of patients.")],
    out: Annotated[Path, typer.Option(help="The .csv or .json file to write.")],
    masks: Annotated[
        Path | None, typer.Option(help="Folder of masks named like their images; by default the studies folder's own labels.")
    ] = None,
    reports: Annotated[Path | None, typer.Option(help="Folder for a page about each heart, as HTML and PDF.")] = None,
) -> None:
    """Measure every heart. Exit code: 0, all were measured; 1, some studies or pages were left out; 2, nothing was written."""
    if out.suffix not in (".csv", ".json"):
        raise ValueError(f"The table {out.name} must be a .csv or .json file.")
    found = find_hearts(studies, masks)
    for sentence in found.left_out:
        typer.echo(sentence, err=True)
    if not found.hearts:
        raise ValueError(f"No heart of {studies} could be measured: nothing was written.")
    rows = table_rows(found.hearts)
    make_folder(out.parent)
    text = _as_csv(rows) if out.suffix == ".csv" else json.dumps(rows, indent=1, ensure_ascii=False) + "\n"
    write_bytes(out, text.encode())
    try:
        if reports is not None:
            make_folder(reports)
            for heart in found.hearts:
                write_report(heart, reports)
    except OSError as error:
        typer.echo(f"{first_line(error)}. The table is in {out}, but not every heart has its page.", err=True)
        raise typer.Exit(1) from None
    typer.echo(f"{len(rows)} hearts are in {out}{'' if reports is None else f', and a page about each in {reports}'}.")
    if found.left_out:
        raise typer.Exit(1)


def _as_csv(rows: Sequence[Mapping[str, object]]) -> str:
    """As spreadsheets read it: what is nested has columns of its own, ``lv.edv_ml``, and what is not known an empty cell."""
    flat = [dict(_flat(row)) for row in rows]
    text = io.StringIO()
    writer = csv.DictWriter(text, list(dict.fromkeys(name for row in flat for name in row)), lineterminator="\n")
    writer.writeheader()
    writer.writerows(flat)
    return text.getvalue()


def _flat(row: Mapping[str, object], prefix: str = "") -> Iterator[tuple[str, object]]:
    for name, value in row.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


if __name__ == "__main__":
    typer.run(main)
