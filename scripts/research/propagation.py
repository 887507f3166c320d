"""What is left to correct in the other phases once end-diastole, end-systole or both were corrected, by each way to carry that over.

    python scripts/research/propagation.py --studies out/acdc --split docs/results/acdc_split.json --acdc ACDC \\
        --out docs/results/propagation.csv

Generated beats (of which every phase is known), the two labelled phases of validation patients of ACDC as a cine of two phases, and ACDC's
cine of patient 090, on whose two labelled phases the network was trained. The network segments without a box; keys are the experts' masks,
or the generated ones.
"""

from __future__ import annotations

import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from statistics import fmean
from typing import Annotated

import numpy as np
import torch
import typer
from tqdm import tqdm

from prato.data.cases import TrainingCase, load_training_case, read_label
from prato.data.cine import Cine, read_cine, write_cine
from prato.data.nifti import read_volume, write_volume
from prato.data.stack import slice_axis
from prato.data.structures import NUM_CLASSES, STRUCTURES
from prato.data.studies.folder import StudyFile
from prato.evaluation.metrics import structure_dice
from prato.exchange.acdc_folder import read_info
from prato.inference.cine_predictor import predict_cine
from prato.inference.predictor import Predictor
from prato.inference.stack_segmenter import StackSegmenter
from prato.models.checkpoint import load_model
from prato.models.registry import DEFAULT_MODEL
from prato.phantom.beat import make_beat
from prato.propagation.propagate import Motion, Moved, Propagation, Trust
from prato.training.fine_tuning import LEARNING_RATE, FineTuning, TrainingParameters, fine_tune
from prato.training.progress import TrainingProgress
from scripts.common.arguments import MAX_SEED
from scripts.common.labelled import group_by_patient, require_labelled_studies
from scripts.common.model_files import model_file
from scripts.common.paths import ACDC_SPLIT
from scripts.common.provenance import origin
from scripts.common.refusals import checked_table, refuses_in_one_sentence
from scripts.common.results import Row, replace_rows

#: Phases of the generated beats, in turn.
_PHASES = (20, 25, 30)
#: Every correction as it is, at whatever distance.
_IN_FULL = Trust(0.0, 1.0)
#: Optimiser steps of the fine-tuning.
_STEPS = 12


@dataclass(frozen=True)
class Example:
    """A cine, the masks that are known of it by phase, and its end-diastole and end-systole."""

    name: str
    kind: str
    path: Path
    truth: dict[int, np.ndarray]
    ed: int
    es: int


def generated_beats(seed: int, count: int, folder: Path) -> Iterator[Example]:
    for number in range(1, count + 1):
        phases = _PHASES[number % len(_PHASES)]
        beat = make_beat(seed, number, phases, float(np.random.default_rng([seed, number, 2]).random()))
        path = folder / f"beat{number}.nii.gz"
        write_cine(path, beat.images, beat.affine, beat.rr_ms / phases, level=1)
        truth = {t: beat.labels[..., t] for t in range(phases)}
        yield Example(f"phantom {number} ({beat.kind})", "phantom", path, truth, beat.ed, beat.es)


def pairs(patients: dict[str, list[StudyFile]], folder: Path) -> Iterator[Example]:
    """The two labelled phases of each patient, as one cine."""
    for patient, files in patients.items():
        volumes = [read_volume(file.image) for file in files]
        path = folder / f"{patient}.nii.gz"
        write_cine(path, np.stack([volume.array for volume in volumes], -1), volumes[0].affine, 0.4, level=1)
        truth = {t: read_label(file.label, volumes[t]) for t, file in enumerate(files)}
        es, ed = sorted(truth, key=lambda t: (truth[t] == STRUCTURES["LV cavity"]).sum())
        yield Example(patient, "ED and ES", path, truth, ed, es)


def acdc_cine(acdc: Path) -> Example:
    folder = acdc / "patient090"
    info, path = read_info(folder), folder / "patient090_4d.nii.gz"
    cine = read_cine(path)
    truth = {t: read_label(folder / f"patient090_frame{t + 1:02d}_gt.nii.gz", cine.phase(t)) for t in (info.ed - 1, info.es - 1)}
    return Example("patient090", "cine", path, truth, info.ed - 1, info.es - 1)


def tuned(predictor: Predictor, example: Example, keys: list[int], folder: Path) -> Predictor:
    """A predictor fine-tuned on the ``keys`` of ``example``, as a training in the app does it, in fewer steps."""
    cine, files = read_cine(example.path), []
    for key in keys:
        image, label = (folder / f"{example.path.name[:-7]}_{key}_{what}.nii.gz" for what in ("image", "label"))
        phase = cine.phase(key)
        write_volume(image, phase.array, phase.affine)
        write_volume(label, example.truth[key], phase.affine)
        files.append(StudyFile(study=image.name[:-7], patient=example.name, image=image, label=label))
    network, spec, version = load_model(model_file(DEFAULT_MODEL))
    cases: list[TrainingCase] = [case for file in files if (case := load_training_case(file, spec.pixel)) is not None]
    progress = TrainingProgress(folder / "progress.json", 1, _STEPS, 0.0)
    parameters = TrainingParameters(max_steps=_STEPS)
    found = fine_tune(network, FineTuning(spec, parameters, cases, cases, LEARNING_RATE, progress, folder / "state.pt"))
    (folder / "state.pt").unlink(missing_ok=True)
    return Predictor(StackSegmenter(found, spec, version, predictor.segmenter.device))


def measure(example: Example, predictor: Predictor, folder: Path, is_tuned: bool) -> list[Row]:
    """A row for each choice of keys and each way."""
    cine, rows = read_cine(example.path), []
    predicted = predict_cine(predictor, cine).mask
    axis = slice_axis(predicted.shape[:3], cine.grid().spacing)
    assert axis == 2, f"{example.name} has its slices along axis {axis}"
    choices = {"ED": [example.ed], "ES": [example.es], "ED and ES": [example.ed, example.es]}
    for name, keys in choices.items():
        others = [t for t in example.truth if t not in keys]
        if not others:
            continue
        masks, seconds = {"none": {t: predicted[..., t] for t in others}}, {"none": 0.0}
        start = time.perf_counter()
        follower = Propagation(predicted, {key: example.truth[key] for key in keys}, cine.grid().spacing[:2])
        motion = follower.find_motion(lambda t: cine.phase(t).array)
        moved = dict(follower.move(motion))
        registered = time.perf_counter() - start
        masks["masks moved"] = {t: masks_moved(follower, moved[t]) for t in others}
        masks["corrections moved"] = {t: follower.mask(t, moved[t], _IN_FULL) for t in others}
        still = [np.zeros_like(motion.ahead[0])] * len(cine)
        unmoved = dict(follower.move(Motion(still, still)))
        masks["corrections in place"] = {t: follower.mask(t, unmoved[t], _IN_FULL) for t in others}
        start = time.perf_counter()
        trust = follower.choose_trust(motion)
        masks["corrections trusted"] = {t: follower.mask(t, moved[t], trust) for t in others}
        seconds["corrections trusted"] = registered + time.perf_counter() - start
        if is_tuned:
            start = time.perf_counter()
            found = predict_cine(tuned(predictor, example, keys, folder), cine).mask
            seconds["fine-tuning"] = time.perf_counter() - start
            masks["fine-tuning"] = {t: found[..., t] for t in others}
        plain = left(masks["none"], example)
        for way, of_way in masks.items():
            rows.append({**_about(example, cine), "keys": name, "way": way, **_score(of_way, example, plain), "seconds": seconds.get(way)})
    return rows


def masks_moved(follower: Propagation, moved: Moved) -> np.ndarray:
    """What registration alone makes of the corrected masks of the keys, uint8 (X, Y, Z): blended by how near they are in time."""
    shares = [other / sum(moved.distances) for other in reversed(moved.distances)]
    found = np.zeros(follower.predicted.shape[:3], np.uint8)
    depths = np.sum([share * each[:NUM_CLASSES] for share, each in zip(shares, moved.depths)], axis=0)
    found[follower.part] = follower.to_voxels(depths).argmax(0)
    return found


def left(masks: dict[int, np.ndarray], example: Example) -> dict[int, int]:
    """Voxels by phase that have to be corrected."""
    return {t: int((mask != example.truth[t]).sum()) for t, mask in masks.items()}


def _about(example: Example, cine: Cine) -> Row:
    return {"cine": example.name, "kind": example.kind, "phases": len(cine)}


def _score(masks: dict[int, np.ndarray], example: Example, plain: dict[int, int]) -> Row:
    """What is left to correct by ``masks`` in phases that are no keys, beside the network's ``plain`` ones."""
    found = left(masks, example)
    dice = [fmean(structure_dice(mask, example.truth[t]).values()) for t, mask in masks.items()]
    return {
        "left": {"mean": round(np.mean([*found.values()]), 1), "worst": max(found.values()), "by_phase": [*found.values()]},
        "saved": round(1 - sum(found.values()) / sum(plain.values()), 4),
        "phases_worse": sum(found[t] > plain[t] for t in found),
        "dice": {"mean": round(float(np.mean(dice)), 4), "worst": round(min(dice), 4)},
    }


@refuses_in_one_sentence
def main(
    out: Annotated[Path, typer.Option(callback=checked_table, help="The CSV file to write.")],
    studies: Annotated[Path | None, typer.Option(help="Studies folder of ACDC, with final labels.")] = None,
    split: Annotated[Path, typer.Option(help="Split file: its validation patients are measured.")] = ACDC_SPLIT,
    acdc: Annotated[Path | None, typer.Option(help="The official ACDC folder.")] = None,
    patients: Annotated[int, typer.Option(min=1, help="How many of the validation patients.")] = 8,
    beats: Annotated[int, typer.Option(min=1, help="Generated beats.")] = 3,
    seed: Annotated[int, typer.Option(min=0, max=MAX_SEED, help="Seed of the generated beats.")] = 31,
) -> None:
    """Measure each way to carry corrections over, in each cine."""
    cines = [] if acdc is None else [acdc_cine(acdc)]
    labelled = {} if studies is None else group_by_patient(require_labelled_studies(studies, split, patients))
    predictor = Predictor.from_files(model_file(DEFAULT_MODEL))
    made = {"model": DEFAULT_MODEL, "model_version": predictor.version, "seed": seed, "threads": torch.get_num_threads(), **origin()}
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        seen: Counter[str] = Counter()
        for example in tqdm(chain(cines, pairs(labelled, folder), generated_beats(seed, beats, folder)), unit="cine"):
            seen[example.kind] += 1
            rows = measure(example, predictor, folder, is_tuned=seen[example.kind] == 1)
            replace_rows(out, [row | made for row in rows], ("cine", "keys", "way"))


if __name__ == "__main__":
    typer.run(main)
