"""What the prompt is worth: the ways to use a box, at equal shares of kept tokens and under boxes drawn well and badly."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer
from tqdm import tqdm

from prato.data.cases import read_label
from prato.data.nifti import Volume, read_volume
from prato.data.structures import STRUCTURES
from prato.data.studies.folder import StudyFile
from prato.evaluation.box_conditions import BoxCondition, perturb_box, seeded_rng
from prato.evaluation.metrics import case_metrics
from prato.inference.predictor import Predictor
from prato.models.checkpoint import read_spec, stored_version
from prato.prompts.box import Box, BoxPrompt
from prato.pruning.plan import PruningPlan
from scripts.common.labelled import require_labelled_studies
from scripts.common.provenance import command, commit
from scripts.common.refusals import checked_table, refuses_in_one_sentence
from scripts.common.results import Row, read_rows, replace_rows

_KEEP = (75, 50, 35, 25)
#: Stage 0 of the engine: context round the box in pixels of the network, as the models are trained, and closer.
_MARGIN, _CLOSER = 16.0, 8.0
#: What tells one way's rows from another's, and what is measured of each study.
_KEY = ("network", "seed", "way", "keep")
_MEASURED = ("dice", "hd95", "gflops", "tokens", "network_ms")
_BOXES = (BoxCondition.tight, BoxCondition.oversized, BoxCondition.partial, BoxCondition.misleading)


@dataclass(frozen=True)
class Way:
    """One way to segment: which model, which plan (None: dense), and whether the image is cut to the box first."""

    name: str
    keep: int
    model: Path
    plan: PruningPlan | None = None
    cut: bool = False


@refuses_in_one_sentence
def main(
    studies: Annotated[Path, typer.Option(help="Studies folder with labels/final.")],
    split: Annotated[Path, typer.Option(help="Split file: its validation patients are measured.")],
    network: Annotated[str, typer.Option(help="Name of these models' rows, such as unetr.")],
    out: Annotated[
        Path,
        typer.Option(callback=checked_table, help="tokens.csv; what it has is not measured again. token_cases.csv is written beside it."),
    ],
    relevance: Annotated[Path, typer.Option(help="Model trained to drop tokens by relevance, on whole slices.")],
    random: Annotated[Path, typer.Option(help="The same, trained to drop tokens at random.")],
    dense: Annotated[Path, typer.Option(help="The same, trained dense.")],
    engine: Annotated[Path, typer.Option(help="The same, trained with stage 0 and the box's tokens held.")],
    at_box: Annotated[Path, typer.Option(help="Dense model for windows at the box: the dense model given the box, and crop-to-box.")],
    seed: Annotated[int, typer.Option(min=0, help="Seed of the boxes.")] = 0,
) -> None:
    """DSC, HD95 (mm), GFLOP, network time and kept tokens of every way, share and box."""
    torch.set_num_threads(1)
    files = require_labelled_studies(studies, split)
    files = files[0::4] + files[3::4]  # end-diastole and end-systole in turn
    cases_file = out.with_name("token_cases.csv")
    rows = [row for row in (read_rows(out) if out.exists() else []) if row["network"] == network and row["seed"] == seed]
    done = {(row["way"], row["keep"], row["model_version"]) for row in rows}
    made = {"threads": 1, "seed": seed, "device": "cpu", "commit": commit()}
    for way in tqdm([*_ways(relevance, random, dense, engine, at_box)], unit="way"):
        if (way.name, way.keep, stored_version(way.model)) in done:
            continue
        predictor = Predictor.from_files(way.model)
        predictor.segmenter.plan = way.plan
        described = {"network": network, "way": way.name, "keep": way.keep}
        measured = {box.value: _cases(way, box, predictor, files, seed) for box in _BOXES}
        replace_rows(cases_file, [{**described, **row, **made} for row in _by_study(measured)], _KEY)
        about = {"studies": len(files), "model": way.model.parent.name or way.model.stem, "model_version": predictor.version}
        about |= {} if way.plan is None else {"plan": {k: v for k, v in way.plan.to_dict().items() if v is not None}}
        runs = [{**described, "box": box, **_means(cases), **about, **made, "command": command()} for box, cases in measured.items()]
        replace_rows(out, runs, _KEY)


def _ways(relevance: Path, random: Path, dense: Path, engine: Path, at_box: Path) -> Iterator[Way]:
    trained = read_spec(relevance).pruning_plan()
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


def _cases(way: Way, condition: BoxCondition, predictor: Predictor, files: list[StudyFile], seed: int) -> list[Row]:
    """What ``way`` makes of each study with a heart, under boxes of ``condition``."""
    cases = []
    for each in files:
        volume = read_volume(each.image)
        truth = read_label(each.label, volume)
        tight = Box.around(truth > 0)
        if tight is None:
            continue
        box = perturb_box(tight, volume.array.shape, condition, seeded_rng(seed, condition.value, each.study))
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
    return cases


def _means(cases: list[Row]) -> Row:
    """Over the studies; the time is the median, which a busy moment spares."""
    means = {key: round(float(np.mean([case[key] for case in cases])), 4) for key in ("dice", "hd95", "gflops", "tokens")}
    return {**means, "network_ms": round(float(np.median([case["network_ms"] for case in cases])), 2)}


def _by_study(measured: dict[str, list[Row]]) -> list[Row]:
    """A row a study, with what was measured under each box."""
    rows: dict[str, Row] = {}
    for box, cases in measured.items():
        for case in cases:
            row = rows.setdefault(case["study"], {"study": case["study"]})
            for name in _MEASURED:
                row.setdefault(name, {})[box] = round(case[name], 6)
    return list(rows.values())


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
