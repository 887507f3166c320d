"""Whether relevance chooses better tokens than chance: the shipped networks with other tokens kept, as many, under the same boxes.

    python scripts/research/relevance_study.py --studies data/acdc

The weights were trained with their own relevance, which is in its favour: a network that was trained with random tokens is measured by
scripts/research/train_queue.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer
from tqdm import tqdm

from prato.data.cases import read_label
from prato.data.nifti import read_volume
from prato.data.structures import STRUCTURES
from prato.data.studies.folder import StudyFile
from prato.evaluation.metrics import case_metrics
from prato.inference.predictor import Predictor
from prato.prompts.box import Box, BoxPrompt
from prato.pruning.relevance import Weights
from scripts.common.labelled import group_by_patient, require_labelled_studies
from scripts.common.paths import MODELS, RESULTS
from scripts.common.provenance import origin
from scripts.common.refusals import checked_table, refuses_in_one_sentence
from scripts.common.results import Row, read_rows, replace_rows
from scripts.research.token_scores import NearestScore, RandomScore

_NETWORKS = ("unetr", "swin_unetr")
_KEEP = (50, 25)
#: Draws of random tokens, whose DSC is averaged.
_DRAWS = 2


@dataclass(frozen=True)
class Way:
    """How tokens are ranked: by the network's own relevance ("relevance"), "random" or "nearest"; and whether those under the box stay."""

    name: str
    score: str = "relevance"
    protected: bool = False
    weights: Weights = "entropy"
    k: int = 5


WAYS = (
    Way("relevance"),
    Way("relevance, queries weighted equally", weights="equal"),
    Way("relevance, k = 1", k=1),
    Way("relevance, k = 9", k=9),
    Way("random tokens", "random"),
    Way("nearest to the box", "nearest"),
    Way("relevance outside the box", protected=True),
    Way("random outside the box", "random", protected=True),
    Way("nearest outside the box", "nearest", protected=True),
)


@refuses_in_one_sentence
def main(
    studies: Annotated[Path, typer.Option(help="Studies folder with labels/final.")],
    split: Annotated[Path, typer.Option(help="Split file: its validation patients are measured.")] = RESULTS / "acdc_split.json",
    patients: Annotated[int, typer.Option(min=3, help="How many patients, end-diastole and end-systole in turn.")] = 10,
    models: Annotated[Path, typer.Option(help="Folder of prato_unetr and prato_swin_unetr.")] = MODELS,
    out: Annotated[Path, typer.Option(callback=checked_table, help="CSV file of results; what it has is not measured again.")] = RESULTS
    / "relevance.csv",
) -> None:
    """DSC of every way and share, a row a study."""
    torch.set_num_threads(1)
    files = _files(studies, split, patients)
    written = read_rows(out) if out.exists() else []
    for network in _NETWORKS:
        predictor = Predictor.from_files(models / f"prato_{network}.safetensors")
        done = {(row["way"], row["keep"]) for row in written if row["model_version"] == predictor.version}
        about = {"model_version": predictor.version, "threads": 1, **origin()}
        for way, keep in tqdm([(way, keep) for keep in _KEEP for way in WAYS if (way.name, keep) not in done], desc=network):
            described = {"network": network, "way": way.name, "keep": keep}
            rows = [{**described, **row, **about} for row in _measure(predictor, way, keep, files)]
            replace_rows(out, rows, ("network", "way", "keep"))


def _files(studies: Path, split: Path, count: int) -> list[StudyFile]:
    by_patient = group_by_patient(require_labelled_studies(studies, split, count))
    if len(by_patient) < count:
        raise ValueError(f"{studies} has labelled studies of {len(by_patient)} of the split's validation patients: {count} are needed.")
    return [own[n % len(own)] for n, own in enumerate(by_patient.values())]


def _measure(predictor: Predictor, way: Way, keep: int, files: Sequence[StudyFile]) -> list[Row]:
    """A row a study; random tokens are drawn several times. Tokens leave once, after the first stage that the network prunes after."""
    segmenter: Any = predictor.segmenter
    trained, own = segmenter.spec.pruning_plan(), segmenter.network.relevance
    first = min(trained.prune_after)
    plan = replace(trained, prune_after=(first,), percentile=100.0 - keep, threshold=None, decode="all", k=way.k, weights=way.weights)
    relevance, scores = own[str(first)], [own[str(first)]]
    if way.score == "random":
        scores = [RandomScore(seed) for seed in range(_DRAWS)]
    elif way.score == "nearest":
        scores = [NearestScore()]
    before, segmenter.plan = segmenter.plan, replace(plan, protect_prompted=way.protected)
    try:
        rows = []
        for file in files:
            found = []
            for score in scores:
                own[str(first)] = score
                found.append(_scores(predictor, file))
            row: Row = {name: round(float(np.mean([each[name] for each in found])), 5) for name in found[0]}
            rows.append({"study": file.study, "patient": file.patient, **row})
        return rows
    finally:
        own[str(first)], segmenter.plan = relevance, before


def _scores(predictor: Predictor, file: StudyFile) -> dict[str, float]:
    volume = read_volume(file.image)
    truth = read_label(file.label, volume)
    box = Box.around(truth > 0)
    if box is None:
        raise ValueError(f"{file.label} is empty: a study with a labelled heart is needed.")
    predictor.set_image(volume)
    prediction = predictor.predict([BoxPrompt(box)])
    scores = case_metrics(prediction.mask, truth, volume.spacing)
    reply = prediction.reply()
    dice = float(np.mean([scores[name]["dice"] for name in STRUCTURES]))
    return {"dice": dice, "tokens": float([*reply["kept_fraction"].values()][-1]), "gflops": float(reply["gflops"])}


if __name__ == "__main__":
    typer.run(main)
