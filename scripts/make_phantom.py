"""Make a studies folder of generated beating hearts (two phases a patient, exact labels, manifest)."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from tqdm import tqdm

from prato.data.phantom import make_phantoms


def main(
    target: Annotated[Path, typer.Argument(metavar="DST", help="A new or empty folder for the studies.")],
    patients: Annotated[int, typer.Option(min=1, max=999, help="How many patients.")] = 3,
    seed: Annotated[int, typer.Option(min=0, help="The same seed gives the same patients.")] = 0,
) -> None:
    """Write phantom patients to DST."""
    try:
        manifest = make_phantoms(target, patients, seed, lambda numbers: tqdm(numbers, unit="patient"))
    except FileExistsError as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(2) from None
    except OSError as error:
        typer.echo(f"{target} cannot be written to ({error.strerror}): choose another folder.", err=True)
        raise typer.Exit(2) from None
    typer.echo(f"{len(manifest.studies)} studies of {patients} patients are in {target}.")


if __name__ == "__main__":
    typer.run(main)
