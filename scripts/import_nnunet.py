"""Turn a data set of nnU-Net v2 into a studies folder: images, labels by the names of dataset.json, manifest (docs/folders.md)."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from prato.data.labels.names import CONVENTIONS, read_convention
from prato.exchange import nnunet
from prato.exchange.importing import import_cases
from prato.labelling.records import UNKNOWN
from scripts.common.folders import refusals, show_import, show_progress


def main(
    source: Annotated[Path, typer.Argument(metavar="SRC", help="The data set's folder, such as nnUNet_raw/Dataset027_Heart.")],
    target: Annotated[Path, typer.Argument(metavar="DST", help="The studies folder to make or to add to.")],
    convention: Annotated[
        str, typer.Option(help=f"What the labels' values mean, if dataset.json has no names for them: {', '.join(CONVENTIONS)}, or JSON.")
    ] = "",
    annotator: Annotated[str, typer.Option(help="Who is responsible for the labels.")] = UNKNOWN,
) -> None:
    """Import an nnU-Net data set. On any fault nothing is written, each fault is named and the exit code is 2."""
    with refusals(target):
        readers = nnunet.find_cases(source, read_convention(convention) if convention else None)
        summary = import_cases(readers, source, target, nnunet.NAME, {"annotator": annotator}, show_progress("case"))
    show_import(summary, target)


if __name__ == "__main__":
    typer.run(main)
