"""How often a label that was mirrored or turned is warned of, and one that was not: experts' labels beside a model's proposals.

python scripts/research/turned_labels.py --studies out/acdc --out docs/results/turned_labels.csv
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import typer
from tqdm import tqdm

from prato.data.cases import read_label
from prato.data.labels.turned import agreements, find_turn, turns
from prato.data.nifti import read_volume
from prato.data.stack import slice_axis
from prato.inference.predictor import Predictor
from prato.models.registry import DEFAULT_MODEL
from scripts.common.labelled import require_labelled_studies
from scripts.common.model_files import locator_file, model_file, model_name
from scripts.common.provenance import origin
from scripts.common.refusals import checked_table, refuses_in_one_sentence
from scripts.common.results import Row, replace_rows
from scripts.research.corruptions import check_names, corrupt
from scripts.research.doubtful_masks import FAULTS


def measure(label: np.ndarray, proposal: np.ndarray, axis: int) -> Row:
    """Of an expert's ``label``: its DSC with ``proposal``, the best of all ways to turn it, whether it is warned of; and of its turned
    copies how many there are, how many are warned of, and the highest DSC that one has."""
    copies = [turned for _, turned in turns(label, axis)]
    (_, as_it_is), *others = agreements(label, proposal, axis)
    return {
        "dice": as_it_is,
        "dice_turned": max(score for _, score in others),
        "warned": find_turn(label, proposal, axis) is not None,
        "copies": len(copies),
        "found": sum(find_turn(turned, proposal, axis) is not None for turned in copies),
    }


def summarise(found: list[Row]) -> Row:
    """Of labels with what :func:`measure` says: counts, the least DSC, and by how much the best turned one is behind, at least."""
    return {
        "labels": len(found),
        "warned": sum(row["warned"] for row in found),
        "turned_labels": sum(row["copies"] for row in found),
        "turned_warned": sum(row["found"] for row in found),
        "least_dice": round(min(row["dice"] for row in found), 4),
        "least_lead": round(min(row["dice"] - row["dice_turned"] for row in found), 4),
    }


@refuses_in_one_sentence
def main(
    studies: Annotated[Path, typer.Option(help="Studies folder with labels/final.")],
    out: Annotated[Path, typer.Option(callback=checked_table, help="The CSV file to write; rows of other models and faults stay.")],
    model: Annotated[str, typer.Option(help="A shipped model, or a model file: its masks are the proposals.")] = DEFAULT_MODEL,
    split: Annotated[Path | None, typer.Option(help="Split file: only its validation patients are measured.")] = None,
    fault: Annotated[list[str], typer.Option(help="What spoils the images first.")] = ["clean"],  # noqa: B006
    patients: Annotated[int | None, typer.Option(min=1, help="Maximum number of patients.")] = None,
    threads: Annotated[int, typer.Option(min=1, help="CPU threads.")] = 1,
) -> None:
    """Measure how many labels and turned copies of them are warned of."""
    torch.set_num_threads(threads)
    check_names(fault, FAULTS)
    files = require_labelled_studies(studies, split, patients)
    path = model_file(model)
    predictor = Predictor.from_files(path, locator_file())
    found: dict[str, list[Row]] = {each: [] for each in fault}
    for study in tqdm(files, unit="study", mininterval=5):
        volume = read_volume(study.image)
        label = read_label(study.label, volume)
        for name, rows in found.items():
            image, moved = corrupt(name, volume, label, study.study, FAULTS)
            predictor.set_image(image)
            rows.append(measure(moved, predictor.predict().mask, slice_axis(moved.shape, image.spacing)))
    about = {"model": model_name(path), "model_version": predictor.version}
    made = {"threads": threads, **origin()}
    replace_rows(out, [{**about, "fault": name, **summarise(rows), **made} for name, rows in found.items()], ("model", "fault"))


if __name__ == "__main__":
    typer.run(main)
