"""How much the points in a stock client's single request help, and what right slices tell of those beside them.

A labeller who looks at the default network's own mask points at its ten largest wrong parts, background included, and sends these points
alone. They are answered as clicks, and for comparison as nothing but a box (points without a structure). And of a mask, every third slice
of the heart is put right: the others follow, or stay as they were.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer
from tqdm import tqdm

from prato.evaluation.metrics import structure_dice
from prato.inference.image_stack import ImageStack
from prato.inference.predictor import Predictor
from prato.inference.request import InferenceRequest
from prato.models.registry import DEFAULT_MODEL
from prato.prompts.box import Box
from prato.prompts.mask_prompt import MaskPrompt
from prato.refinement.refiner import Refiner
from prato.training.simulated_labeller import middle_of, wrong_parts
from scripts.common.labelled import require_labelled_studies
from scripts.common.model_files import model_file
from scripts.common.paths import ACDC_SPLIT, REFINER
from scripts.common.provenance import origin
from scripts.common.refusals import checked_table, refuses_in_one_sentence
from scripts.common.results import replace_rows
from scripts.simulate.click_study import NAMES, read_study

POINTS = 10


@refuses_in_one_sentence
def main(
    studies: Annotated[Path, typer.Option(help="ACDC as scripts/import_acdc.py makes it.")],
    out: Annotated[Path, typer.Option(callback=checked_table, help="The CSV file to write; rows of other studies stay.")],
    patients: Annotated[int, typer.Option(min=1, help="Validation patients.")] = 8,
) -> None:
    """Write a row for each study."""
    torch.set_num_threads(1)
    files = require_labelled_studies(studies, ACDC_SPLIT, patients)
    predictor, refiner = Predictor.from_files(model_file(DEFAULT_MODEL)), Refiner.from_file(REFINER)
    rows = []
    for file in tqdm(files, desc="studies"):
        image, truth = read_study(file)
        predictor.set_image(image)
        own = predictor.predict(keep_scores=True).mask
        row: dict[str, Any] = {"study": file.study, "patient": file.patient, "model_version": refiner.version}
        row |= _points(predictor, refiner, image, own, truth) | _slices(predictor, refiner, image, own, truth)
        rows.append({**row, "threads": 1, **origin()})
    replace_rows(out, rows, ("study",))


def _points(predictor: Predictor, refiner: Refiner, image: ImageStack, own: np.ndarray, truth: np.ndarray) -> dict[str, Any]:
    shape, spacing = image.stored.array.shape, image.stored.spacing
    found = []
    for k in range(shape[2]):
        numbers, sizes = wrong_parts(own[:, :, k], truth[:, :, k])
        found += [(int(size), k, numbers == number) for number, size in enumerate(sizes) if size]
    sent: dict[str, list[list[int]]] = {}
    for _, k, part in sorted(found, key=lambda each: -each[0])[:POINTS]:
        i, j = middle_of(part).tolist()
        sent.setdefault(NAMES[int(truth[i, j, k])], []).append([i, j, k])
    heart = [point for name, points in sent.items() if name != "background" for point in points]
    as_box = predictor.predict(InferenceRequest.parse({"foreground": heart}).prompts(shape, spacing)).mask
    request = InferenceRequest.parse(sent)
    clicks, prompts = request.corrections(shape, spacing), request.prompts(shape, spacing)
    assert clicks is not None
    mask = predictor.predict(prompts, keep_scores=True).mask
    refined = refiner.refine(image, MaskPrompt(mask, Box.whole(mask.shape)), clicks.strokes, scores=predictor.scores(prompts)).mask
    return {"dice": {"no point": _mean(own, truth), "points as a box": _mean(as_box, truth), "points as clicks": _mean(refined, truth)}}


def _slices(predictor: Predictor, refiner: Refiner, image: ImageStack, own: np.ndarray, truth: np.ndarray) -> dict[str, Any]:
    held = np.flatnonzero(truth.any((0, 1)))
    right = held[1::3].tolist()
    others = [k for k in range(int(held[0]), int(held[-1]) + 1) if k not in right]
    mask = own.copy()
    mask[:, :, right] = truth[:, :, right]
    previous = MaskPrompt(mask, Box.whole(mask.shape), right=tuple(right), propagate_to=tuple(others))
    after = refiner.propagate(image, previous, scores=predictor.scores()).mask
    return {
        "other_slices": {
            "as they were": _mean(mask[:, :, others], truth[:, :, others]),
            "following": _mean(after[:, :, others], truth[:, :, others]),
        }
    }


def _mean(mask: np.ndarray, truth: np.ndarray) -> float:
    dice = structure_dice(mask, truth)
    return round(sum(dice.values()) / len(dice), 4)


if __name__ == "__main__":
    typer.run(main)
