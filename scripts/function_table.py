"""Volumes, ejection fraction and mass of every heart in a studies folder, as a table, and on request a page about each."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from prato.data.atomic import make_folder, write_bytes
from prato.function.hearts import find_hearts, table_rows
from prato.function.report import write_report
from scripts.common.results import write_rows


def main(
    studies: Annotated[Path, typer.Argument(metavar="STUDIES", help="Studies folder: 4D files, or single frames of patients.")],
    out: Annotated[Path, typer.Option(help="The .csv or .json file to write.")],
    masks: Annotated[Path | None, typer.Option(help="Folder of masks named as their images; else the folder's own labels.")] = None,
    reports: Annotated[Path | None, typer.Option(help="Folder for a page about each heart, as HTML and PDF.")] = None,
) -> None:
    """Measure them. Exit code: 0, all; 1, some studies are left out; 2, nothing was written."""
    try:
        if out.suffix not in (".csv", ".json"):
            raise ValueError(f"The table {out.name} must be a .csv or .json file.")
        found = find_hearts(studies, masks)
        for sentence in found.left_out:
            typer.echo(sentence, err=True)
        if not found.hearts:
            raise ValueError(f"No heart of {studies} could be measured: nothing was written.")
        rows = table_rows(found.hearts)
        make_folder(out.parent)
        if out.suffix == ".csv":
            write_rows(out, rows)
        else:
            write_bytes(out, (json.dumps(rows, indent=1, ensure_ascii=False) + "\n").encode())
        if reports is not None:
            make_folder(reports)
            for heart in found.hearts:
                write_report(heart, reports)
    except (ValueError, OSError) as error:
        typer.echo(str(error).splitlines()[0], err=True)
        raise typer.Exit(2) from None
    typer.echo(f"{len(rows)} hearts are in {out}{'' if reports is None else f', and a page about each in {reports}'}.")
    if found.left_out:
        raise typer.Exit(1)


if __name__ == "__main__":
    typer.run(main)
