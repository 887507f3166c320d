"""Turn the official ACDC folder into a studies folder: one 3D NIfTI per frame or one 4D per patient, true voxel sizes, labels, manifest."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import Annotated

import typer
from tqdm import tqdm

from prato.data.wording import counted, studies_of
from prato.exchange.acdc import LABELS, import_acdc
from prato.exchange.acdc_folder import AcdcError
from scripts.common.refusals import refuse_target


class FrameChoice(str, Enum):
    """Which frames become studies."""

    ED_ES = "ed,es"
    ALL = "all"
    CINE = "cine"


def main(
    source: Annotated[
        Path, typer.Argument(metavar="SRC", help="The official ACDC folder, which holds patientNNN, or training/ and testing/.")
    ],
    target: Annotated[Path, typer.Argument(metavar="DST", help="The studies folder to make, or one of ACDC to add to.")],
    frames: Annotated[
        FrameChoice, typer.Option(help="The two labelled frames, every frame of the 4D cine, or the cine.")
    ] = FrameChoice.ED_ES,
) -> None:
    """Import ACDC. Everything is checked first; on any fault nothing is written, each fault is named and the exit code is 2."""
    try:
        summary = import_acdc(source, target, frames.value, lambda items, what: tqdm(items, desc=what, unit="patient"))
    except AcdcError as error:
        for fault in error.faults:
            typer.echo(fault, err=True)
        raise typer.Exit(2) from None
    except OSError as error:
        raise refuse_target(target, error) from None
    typer.echo(
        f"{studies_of(summary.studies, summary.patients)} in {target}: "
        f"{counted(summary.written, 'file')} written, {summary.unchanged} there already."
    )
    if frames is FrameChoice.CINE and summary.studies > summary.patients:
        typer.echo("Patients without a cine have their two labelled frames instead.")
    if summary.kept_labels:
        names = ", ".join(summary.kept_labels)
        many = f"labels in {LABELS} differ from ACDC's own and were left as they are"
        kept = counted(len(summary.kept_labels), f"label in {LABELS} differs from ACDC's own and was left as it is", many)
        typer.echo(f"{kept}: {names}")


if __name__ == "__main__":
    typer.run(main)
