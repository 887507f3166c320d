"""What the prompt is worth: the ways to use a box, at equal shares of kept tokens and under boxes drawn well and badly."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer
from tqdm import tqdm

from prato.data.atomic import write_bytes
from prato.data.cases import read_label
from prato.data.nifti import Volume, read_volume
from prato.data.splits import load_split
from prato.data.structures import STRUCTURES
from prato.data.studies import StudyFile, find_labelled_studies
from prato.evaluation.box_conditions import BoxCondition, conditioned_box
from prato.evaluation.metrics import case_metrics
from prato.inference.predictor import Predictor
from prato.models.checkpoint import CheckpointError
from prato.prompts.box import Box, BoxPrompt
from prato.pruning.plan import PruningPlan
from scripts.common.provenance import command, commit

_KEEP = (75, 50, 35, 25)
#: Stage 0 of the engine: context round the box in pixels of the network, as the models are trained, and closer.
_MARGIN, _CLOSER = 16.0, 8.0
_BOXES = (BoxCondition.tight, BoxCondition.oversized, BoxCondition.partial, BoxCondition.misleading)


@dataclass(frozen=True)
class Way:
    """One way to segment: which model, which plan (None: dense), and whether the image is cut to the box first."""

    name: str
    keep: int
    model: Path
    plan: PruningPlan | None = None
    cut: bool = False


def main(
    studies: Annotated[Path, typer.Option(help="Studies folder with labels/final.")],
    split: Annotated[Path, typer.Option(help="Split file: its validation patients are measured.")],
    out: Annotated[Path, typer.Option(help="The JSON file to write; rows that it holds already are not measured again.")],
    relevance: Annotated[Path, typer.Option(help="Model trained to drop tokens by relevance, on whole slices.")],
    random: Annotated[Path, typer.Option(help="The same, trained to drop tokens at random.")],
    dense: Annotated[Path, typer.Option(help="The same, trained dense.")],
    engine: Annotated[Path, typer.Option(help="The same, trained with stage 0 and the box's tokens held.")],
    at_box: Annotated[Path, typer.Option(help="Dense model for windows at the box: the dense model given the box, and crop-to-box.")],
    phases: Annotated[int, typer.Option(min=1, max=2, help="2: both phases of a patient; 1: end-diastole and end-systole in turn.")] = 1,
    seed: Annotated[int, typer.Option(min=0, help="Draws the boxes.")] = 0,
    threads: Annotated[int, typer.Option(min=1, help="CPU threads.")] = 1,
) -> None:
    """DSC, HD95 (mm), GFLOP, network time and kept tokens of every way, share and box."""
    try:
        torch.set_num_threads(threads)
        patients = set(load_split(split).validation)
        files = [f for f in find_labelled_studies(studies) if f.patient in patients]
        if phases == 1:
            files = files[0::4] + files[3::4]
        if not files:
            raise ValueError(f"{studies} has no labelled studies of the validation patients of {split}: name the split that belongs to it.")
        rows: list[dict[str, Any]] = json.loads(out.read_text())["rows"] if out.exists() else []
        done = {(row["way"], row["keep"], row["box"], row["model_version"]) for row in rows}
        todo = [(way, box) for way in _ways(relevance, random, dense, engine, at_box) for box in _BOXES]
        for way, box in tqdm(todo, unit="row"):
            predictor = Predictor.from_files(way.model)
            if (way.name, way.keep, box.value, predictor.version) in done:
                continue
            predictor.segmenter.plan = way.plan
            rows.append({**_row(way, box, predictor, files, seed), "commit": commit()})
            result = {"rows": rows, "seed": seed, "threads": threads, "device": "cpu", "command": command(), "studies": len(files)}
            out.parent.mkdir(parents=True, exist_ok=True)
            write_bytes(out, (json.dumps(result, indent=1) + "\n").encode())
    except (CheckpointError, ValueError, RuntimeError, OSError) as error:
        typer.echo(str(error).splitlines()[0], err=True)
        raise typer.Exit(2) from None


def _ways(relevance: Path, random: Path, dense: Path, engine: Path, at_box: Path) -> Iterator[Way]:
    trained = Predictor.from_files(relevance).plan
    if trained is None:
        raise ValueError(f"{relevance} was trained without pruning: name a model that was trained with a plan.")
    first = (min(trained.prune_after),)
    yield Way("dense", 100, dense)
    yield Way("dense, window at the box", 100, at_box)
    yield Way("cut to the box", 100, at_box, cut=True)
    yield Way("relevance, none dropped", 100, relevance)
    for keep in _KEEP:
        plan = replace(trained, prune_after=first, percentile=100.0 - keep, threshold=None, decode="all")
        yield Way("random tokens", keep, random, replace(plan, score_by="random"))
        yield Way("relevance, masked", keep, relevance, replace(plan, mode="mask"))
        yield Way("relevance, dropped", keep, relevance, plan)
        near = replace(plan, decode="kept", protect_prompted=True, margin=_MARGIN)
        yield Way("engine, untrained", keep, relevance, near)
        yield Way("engine", keep, engine, near)
        yield Way(f"engine, {_CLOSER:g} pixels round the box", keep, engine, replace(near, margin=_CLOSER))


def _row(way: Way, condition: BoxCondition, predictor: Predictor, files: list[StudyFile], seed: int) -> dict[str, Any]:
    cases = []
    for each in files:
        volume = read_volume(each.image)
        truth = read_label(each.label, volume)
        tight = Box.around(truth > 0)
        if tight is None:
            continue
        drawn = hashlib.sha256(f"{seed}:{condition.value}:{each.study}".encode()).digest()
        box = conditioned_box(tight, volume.array.shape, condition, np.random.default_rng(int.from_bytes(drawn[:8], "big")))
        assert box is not None  # every condition here has one
        mask, reply = _cut(predictor, volume, box) if way.cut else _whole(predictor, volume, box)
        scores = case_metrics(mask, truth, volume.spacing)
        kept = list(reply["kept_fraction"].values())
        cases.append(
            {
                "study": each.study,
                "dice": float(np.mean([scores[name]["dice"] for name in STRUCTURES])),
                "hd95": float(np.mean([scores[name]["hd95"] for name in STRUCTURES])),
                "gflops": reply["gflops"],
                "network_ms": reply["latency_ms"]["network"],
                "tokens": kept[-1] if kept else 1.0,
            }
        )
    means = {key: round(float(np.mean([case[key] for case in cases])), 4) for key in ("dice", "hd95", "gflops", "tokens")}
    described = {"way": way.name, "keep": way.keep, "box": condition.value, "model": way.model.parent.name or way.model.stem}
    plan = None if way.plan is None else way.plan.to_dict()
    median = round(float(np.median([case["network_ms"] for case in cases])), 2)
    return {**described, "model_version": predictor.version, "plan": plan, **means, "network_ms": median, "cases": cases}


def _whole(predictor: Predictor, volume: Volume, box: Box) -> tuple[np.ndarray, dict[str, Any]]:
    predictor.set_image(volume)
    prediction = predictor.predict([BoxPrompt(box)])
    return prediction.mask, prediction.reply()


def _cut(predictor: Predictor, volume: Volume, box: Box) -> tuple[np.ndarray, dict[str, Any]]:
    """The image cut to the box, and the cut segmented: nothing outside it is seen."""
    predictor.set_image(replace(volume, array=np.ascontiguousarray(volume.array[box.slices])))
    prediction = predictor.predict()
    mask = np.zeros(volume.array.shape, dtype=np.uint8)
    mask[box.slices] = prediction.mask
    return mask, prediction.reply()


if __name__ == "__main__":
    typer.run(main)
