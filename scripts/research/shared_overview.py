"""What it would cost to compute the overview for some phases of a cine alone, and mix it for those between.

    python scripts/research/shared_overview.py --studies out/acdc --out docs/results/shared_overview.csv

ACDC's end-diastole and end-systole are the two phases of a heart that differ most. Each is segmented as the app does it, without a box,
but the default network is told a mixture of what its overview makes of both: a share of the other phase's tokens from nothing to all.
Between phases at which the overview was computed, less is mixed in the closer together these lie; at end-systole, where the heart turns,
more than half-way.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer
from tqdm import tqdm

from prato.data.cases import read_label
from prato.data.nifti import Volume, read_volume
from prato.data.structures import STRUCTURES
from prato.data.studies import StudyFile
from prato.evaluation.metrics import case_metrics
from prato.inference.image_stack import ImageStack
from prato.inference.predictor import Predictor
from prato.models.base import ImageEmbedding
from prato.models.registry import DEFAULT_MODEL
from scripts.common.labelled import group_by_patient, require_labelled_studies
from scripts.common.model_files import locator_file, model_file
from scripts.common.paths import ACDC_SPLIT
from scripts.common.provenance import command, commit
from scripts.common.refusals import refuses_in_one_sentence
from scripts.common.results import Row, replace_rows

#: Of the other phase's tokens in those that the network is told.
SHARES = (0.0, 0.125, 0.25, 0.5, 1.0)


@refuses_in_one_sentence
def main(
    studies: Annotated[Path, typer.Option(help="ACDC as scripts/import_acdc.py makes it, two phases per patient.")],
    out: Annotated[Path, typer.Option(help="The CSV file to write.")],
    split: Annotated[Path, typer.Option(help="Split file, whose validation patients are measured.")] = ACDC_SPLIT,
    patients: Annotated[int | None, typer.Option(min=1, help="Maximum number of patients.")] = None,
    threads: Annotated[int, typer.Option(min=1, help="CPU threads.")] = 1,
) -> None:
    """A row for each phase and share."""
    torch.set_num_threads(threads)
    pairs = [pair for pair in group_by_patient(require_labelled_studies(studies, split, patients)).values() if len(pair) == 2]
    if not pairs:
        raise ValueError(f"{studies} has no patient with two labelled phases: scripts/import_acdc.py makes such a folder.")
    predictor = Predictor.from_files(model_file(DEFAULT_MODEL), locator_file())
    made = {"model": DEFAULT_MODEL, "model_version": predictor.version, "device": "cpu", "commit": commit(), "command": command()}
    rows = [{**row, **made} for pair in tqdm(pairs, unit="patient", mininterval=5) for row in measure(predictor, pair)]
    replace_rows(out, rows, ("model", "share", "study"))


def measure(predictor: Predictor, pair: list[StudyFile]) -> list[Row]:
    """The rows of a patient; none where the two phases are of different sizes, or a label is empty."""
    volumes = [read_volume(file.image) for file in pair]
    labels = [read_label(file.label, volume) for file, volume in zip(pair, volumes)]
    tokens = [overview(predictor, volume) for volume in volumes]
    if tokens[0].shape != tokens[1].shape or not all(label.any() for label in labels):
        return []
    rows: list[Row] = []
    for own, (file, volume, label) in enumerate(zip(pair, volumes, labels)):
        for share in SHARES:
            mask = segment(predictor, volume, torch.lerp(tokens[own], tokens[1 - own], share))
            rows.append({"study": file.name, "patient": file.patient, "share": share, **_scores(mask, label, volume)})
    return rows


def overview(predictor: Predictor, volume: Volume) -> torch.Tensor:
    """What the overview makes of all slices of ``volume``, (S, h, w, dim)."""
    segmenter: Any = predictor.segmenter
    image = ImageStack(volume)
    tokens: torch.Tensor = segmenter.embedding(image, image.filled).tokens
    return tokens


def segment(predictor: Predictor, volume: Volume, tokens: torch.Tensor) -> np.ndarray:
    """The mask of ``volume``, without a box, where the network is told ``tokens`` instead of what its overview would make of it."""
    segmenter: Any = predictor.segmenter
    image = ImageStack(volume)
    image.embedding(segmenter.embedding_key, tuple(image.filled), lambda: ImageEmbedding(0, {0: tokens}))
    predictor.set_image(image)
    return predictor.predict().mask


def _scores(mask: np.ndarray, label: np.ndarray, volume: Volume) -> Row:
    scores, ml = case_metrics(mask, label, volume.spacing), math.prod(volume.spacing) / 1000
    counted = {
        name: {who: round(float(np.count_nonzero(drawn == value)) * ml, 2) for who, drawn in (("mask", mask), ("expert", label))}
        for name, value in STRUCTURES.items()
    }
    return {"dice": {name: round(scores[name]["dice"], 4) for name in STRUCTURES}, "volumes_ml": counted}


if __name__ == "__main__":
    typer.run(main)
