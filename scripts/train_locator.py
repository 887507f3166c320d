"""Train the small network that proposes a box where a request brings none."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import torch
import typer
from tqdm import tqdm

from prato.checkpoint import save_model
from prato.data.cases import labelled_studies, load_training_case
from prato.data.nifti import VolumeError
from prato.data.splits import SplitError, load_split
from prato.locating import box_fit, train_locator
from prato.locator import LOCATOR, Locator
from provenance import command, commit


def main(
    studies: Annotated[Path, typer.Option(help="Studies folder with labels/final.")],
    split: Annotated[Path, typer.Option(help="Split file; its training patients are used, its validation patients measured.")],
    out: Annotated[Path, typer.Option(help="The model file to write.")],
    steps: Annotated[int, typer.Option(help="Optimiser steps.")] = 600,
    seed: Annotated[int, typer.Option(help="Everything random follows from it.")] = 0,
) -> None:
    """Train the locator and say how well its boxes fit the validation patients."""
    try:
        dealt = load_split(split)
        files = labelled_studies(studies)
        loaded = [load_training_case(f, LOCATOR.pixel) for f in tqdm(files, desc="loading", mininterval=1) if f.patient in dealt.train]
        cases = [case for case in loaded if case is not None]
        sides = {"train": len(dealt.train), "validation": len(dealt.validation)}
        if not cases:
            raise ValueError(f"{studies} has no labelled study of a training patient of {split}.")
    except (ValueError, VolumeError, SplitError, OSError) as error:
        typer.echo(str(error).splitlines()[0], err=True)
        raise typer.Exit(2) from None
    made_by = commit()
    with tqdm(total=steps, desc="training", unit="step", mininterval=1.0) as bar:

        def report(loss: float) -> None:
            bar.set_postfix(loss=f"{loss:.3f}", refresh=False)
            bar.update()

        network = train_locator(cases, steps, seed, report)
    details = {"seed": seed, "steps": steps, "patients": sides, "command": command(), "commit": made_by}
    out.parent.mkdir(parents=True, exist_ok=True)
    save_model(out, network, LOCATOR.model_copy(update={"training": details}))
    fit = box_fit(Locator(out, torch.device("cpu")), [f for f in files if f.patient in dealt.validation])
    save_model(out, network, LOCATOR.model_copy(update={"training": {**details, "validation": fit}}))
    typer.echo(fit)


if __name__ == "__main__":
    typer.run(main)
