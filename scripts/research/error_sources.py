"""Where Dice is lost: by structure and place in the stack, and what other ways to use the same weights would give.

    python scripts/research/error_sources.py --studies out/acdc --split docs/results/acdc_split.json \\
        --out docs/results/error_sources.csv --places docs/results/slice_dice.csv

For networks that look at whole stacks. Each image is segmented as the app does it, and again: without removing small components, with what
lies outside the expert's slices or the tight box taken away, with other biases of the background's logit, averaged over mirrored and turned
copies, and at other resolutions. "Resampled label" is no network at all: the expert's label at the network's pixels and back.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import torch.nn.functional as F
import typer
from torch import Tensor
from tqdm import tqdm

from prato.data.cases import read_label
from prato.data.nifti import Volume, read_volume
from prato.data.resampling import stack_neighbours
from prato.data.structures import NUM_CLASSES, STRUCTURES
from prato.data.studies.folder import StudyFile
from prato.evaluation.metrics import structure_dice
from prato.inference.image_stack import ImageStack
from prato.inference.postprocess import remove_small_components
from prato.inference.predictor import Predictor
from prato.inference.stack_slices import MULTIPLE
from prato.models.base import ImageEmbedding
from prato.models.registry import DEFAULT_MODEL
from prato.prompts.batch import PromptBatch
from prato.prompts.box import Box, BoxPrompt
from prato.runtime.precision import autocast
from scripts.common.labelled import require_labelled_studies
from scripts.common.model_files import model_file, model_name
from scripts.common.provenance import origin
from scripts.common.refusals import checked_table, refuses_in_one_sentence
from scripts.common.results import Row, replace_rows
from scripts.research.overview_models import load_overview_model

#: What each study is segmented with.
_BOXES = ("tight", "none")
#: Added to the logit of background.
_BIASES = (-0.5, 0.5)
#: Pixels in mm other than the model's own.
_PIXELS = (1.0, 1.125, 1.25)
#: Copies that are averaged: mirrored along one, both or no axis, and the same turned by 90 degrees.
_FLIPS: tuple[tuple[int, ...], ...] = ((), (2,), (3,), (2, 3))


@dataclass(frozen=True)
class Case:
    """A study with its slices last: the stack, the expert's label, and the tight box of it."""

    image: ImageStack
    label: np.ndarray
    box: Box

    @property
    def volume(self) -> Volume:
        return self.image.volume


def load_case(files: StudyFile) -> Case | None:
    """None where the label is empty."""
    stored = read_volume(files.image)
    image = ImageStack(stored)
    label = image.to_stack(read_label(files.label, stored))
    box = Box.around(label > 0)
    return None if box is None else Case(image, label, box)


def logits_of(
    network: Any,
    plan: Any,
    case: Case,
    pixel: float,
    is_boxed: bool,
    turned: bool = False,
    flips: tuple[int, ...] = (),
    embedding: ImageEmbedding | None = None,
) -> Tensor:
    """float32 (Z, classes, X', Y') of all slices at ``pixel`` mm, of a copy that is turned (axes swapped) and mirrored; turned back.

    Args:
        embedding: what the overview makes of all slices; None to have it computed.
    """
    slices = case.image.slices(pixel)
    height, width = slices.shape[1:]
    scale = [n / voxels for n, voxels in zip((height, width), case.volume.array.shape)]
    corners = [[at * s for at, s in zip(bound[:2], scale)] for bound in (case.box.start, case.box.stop)]
    for axis in flips:
        low, high = corners[0][axis - 2], corners[1][axis - 2]
        length = slices.shape[axis - 1]
        corners[0][axis - 2], corners[1][axis - 2] = length - high, length - low
    seen = stack_neighbours(slices, range(len(slices))).flip(flips) if flips else stack_neighbours(slices, range(len(slices)))
    if turned:
        seen, corners = seen.transpose(2, 3), [corner[::-1] for corner in corners]
    pad = (0, -seen.shape[3] % MULTIPLE, 0, -seen.shape[2] % MULTIPLE)
    seen = F.pad(seen, pad, value=-1.0)
    size = tuple(seen.shape[2:])
    # a labeller's box says which slices hold the heart, too: the network is given these alone
    planes = list(range(case.box.start[2], case.box.stop[2]) if is_boxed else range(len(seen)))
    prompts = PromptBatch.of(BoxPrompt, [[corners]] * len(planes), size) if is_boxed else PromptBatch.empty(len(planes), size)
    with torch.inference_mode(), autocast(seen.device):
        known = (embedding or network.encode_image(seen, plan)).select(planes)
        logits = network.predict(seen[planes].contiguous(memory_format=torch.channels_last), known, prompts, plan).logits.float()
    logits = logits.transpose(2, 3) if turned else logits
    logits = logits[:, :, :height, :width]
    found = logits.new_zeros(len(slices), *logits.shape[1:])
    found[:, 0] = 10.0  # surely background
    found[planes] = logits.flip(flips) if flips else logits
    return found


def to_mask(case: Case, logits: Tensor) -> np.ndarray:
    """uint8 (X, Y, Z) on the image's own grid."""
    native = F.interpolate(logits, size=case.volume.array.shape[:2], mode="bilinear", align_corners=False)
    return native.max(1).indices.to(torch.uint8).permute(1, 2, 0).numpy()


def masks_of(predictor: Predictor, case: Case, is_boxed: bool) -> dict[str, np.ndarray]:
    """Masks by way of making them, the app's own first."""
    segmenter = predictor.segmenter
    run, pixel = partial(logits_of, segmenter.network, segmenter.plan, case), segmenter.spec.pixel
    predictor.set_image(case.image)
    answer = case.image.to_stack(predictor.predict([BoxPrompt(case.image.stored_box(case.box))] if is_boxed else []).mask)
    logits = run(pixel, is_boxed)
    found = {"as answered": answer, "small components kept": to_mask(case, logits)}
    inside = np.zeros_like(answer)
    inside[case.box.slices] = answer[case.box.slices]
    found["cut to the tight box"] = inside
    cut = np.zeros_like(answer)
    labelled = slice(case.box.start[2], case.box.stop[2])
    cut[:, :, labelled] = answer[:, :, labelled]
    found["cut to the expert's slices"] = cut
    for bias in _BIASES:
        shifted = logits.clone()
        shifted[:, 0] += bias
        found[f"background {bias:+}"] = remove_small_components(to_mask(case, shifted))
    sums, copies = torch.zeros_like(logits), 0
    for turned in (False, True):
        for flips in _FLIPS:
            sums += run(pixel, is_boxed, turned, flips).softmax(1)
            copies += 1
        found[f"{copies} copies averaged"] = remove_small_components(to_mask(case, (sums / copies).clamp_min(1e-8).log()))
    for other in _PIXELS:
        found[f"pixels of {other} mm"] = remove_small_components(to_mask(case, run(other, is_boxed)))
    return found


def resampled_label(case: Case, pixel: float) -> np.ndarray:
    """The expert's label as training sees it at ``pixel`` mm, brought back as masks are: what no network at that resolution can beat."""
    size = case.image.slices(pixel).shape[1:]
    one_hot = F.one_hot(torch.from_numpy(np.ascontiguousarray(case.label)).permute(2, 0, 1).long(), NUM_CLASSES).permute(0, 3, 1, 2).float()
    seen = F.interpolate(one_hot, size=size, mode="bilinear", align_corners=False, antialias=True).argmax(1)
    return to_mask(case, F.one_hot(seen, NUM_CLASSES).permute(0, 3, 1, 2).float())


def places_of(label: np.ndarray) -> dict[str, list[int]]:
    """The stack's slices by place: thirds of those with a structure from base to apex, and the rest.

    The basal end is the one whose half of the stack holds more of the heart.
    """
    area = (label > 0).sum((0, 1))
    labelled = np.flatnonzero(area)
    order = list(range(labelled[0], labelled[-1] + 1))
    half = len(order) // 2
    if area[order[:half]].sum() < area[order[len(order) - half :]].sum():
        order = order[::-1]
    basal, middle, apical = (part.tolist() for part in np.array_split(np.array(order), 3))
    return {"basal": basal, "middle": middle, "apical": apical, "without a label": [k for k in range(label.shape[2]) if k not in order]}


def dice_of(mask: np.ndarray, label: np.ndarray) -> dict[str, float]:
    """Dice by structure, as it stands in a table."""
    return {name: round(dice, 4) for name, dice in structure_dice(mask, label).items()}


def place_rows(mask: np.ndarray, case: Case) -> list[Row]:
    """By place: slices, Dice, and what of each structure's voxels is found, missed and too much, in ml."""
    ml = float(np.prod(case.volume.spacing)) / 1000
    rows: list[Row] = []
    for place, planes in places_of(case.label).items():
        ours, theirs = mask[:, :, planes], case.label[:, :, planes]
        voxels: dict[str, dict[str, float]] = {}
        for name, value in STRUCTURES.items():
            a, b = ours == value, theirs == value
            counts = {"found": a & b, "missed": b & ~a, "too much": a & ~b}
            voxels[name] = {what: round(float(np.count_nonzero(each)) * ml, 3) for what, each in counts.items()}
        rows.append({"place": place, "slices": len(planes), "dice": dice_of(ours, theirs), "ml": voxels})
    return rows


@refuses_in_one_sentence
def main(
    studies: Annotated[Path, typer.Option(help="Studies folder with labels/final.")],
    out: Annotated[Path, typer.Option(callback=checked_table, help="The CSV file to write: a row per study, box and way.")],
    places: Annotated[Path, typer.Option(callback=checked_table, help="Another: a row per study, box and place in the stack.")],
    split: Annotated[Path | None, typer.Option(help="Split file: only its validation patients are measured.")] = None,
    model: Annotated[str, typer.Option(help="Shipped model, by name.")] = DEFAULT_MODEL,
    patients: Annotated[int | None, typer.Option(min=1, help="Maximum number of patients.")] = None,
    threads: Annotated[int, typer.Option(min=1, help="CPU threads.")] = 1,
) -> None:
    """Measure the Dice of each way, and of each place in the stack."""
    torch.set_num_threads(threads)
    predictor = Predictor(load_overview_model(model))
    files = require_labelled_studies(studies, split, patients)
    named = {"model": model_name(model_file(model)), "model_version": predictor.version}
    made = {"threads": threads, **origin()}
    by_way: list[Row] = []
    by_place: list[Row] = []
    for each in tqdm(files, unit="study", mininterval=5):
        case = load_case(each)
        for condition in _BOXES if case else ():
            assert case is not None
            about = {**named, "box": condition, "study": each.study, "patient": each.patient}
            masks = masks_of(predictor, case, condition == "tight")
            masks["resampled label"] = resampled_label(case, predictor.segmenter.spec.pixel)
            for way, mask in masks.items():
                dice = dice_of(mask, case.label)
                by_way.append({**about, "way": way, "dice": dice, "mean_dice": round(float(np.mean(list(dice.values()))), 4), **made})
            by_place += [{**about, **row, **made} for row in place_rows(masks["as answered"], case)]
    replace_rows(out, by_way, ("model", "box", "way"))
    replace_rows(places, by_place, ("model", "box"))


if __name__ == "__main__":
    typer.run(main)
