"""How the engine's rows should be trained, chosen on the validation side of the paper's split: the test side is not touched."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from tqdm import tqdm

from prato.models.checkpoint import load_model
from prato.training.trainer import Progress
from scripts.common.arguments import MAX_SEED
from scripts.common.provenance import origin
from scripts.common.refusals import checked_table, refuses_in_one_sentence
from scripts.common.results import Row, replace_rows
from scripts.research.experiments.data import ExperimentData
from scripts.research.experiments.matrix import MATRIX, load_experiments
from scripts.research.experiments.measure import means, measure
from scripts.research.experiments.schema import Experiment
from scripts.research.experiments.training import ModelFiles, load_trained, train_experiment
from scripts.research.paper import data_folders

#: Ways to train that are compared: changes of an experiment, by when tokens begin to leave. Their pruning is the literal plan's.
WAYS: dict[str, dict[str, Any]] = {
    "from the first step": {"dense_first": 0.0},
    "after half": {"dense_first": 0.5},
    "after seven tenths": {"dense_first": 0.7},
    "after half, the paper's loss at the plan alone": {"dense_first": 0.5, "recipe": "paper"},
}
#: Each trained network is measured with tokens under the box that may leave, and with such that stay.
BOXED = (False, True)


@refuses_in_one_sentence
def main(
    names: Annotated[list[str], typer.Argument(help="Experiments whose plans are changed, such as table4/best_acdc.")],
    seed: Annotated[int, typer.Option(min=0, max=MAX_SEED, help="Everything random follows from it.")] = 0,
    out: Annotated[Path, typer.Option(callback=checked_table, help="CSV file of the results.")] = Path("docs/results/paper/recipe.csv"),
    splits: Annotated[Path, typer.Option(help="Folder of the splits.")] = Path("docs/results/paper"),
    models: Annotated[Path, typer.Option(help="Folder of models and training states.")] = Path("out/recipe_study"),
    data: Annotated[list[str], typer.Option(help="NAME=FOLDER of a data set; by default out/NAME.")] = [],  # noqa: B006
    matrix: Annotated[Path, typer.Option(help="Matrix of the experiments.")] = MATRIX,
    threads: Annotated[int, typer.Option(min=1, help="CPU threads.")] = 1,
) -> None:
    """Train each way what is missing, measure all on validation patients with tight boxes, and write what came out."""
    torch.set_num_threads(threads)
    experiments = load_experiments(matrix)
    missing = [name for name in names if name not in experiments]
    if missing:
        raise ValueError(f"{missing[0]} is not an experiment such as {next(iter(experiments))}.")
    if dense := [name for name in names if experiments[name].plan is None]:
        raise ValueError(f"{dense[0]} has no pruning plan to change: name experiments of the method prato, such as table4/best_acdc.")
    made_by = {"threads": threads, "seed": seed, **origin()}
    prepared, rows = ExperimentData(data_folders(data), splits), []
    for name in names:
        for way, changed in WAYS.items():
            experiment = experiments[name]
            pruning = {**(experiment.plan or {}), "boxed": False}
            experiment = experiment.model_copy(update={**changed, "plan": pruning, "seed": seed})
            files = ModelFiles(models, f"{name}-{way.replace(' ', '_')}-seed{seed}")
            rows += [{"experiment": name, "way": way, **row, **made_by} for row in _measure(experiment, files, prepared, made_by)]
    replace_rows(out, rows, ("experiment", "seed"))


def _measure(experiment: Experiment, files: ModelFiles, data: ExperimentData, made_by: Row) -> Iterator[Row]:
    """A row for each of ``BOXED``, of the model of ``experiment``, which is trained where it is missing."""
    device = torch.device("cpu")
    if load_trained(files, experiment) is None:
        samples = data.training_samples(experiment)
        with tqdm(total=100, desc=files.name, unit="%", mininterval=1.0) as bar:

            def show(progress: Progress) -> None:
                bar.update(int(100 * progress.share) - bar.n)

            train_experiment(experiment, files, None, samples, device, made_by, show)
    network, spec = load_model(files.model)[:2]
    plan, cases = spec.pruning_plan(), data.eval_cases(experiment, "validation")
    assert plan is not None
    first_tokens = (experiment.sight.edge / experiment.image) ** 2
    for boxed in BOXED:
        rows = measure(network, replace(plan, protect_prompted=boxed), cases, device, first_tokens)[0]
        mean = means(rows)
        tqdm.write(f"{files.name}, boxed {boxed}: DSC {mean['dice']}")
        about = {"data": experiment.data, "side": "validation", "recipe": experiment.recipe, "dense_first": experiment.dense_first}
        counts = {"patients": len({row["patient"] for row in rows}), "mean": mean, "spent": spec.training["spent"]}
        yield {"boxed": boxed, **about, **counts}


if __name__ == "__main__":
    typer.run(main)
