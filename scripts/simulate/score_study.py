"""Do the strategies' scores predict what a labeller would have to correct?

Each labelled study of the split's validation patients is scored without its label, as the server would, and segmented with a tight box;
the rank correlation of the scores with what is then wrong says whether a strategy finds the studies that the model is bad at.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import typer
from scipy.stats import spearmanr
from tqdm import tqdm

from prato.acquisition.phases import find_pairs
from prato.acquisition.scores import entropy_score, jitter_score, phases_score
from prato.data.studies.folder import find_labelled_studies, load_manifest
from prato.data.studies.splits import load_split
from prato.inference.predictor import Predictor
from prato.models.registry import DEFAULT_MODEL
from scripts.common.model_files import locator_file
from scripts.common.paths import ACDC_SPLIT, MODELS
from scripts.common.provenance import origin
from scripts.common.refusals import checked_table, refuses_in_one_sentence
from scripts.common.results import Row, write_rows
from scripts.simulate.oracle import Oracle

#: Studies below which a rank correlation says nothing.
_ENOUGH = 4


@refuses_in_one_sentence
def main(
    studies: Annotated[Path, typer.Option(help="ACDC as scripts/import_acdc.py makes it.")],
    out: Annotated[Path, typer.Option(callback=checked_table, help="The CSV file to write.")],
    model: Annotated[Path, typer.Option(help="The model that scores and segments.")] = MODELS / f"{DEFAULT_MODEL}.safetensors",
    patients: Annotated[int, typer.Option(min=1, help="Maximum number of validation patients.")] = 20,
) -> None:
    """Measure the rank correlation of every score with 1 - Dice, and with the voxels to correct as a share of the heart."""
    torch.set_num_threads(1)
    people = load_split(ACDC_SPLIT).validation[:patients]
    oracle = Oracle(file for file in find_labelled_studies(studies) if file.patient in people)
    if len(oracle.files) < _ENOUGH:
        count = f"{len(oracle.files)} labelled studies of validation patients"
        raise ValueError(f"With --patients {patients}, {studies} has {count}: {_ENOUGH} are needed.")
    predictor = Predictor.from_files(model, locator_file())
    two = find_pairs(oracle.files, load_manifest(studies))
    rows = []
    for study in tqdm(oracle.files, unit="study"):
        verdict, image = oracle.verdict(predictor, study), oracle.stack(study)
        scores = {"jitter": jitter_score(predictor, image).value, "entropy": entropy_score(predictor, image).value}
        if pair := two.get(study):
            scores["phases"] = phases_score(predictor, oracle.stack(pair.ed), oracle.stack(pair.es), pair.known).value
        wrong = {"dice": round(float(np.mean(list(verdict.dice.values()))), 6), "share": round(verdict.changed / oracle.drawn(study), 6)}
        rows.append({"study": study, "scores": {name: round(score, 4) for name, score in scores.items()}, **wrong})
    made = {"model_version": predictor.version, "threads": 1, **origin()}
    write_rows(out, [{**row, **made} for row in rows])
    for name, values in rank_correlations(rows).items():
        typer.echo(f"{name}: {values}")


def rank_correlations(rows: list[Row]) -> dict[str, dict[str, float]]:
    """Spearman's correlation of each strategy's score with "1 - dice" and with the "share" of the heart to correct."""
    found = {}
    for name in ("jitter", "entropy", "phases"):
        scored = [row for row in rows if name in row["scores"]]
        wrong = {"1 - dice": [1 - row["dice"] for row in scored], "share": [row["share"] for row in scored]}
        scores = [row["scores"][name] for row in scored]
        found[name] = {what: round(float(spearmanr(scores, values).statistic), 3) for what, values in wrong.items()}
    return found


if __name__ == "__main__":
    typer.run(main)
