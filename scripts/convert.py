"""Other people's folders into studies folders, and final labels into other people's folders (docs/folders.md)."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from prato.data.labels.names import CONVENTIONS, read_convention
from prato.exchange.final_labels import FinalLabels
from prato.exchange.importing import import_cases
from prato.exchange.layouts import export_folder, find_layout, layouts
from prato.labelling.records import UNKNOWN
from scripts.common.folders import refusals, show_export, show_import, show_progress

app = typer.Typer(add_completion=False, no_args_is_help=True, help=__doc__)
_CHOICE = "; ".join(f"{key}: {layout.about}" for key, layout in layouts().items())
Layout = Annotated[str, typer.Option(help=_CHOICE)]


@app.command("import")
def import_folder(
    source: Annotated[Path, typer.Argument(metavar="SRC", help="The folder of images, with masks or without.")],
    target: Annotated[Path, typer.Argument(metavar="DST", help="The studies folder to make or to add to.")],
    layout: Layout,
    convention: Annotated[
        str, typer.Option(help=f"What the masks' values mean, if there are masks: {', '.join(CONVENTIONS)}, or a JSON file.")
    ] = "",
    phases: Annotated[
        Literal["ed,es", "all", "cine"], typer.Option(help="What to import of 4D images: ED and ES, every phase, or the whole cine.")
    ] = "ed,es",
    annotator: Annotated[str, typer.Option(help="Who is responsible for the labels.")] = UNKNOWN,
) -> None:
    """Make a studies folder. Everything is checked first; on any fault nothing is written, each fault is named and the exit code is 2."""
    with refusals(target):
        found = find_layout(layout)
        readers = found.find(source, read_convention(convention) if convention else None, phases)
        summary = import_cases(readers, source, target, found.name, {"annotator": annotator}, show_progress("patient"))
    show_import(summary, target)


@app.command("export")
def export_labels(
    studies: Annotated[Path, typer.Argument(metavar="STUDIES", help="The studies folder, with labels/final.")],
    target: Annotated[Path, typer.Argument(metavar="DST", help="The folder to make.")],
    layout: Layout,
    convention: Annotated[str, typer.Option(help=f"Which values the masks get: {', '.join(CONVENTIONS)}, or a JSON file.")],
) -> None:
    """Write final labels with their images. Exit code: 0, all are in DST; 1, some are not and are named; 2, nothing was written."""
    with refusals(target):
        found, labels = find_layout(layout), FinalLabels(studies)
        written = export_folder(labels, target, found, read_convention(convention), show_progress("study"))
    show_export(written, labels.left_out, target)


if __name__ == "__main__":
    app()
