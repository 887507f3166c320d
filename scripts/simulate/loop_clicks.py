"""How much painting clicks save the labeller in the loop: voxels left to paint after ten clicks, beside painting alone, by round.

    python scripts/simulate/loop_clicks.py --simulation out/simulation/simulation.csv --studies out/acdc --out docs/results/loop_clicks.csv

The models are those that scripts/simulate/simulate_loop.py left beside its CSV file. Each segments the validation patients for a tight
box; a careful labeller, or one who scribbles, then clicks ten times, each time in the largest part that is wrong.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer
from tqdm import tqdm

from prato.data.studies.folder import StudyFile
from prato.inference.predictor import Predictor
from prato.models.registry import DEFAULT_MODEL
from prato.prompts.box import Box, BoxPrompt
from prato.refinement.refiner import Refiner
from scripts.common.labelled import require_labelled_studies
from scripts.common.model_files import model_file
from scripts.common.paths import ACDC_SPLIT, REFINER
from scripts.common.provenance import origin
from scripts.common.refusals import checked_table, refuses_in_one_sentence
from scripts.common.results import read_rows, write_rows
from scripts.simulate.click_study import correct_by_clicks, read_study
from scripts.simulate.simulate_clicks import MANNERS, Labeller, refined
from scripts.simulate.simulate_loop import model_name

_LABELLERS = (Labeller.CAREFUL, Labeller.SCRIBBLING)
_CLICKS = 10


@refuses_in_one_sentence
def main(
    simulation: Annotated[Path, typer.Option(help="The CSV file of a simulation, with its models beside it.")],
    studies: Annotated[Path, typer.Option(help="ACDC as scripts/import_acdc.py makes it.")],
    out: Annotated[Path, typer.Option(callback=checked_table, help="The CSV file to write.")],
    strategy: Annotated[str, typer.Option(help="Whose rounds.")] = "random",
    seed: Annotated[int, typer.Option(min=0, help="Which of the simulation's runs.")] = 0,
    patients: Annotated[int, typer.Option(min=1, help="Validation patients.")] = 8,
    split: Annotated[Path, typer.Option(help="Split file.")] = ACDC_SPLIT,
) -> None:
    """Write a row for each round and labeller: sums over the studies."""
    torch.set_num_threads(1)
    rounds = [row for row in read_rows(simulation) if (row["strategy"], row["seed"], row["pruned"]) == (strategy, seed, True)]
    models = [simulation.with_suffix("") / model_name(strategy, row["labelled_patients"], seed, True) for row in rounds]
    missing = next((path for path in models if not path.is_file()), None)
    if missing is not None or not rounds:
        typer.echo(f"{missing or simulation} is missing: run scripts/simulate/simulate_loop.py with --strategy {strategy} first.", err=True)
        raise typer.Exit(2)
    files, rows = require_labelled_studies(studies, split, patients), list[dict[str, Any]]()
    default, refiner = model_file(DEFAULT_MODEL), Refiner.from_file(REFINER)
    for row, model in zip(rounds, tqdm(models, desc="rounds")):
        predictor = Predictor.from_files(model, default)
        wrong = np.array([_count(predictor, refiner, file, number) for number, file in enumerate(files)])
        for labeller, (alone, after) in zip(_LABELLERS, wrong.sum(0)):
            found = {"labelled_patients": row["labelled_patients"], "labeller": labeller.value, "studies": len(files), "clicks": _CLICKS}
            made = {"strategy": strategy, "seed": seed, "threads": 1, **origin()}
            rows.append({**found, "voxels.painting_alone": int(alone), "voxels.after_clicks": int(after), **made})
    write_rows(out, rows)


def _count(predictor: Predictor, refiner: Refiner, file: StudyFile, number: int) -> list[tuple[int, int]]:
    """Wrong voxels before and after the clicks of each labeller."""
    image, truth = read_study(file)
    predictor.set_image(image)
    tight = [BoxPrompt(Box.around(truth) or Box.whole(truth.shape))]
    mask, correct = predictor.predict(tight).mask, refined(refiner, image, predictor.scores(tight))
    courses = [correct_by_clicks(mask, truth, correct, MANNERS[labeller], _CLICKS, number) for labeller in _LABELLERS]
    return [(course.wrong[0], course.wrong[-1]) for course in courses]


if __name__ == "__main__":
    typer.run(main)
