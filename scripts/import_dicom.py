"""Find the short-axis cines among DICOM files and write each as a 4D NIfTI file with a sidecar (docs/dicom.md)."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import Annotated

import typer
from tqdm import tqdm

from prato.data.wording import counted
from prato.dicom.importer import PHASES, ImportedCine, Report, import_dicom
from prato.dicom.reading.files import DicomError
from scripts.common.refusals import refuse_target


class PhaseChoice(str, Enum):
    """Which phases are written as 3D studies besides the cine."""

    NONE = "none"
    ED_ES = "ed,es"
    ALL = "all"


def main(
    source: Annotated[Path, typer.Argument(metavar="SRC", help="A folder, a zip archive, a DICOMDIR, or one DICOM file.")],
    target: Annotated[Path, typer.Argument(metavar="DST", help="The folder to make or to add to.")],
    phases: Annotated[PhaseChoice, typer.Option(help=f"Write these phases as 3D studies too, into DST/{PHASES}.")] = PhaseChoice.NONE,
    keep_identity: Annotated[bool, typer.Option("--keep-identity", help="Write patient numbers, names and dates too.")] = False,
) -> None:
    """Import short-axis cines. Exit code: 0, all that were found; 1, some were refused; 2, none was imported."""
    try:
        report = import_dicom(
            source,
            target,
            phases=phases.value,
            keep_identity=keep_identity,
            progress=lambda files: tqdm(files, desc="reading headers", unit="file"),
        )
    except DicomError as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(2) from None
    except OSError as error:
        raise refuse_target(target, error) from None
    _show(report)
    if report.refused or not report.imported:
        raise typer.Exit(1 if report.imported else 2)


def _show(report: Report) -> None:
    for cine in report.imported:
        typer.echo(_line(cine))
        for note in cine.notes:
            typer.echo(f"  {note}")
    for line in report.left_out:
        typer.echo(f"Left out: {line}")
    for line in report.warnings:
        typer.echo(f"Warning: {line}", err=True)
    for line in report.refused:
        typer.echo(f"Not imported: {line}", err=True)
    if not report.imported and not report.refused:
        typer.echo("There is no short-axis cine among these files: nothing was written.", err=True)


def _line(cine: ImportedCine) -> str:
    step = "at unknown times" if cine.step_ms is None else f"{cine.step_ms:.1f} ms apart"
    state = "" if cine.is_new else ", there already"
    return f"{cine.study}.nii.gz: {counted(cine.slices, 'slice')}, {counted(cine.phases, 'phase')} {step}, from {cine.label}{state}"


if __name__ == "__main__":
    typer.run(main)
