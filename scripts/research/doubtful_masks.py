"""How often a wrong mask is warned of, and a right one: a model on validation images that are spoilt much or little, without a box.

python scripts/research/doubtful_masks.py --studies out/acdc --split docs/results/acdc_split.json --out docs/results/doubtful_masks.csv
"""

from __future__ import annotations

from functools import partial
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Annotated

import numpy as np
import torch
import typer
from tqdm import tqdm

from prato.data.cases import read_label
from prato.data.nifti import Volume, read_volume
from prato.evaluation.box_conditions import BoxCondition
from prato.evaluation.evaluate import evaluate_volume
from prato.inference.prediction_warnings import MASK_WARNINGS
from prato.inference.predictor import Predictor
from prato.models.registry import DEFAULT_MODEL
from scripts.common.labelled import require_labelled_studies
from scripts.common.model_files import model_file
from scripts.common.provenance import origin
from scripts.common.refusals import checked_table, refuses_in_one_sentence
from scripts.common.results import Row, replace_rows
from scripts.research.corruptions import CORRUPTIONS, Corruption, blur, check_names, corrupt, floats, gamma, noise

#: Dice, in percent, between which masks are counted together.
RANGES = (0, 30, 60, 80, 90, 100)


def inverted(volume: Volume, label: np.ndarray, rng: np.random.Generator) -> tuple[Volume, np.ndarray]:
    """Dark is bright."""
    image = floats(volume)
    return Volume(image.max() - image, volume.affine), label


def ghosts(volume: Volume, label: np.ndarray, rng: np.random.Generator) -> tuple[Volume, np.ndarray]:
    """The mean of the image and of two copies, 8 and 12 mm beside it, as a patient who moves leaves them."""
    image = floats(volume)
    copies = [np.roll(image, round(mm / volume.spacing[axis]), axis) for axis, mm in ((0, 8.0), (1, 12.0))]
    return Volume(np.mean([image, *copies], axis=0), volume.affine), label


def wrong_size(factor: float, volume: Volume, label: np.ndarray, rng: np.random.Generator) -> tuple[Volume, np.ndarray]:
    """A header that says that pixels are ``factor`` times as large as they are."""
    return Volume(volume.array, volume.affine @ np.diag((factor, factor, 1, 1))), label


def bright_background(volume: Volume, label: np.ndarray, rng: np.random.Generator) -> tuple[Volume, np.ndarray]:
    """The darkest 30 % of the voxels are as bright as the brightest, as where a program has filled the background."""
    image = floats(volume)
    return Volume(np.where(image <= np.percentile(image, 30), image.max(), image), volume.affine), label


def cut_off(volume: Volume, label: np.ndarray, rng: np.random.Generator) -> tuple[Volume, np.ndarray]:
    """The image ends in the middle of the heart, in both directions."""
    rows, columns = (round(places.mean()) for places in np.nonzero(label.any(2)))
    return Volume(volume.array[:rows, :columns], volume.affine), np.ascontiguousarray(label[:rows, :columns])


def shifted_slices(volume: Volume, label: np.ndarray, rng: np.random.Generator) -> tuple[Volume, np.ndarray]:
    """Each slice moved by up to 15 mm in plane, as where breath was held elsewhere."""
    reach = [round(15 / mm) for mm in volume.spacing[:2]]
    moves = [tuple(int(rng.integers(-most, most + 1)) for most in reach) for _ in range(volume.array.shape[2])]
    image, moved = (np.stack([np.roll(array[:, :, k], move, (0, 1)) for k, move in enumerate(moves)], 2) for array in (volume.array, label))
    return Volume(image, volume.affine), moved


FAULTS: dict[str, Corruption] = {
    **CORRUPTIONS,
    "gamma 4": partial(gamma, 4.0),
    "noise of 20 %": partial(noise, 0.2),
    "noise of 40 %": partial(noise, 0.4),
    "blur of 4 mm": partial(blur, 4.0),
    "blur of 8 mm": partial(blur, 8.0),
    "ghosts": ghosts,
    "slices shifted": shifted_slices,
    "pixels called half as large": partial(wrong_size, 0.5),
    "pixels called twice as large": partial(wrong_size, 2.0),
    "bright background": bright_background,
    "inverted": inverted,
    "cut off in the heart": cut_off,
}


def summarise(found: list[Row]) -> Row:
    """Of masks with their ``mean_dice`` and ``warnings``: how good they are, and by range of Dice how many, and how many warned of."""
    row: Row = {"median_dice": round(median(each["mean_dice"] for each in found), 4), "masks": {}, "warned": {}}
    for least, limit in pairwise(RANGES):
        within = [each for each in found if least <= 100 * each["mean_dice"] < limit + (limit == 100)]
        row["masks"][f"{least} to {limit}"] = len(within)
        row["warned"][f"{least} to {limit}"] = sum(not {*MASK_WARNINGS}.isdisjoint(each["warnings"]) for each in within)
    return row


@refuses_in_one_sentence
def main(
    studies: Annotated[Path, typer.Option(help="Studies folder with labels/final.")],
    out: Annotated[Path, typer.Option(callback=checked_table, help="The CSV file to write; rows of other faults and versions stay.")],
    split: Annotated[Path | None, typer.Option(help="Split file: only its validation patients are measured.")] = None,
    fault: Annotated[list[str], typer.Option(help="What spoils the images.")] = list(FAULTS),  # noqa: B006
    patients: Annotated[int | None, typer.Option(min=1, help="Maximum number of patients.")] = None,
    threads: Annotated[int, typer.Option(min=1, help="CPU threads.")] = 1,
) -> None:
    """Count the masks that are warned of, by their Dice."""
    torch.set_num_threads(threads)
    check_names(fault, FAULTS)
    files = require_labelled_studies(studies, split, patients)
    predictor = Predictor.from_files(model_file(DEFAULT_MODEL))
    found: dict[str, list[Row]] = {each: [] for each in fault}
    for study in tqdm(files, unit="study", mininterval=5):
        volume = read_volume(study.image)
        label = read_label(study.label, volume)
        for name, measured in found.items():
            row = evaluate_volume(predictor, *corrupt(name, volume, label, study.study, FAULTS), study, BoxCondition.none, None, 0)
            if row is not None:
                measured.append(row)
    about = {"model": DEFAULT_MODEL, "model_version": predictor.version}
    made = {"threads": threads, **origin()}
    replace_rows(out, [{**about, "fault": name, **summarise(rows), **made} for name, rows in found.items()], ("model_version", "fault"))


if __name__ == "__main__":
    typer.run(main)
