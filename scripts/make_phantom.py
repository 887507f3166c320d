"""Make a studies folder of generated beating hearts: two phases a patient, or whole beats, with exact labels and a manifest."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from tqdm import tqdm

from prato.data.nifti_head import MAX_PHASES
from prato.data.wording import studies_of
from prato.phantom.beat import MIN_PHASES, make_beats
from prato.phantom.frames import make_phantoms

#: As many as a scanner's protocol usually asks for.
_PHASES = 30


def main(
    target: Annotated[Path, typer.Argument(metavar="DST", help="A new or empty folder for the studies.")],
    patients: Annotated[int, typer.Option(min=1, max=999, help="How many patients.")] = 3,
    seed: Annotated[int, typer.Option(min=0, help="The same seed gives the same patients.")] = 0,
    cine: Annotated[
        bool, typer.Option("--cine", help="One whole beat per patient, as a 4D file that starts anywhere in the cycle.")
    ] = False,
    phases: Annotated[int | None, typer.Option(min=MIN_PHASES, max=MAX_PHASES, help=f"Phases of each cine, {_PHASES} by default.")] = None,
) -> None:
    """Write phantom patients to DST: each as two studies, end-diastole and end-systole, or with --cine as one, the whole beat."""
    if phases is not None and not cine:
        typer.echo("--phases is the number of phases of a cine: give --cine, too, or leave --phases out.", err=True)
        raise typer.Exit(2)
    try:
        manifest = (
            make_beats(target, patients, seed, phases or _PHASES, _progress) if cine else make_phantoms(target, patients, seed, _progress)
        )
    except FileExistsError as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(2) from None
    except OSError as error:
        typer.echo(f"{target} cannot be written to ({error.strerror}): choose another folder.", err=True)
        raise typer.Exit(2) from None
    typer.echo(f"{studies_of(len(manifest.studies), patients)} in {target}.")


def _progress(numbers: range) -> tqdm[int]:
    return tqdm(numbers, unit="patient")


if __name__ == "__main__":
    typer.run(main)
