"""Train the small network that proposes a box where a request brings none."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import torch
import typer
from tqdm import tqdm

from prato.data.cases import TrainingCase, load_training_case
from prato.data.splits import load_split
from prato.data.studies import StudyFile, find_labelled_studies
from prato.inference.locator import LOCATOR, Locator
from prato.models.checkpoint import save_model
from prato.training.train_locator import box_fit, train_locator
from scripts.common.provenance import command, commit


def main(
    studies: Annotated[Path, typer.Option(help="Studies folder with labels/final.")],
    split: Annotated[Path, typer.Option(help="Split file; its training patients are used, its validation patients measured.")],
    out: Annotated[Path, typer.Option(help="The model file to write.")],
    steps: Annotated[int, typer.Option(min=1, help="Optimiser steps.")] = 600,
    seed: Annotated[int, typer.Option(min=0, help="Everything random follows from it.")] = 0,
) -> None:
    """Train the locator and say how well its boxes fit the validation patients."""
    try:
        assigned = load_split(split)
        files = find_labelled_studies(studies)
        patients = {"train": assigned.train, "validation": assigned.validation}
        sides = {side: [f for f in files if f.patient in names] for side, names in patients.items()}
        cases = {side: _load(part, side) for side, part in sides.items()}  # validation too: an unusable label shows before the training
        for side in sides:
            if not cases[side]:
                raise ValueError(f"{studies} has no labelled study of a {side} patient of {split}: both sides of the split need some.")
        out.parent.mkdir(parents=True, exist_ok=True)
    except (ValueError, RuntimeError, OSError) as error:
        typer.echo(str(error).splitlines()[0], err=True)
        raise typer.Exit(2) from None
    made_by = commit()
    with tqdm(total=steps, desc="training", unit="step", mininterval=1.0) as bar:

        def report(loss: float) -> None:
            bar.set_postfix(loss=f"{loss:.3f}", refresh=False)
            bar.update()

        network = train_locator(cases["train"], steps, seed, report)
    counts = {side: len(names) for side, names in patients.items()}
    details = {"seed": seed, "steps": steps, "patients": counts, "command": command(), "commit": made_by}
    save_model(out, network, LOCATOR.model_copy(update={"training": details}))
    fit = box_fit(Locator(out, torch.device("cpu")), sides["validation"])
    save_model(out, network, LOCATOR.model_copy(update={"training": {**details, "validation": fit}}))
    typer.echo(fit)


def _load(files: list[StudyFile], side: str) -> list[TrainingCase]:
    loaded = [load_training_case(f, LOCATOR.pixel) for f in tqdm(files, desc=f"loading {side}", unit="study", mininterval=1.0)]
    return [case for case in loaded if case is not None]


if __name__ == "__main__":
    typer.run(main)
