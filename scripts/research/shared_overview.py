"""What it costs to take over from another phase of a cine what the overview makes of it, in part or as a whole.

    python scripts/research/shared_overview.py --studies out/acdc --out docs/results/shared_overview.csv

ACDC's end-diastole and end-systole are the two phases of a heart that differ most. Each is segmented with an overview of its own; as phases
of a cine are after the first, with what the overview made of the other phase beyond the heart; and with the other phase's overview alone.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import typer
from tqdm import tqdm

from prato.data.cases import read_label
from prato.data.nifti import Volume, read_volume
from prato.data.structures import STRUCTURES
from prato.data.studies.folder import StudyFile
from prato.evaluation.metrics import case_metrics
from prato.inference.image_stack import ImageStack
from prato.inference.predictor import Predictor
from prato.inference.stack_segmenter import StackSegmenter
from prato.models.registry import DEFAULT_MODEL
from prato.prompts.box import Box, BoxPrompt
from scripts.common.labelled import group_by_patient, require_labelled_studies
from scripts.common.paths import ACDC_SPLIT
from scripts.common.provenance import origin
from scripts.common.refusals import checked_table, refuses_in_one_sentence
from scripts.common.results import Row, replace_rows
from scripts.research.overview_models import load_overview_model

#: What of the overview is the other phase's.
NOTHING, BEYOND, ALL = WAYS = ("nothing", "beyond the heart", "all")


@refuses_in_one_sentence
def main(
    studies: Annotated[Path, typer.Option(help="ACDC as scripts/import_acdc.py makes it, two phases per patient.")],
    out: Annotated[Path, typer.Option(callback=checked_table, help="The CSV file to write.")],
    model: Annotated[list[str], typer.Option(help="Models with an overview.")] = [DEFAULT_MODEL],  # noqa: B006
    split: Annotated[Path, typer.Option(help="Split file, whose validation patients are measured.")] = ACDC_SPLIT,
) -> None:
    """A row for each model, phase, box and way."""
    torch.set_num_threads(1)
    pairs = [pair for pair in group_by_patient(require_labelled_studies(studies, split)).values() if len(pair) == 2]
    if not pairs:
        raise ValueError(f"{studies} has no patient with two labelled phases: scripts/import_acdc.py makes such a folder.")
    for name in model:
        segmenter = load_overview_model(name)
        made = {"model": name, "model_version": segmenter.version, **origin()}
        rows = [{**row, **made} for pair in tqdm(pairs, unit="patient", mininterval=5) for row in measure(segmenter, pair)]
        replace_rows(out, rows, ("model", "box", "way", "study"))


def measure(segmenter: StackSegmenter, pair: list[StudyFile]) -> list[Row]:
    """The rows of a patient; none where the two phases are of different sizes, or a label is empty."""
    volumes = [read_volume(file.image) for file in pair]
    labels = [read_label(file.label, volume) for file, volume in zip(pair, volumes)]
    if volumes[0].array.shape != volumes[1].array.shape or not all(label.any() for label in labels):
        return []
    rows: list[Row] = []
    for own, (file, volume, label) in enumerate(zip(pair, volumes, labels)):
        for box in (None, Box.around(label)):
            about = {"study": file.name, "patient": file.patient, "box": "none" if box is None else "tight"}
            for way in WAYS:
                mask = segment(segmenter, volume, volumes[1 - own], way, box)
                rows.append({**about, "way": way, **_scores(mask, label, volume)})
    return rows


def segment(segmenter: StackSegmenter, volume: Volume, other: Volume, way: str, box: Box | None) -> np.ndarray:
    """The mask of ``volume``, with what the overview made of ``other`` as ``way`` says."""
    image, of_other = ImageStack(volume), ImageStack(other)
    if way == ALL:
        embedding = segmenter.embedding(of_other, of_other.filled)
        image.embedding(segmenter.embedding_key, tuple(image.filled), lambda: embedding)
    predictor = Predictor(segmenter.for_cine(of_other) if way == BEYOND else segmenter)
    predictor.set_image(image)
    return predictor.predict([] if box is None else [BoxPrompt(box)]).mask


def _scores(mask: np.ndarray, label: np.ndarray, volume: Volume) -> Row:
    scores, ml = case_metrics(mask, label, volume.spacing), math.prod(volume.spacing) / 1000
    counted = {
        name: {who: round(float(np.count_nonzero(drawn == value)) * ml, 2) for who, drawn in (("mask", mask), ("expert", label))}
        for name, value in STRUCTURES.items()
    }
    return {"dice": {name: round(scores[name]["dice"], 4) for name in STRUCTURES}, "volumes_ml": counted}


if __name__ == "__main__":
    typer.run(main)
