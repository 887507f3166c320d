"""Train the small network that proposes a box where a request brings none."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import torch
import typer
from tqdm import tqdm

from prato.box import Box
from prato.checkpoint import save_model
from prato.data.cases import labelled_studies, load_training_case, read_label
from prato.data.nifti import VolumeError, read_volume
from prato.data.splits import SplitError, load_split
from prato.locating import train_locator
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
        if not cases:
            raise ValueError(f"{studies} has no labelled study of a training patient of {split}.")
    except (ValueError, VolumeError, SplitError, OSError) as error:
        typer.echo(str(error).splitlines()[0], err=True)
        raise typer.Exit(2) from None
    network = train_locator(cases, steps, seed)
    details = {"seed": seed, "steps": steps, "patients": len(dealt.train), "command": command(), "commit": commit()}
    save_model(out, network, LOCATOR.model_copy(update={"training": details}))
    locator = Locator(out, torch.device("cpu"))
    overlaps, covers, missed = [], [], 0
    for file in files:
        if file.patient not in dealt.validation:
            continue
        volume = read_volume(file.image)
        truth = read_label(file.label, volume.array.shape) > 0
        tight, proposed = Box.around(truth), locator.propose(volume)
        if tight is None:
            continue
        common = proposed.intersection(tight) if proposed else None
        if proposed is None or common is None:
            missed += 1
            continue
        overlaps.append(common.voxels / (tight.voxels + proposed.voxels - common.voxels))
        covers.append(float(truth[proposed.slices].sum() / truth.sum()))
    mean = [sum(v) / max(len(v), 1) for v in (overlaps, covers)]
    typer.echo(
        f"{len(overlaps)} boxes on validation patients: IoU {mean[0]:.3f}, share of the heart inside {mean[1]:.3f}; missed {missed}."
    )


if __name__ == "__main__":
    typer.run(main)
