"""Write the final labels of a studies folder, with their images, as a data set of nnU-Net v2 (docs/folders.md)."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from prato.data.studies.splits import load_split
from prato.exchange.final_labels import FinalLabels
from prato.exchange.nnunet import export_nnunet, is_dataset_name
from scripts.common.folders import refusals, show_export, show_progress
from scripts.common.tables import shorten_list


def main(
    studies: Annotated[Path, typer.Argument(metavar="STUDIES", help="The studies folder, with labels/final.")],
    target: Annotated[Path, typer.Argument(metavar="DST", help="A new folder, such as nnUNet_raw/Dataset027_Heart.")],
    split: Annotated[
        Path | None, typer.Option(help="Split file by patient, such as STUDIES/training_split.json; by default five folds.")
    ] = None,
) -> None:
    """Export to nnU-Net. Exit code: 0, all final labels are in DST; 1, some cannot be used and are named; 2, nothing was written."""
    with refusals(target):
        labels, sides = FinalLabels(studies), load_split(split) if split is not None else None
        written = export_nnunet(labels, target, sides, show_progress("study"))
    if not is_dataset_name(target.name):
        typer.echo(f"Warning: nnU-Net finds data sets by names such as Dataset027_Heart: rename {target.name}.", err=True)
    if not (target / "splits_final.json").exists():
        typer.echo("Warning: the labels are of one patient, so there is no splits_final.json.", err=True)
    unassigned = sides.find_unassigned(labels.about[case].patient for case in written) if sides else []
    if unassigned:
        typer.echo(
            f"Warning: nnU-Net will not use all of imagesTr, as patients are on neither side of {split}: {shorten_list(unassigned)}.",
            err=True,
        )
    show_export(written, labels.left_out, target)


if __name__ == "__main__":
    typer.run(main)
