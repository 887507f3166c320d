"""How the engine's rows are to be trained, looked up on the validation side of the paper's split: the test side is not touched."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from tqdm import tqdm

from prato.data.atomic import make_folder, write_bytes
from prato.models.checkpoint import load_model
from scripts.common.provenance import command, commit
from scripts.research.datasets.folders import Material
from scripts.research.experiments.measure import means, measure
from scripts.research.experiments.schema import Experiment, load_experiments
from scripts.research.experiments.training import ModelFiles, learn, trained

PLANS = Path(__file__).parent / "experiments" / "plans"
#: Ways to train, held against each other: changes of a plan, by when tokens begin to leave. Their pruning is the literal plan's.
WAYS: dict[str, dict[str, Any]] = {
    "from the first step": {"dense_first": 0.0},
    "after half": {"dense_first": 0.5},
    "after seven tenths": {"dense_first": 0.7},
    "after half, the paper's loss at the plan alone": {"dense_first": 0.5, "recipe": "paper"},
}
#: Each trained network is measured with tokens under the box that may leave, and with such that stay.
BOXED = (False, True)


def main(
    names: Annotated[list[str], typer.Argument(help="Experiments whose plans are changed, such as table4/best_acdc.")],
    seed: Annotated[int, typer.Option(min=0, help="Everything random follows from it.")] = 0,
    out: Annotated[Path, typer.Option(help="Result file.")] = Path("docs/results/paper_recipe.json"),
    splits: Annotated[Path, typer.Option(help="Folder of the splits.")] = Path("docs/results/paper"),
    models: Annotated[Path, typer.Option(help="Folder of models and training states.")] = Path("out/paper_recipe"),
    acdc: Annotated[Path, typer.Option(help="Studies folder that scripts/import_acdc.py made.")] = Path("out/acdc"),
    isic: Annotated[Path, typer.Option(help="ISIC 2017 at 256 x 256.")] = Path("out/isic"),
    threads: Annotated[int, typer.Option(min=1, help="CPU threads.")] = 1,
) -> None:
    """Train each way what is missing, measure all on validation patients with tight boxes, and write what came out."""
    try:
        torch.set_num_threads(threads)
        experiments = load_experiments(PLANS)
        missing = [name for name in names if name not in experiments]
        if missing:
            raise ValueError(f"{missing[0]} is no experiment such as {next(iter(experiments))}.")
        made_by = {"commit": commit(), "command": command(), "device": "cpu", "threads": threads}
        material = Material({"acdc": acdc, "isic": isic}, splits)
        rows = []
        for name in names:
            for way, changed in WAYS.items():
                experiment = experiments[name]
                pruning = {**(experiment.plan or {}), "boxed": False}
                experiment = experiment.model_copy(update={**changed, "plan": pruning, "seed": seed})
                files = ModelFiles(models, f"{name}-{way.replace(' ', '_')}-seed{seed}")
                rows += [{"name": name, "way": way, **row} for row in _looked_up(experiment, files, material, made_by)]
        make_folder(out.parent)
        write_bytes(out, (json.dumps({**made_by, "seed": seed, "side": "validation", "rows": rows}, indent=1) + "\n").encode())
    except (ValueError, RuntimeError, OSError) as error:
        typer.echo(str(error).splitlines()[0], err=True)
        raise typer.Exit(2) from None


def _looked_up(experiment: Experiment, files: ModelFiles, material: Material, made_by: dict[str, Any]) -> list[dict[str, Any]]:
    device = torch.device("cpu")
    if trained(files, experiment) is None:
        samples = material.samples(experiment)
        with tqdm(total=100, desc=files.name, unit="%", mininterval=1.0) as bar:
            learn(experiment, files, None, samples, device, made_by, lambda progress: bar.update(int(100 * progress.share) - bar.n))
    network, spec = load_model(files.model)[:2]
    plan, cases, found = spec.pruning_plan(), material.tests(experiment, "validation"), []
    assert plan is not None
    begins_with = (experiment.edge / experiment.image) ** 2
    for boxed in BOXED:
        rows = measure(network, replace(plan, protect_prompted=boxed), cases, device, begins_with)[0]
        scored = [{"patient": row["patient"], "dice": row["dice"]} for row in rows]
        found.append({"boxed": boxed, "spent": spec.training["spent"], "mean": means(rows), "cases": scored})
        tqdm.write(f"{files.name}, boxed {boxed}: DSC {found[-1]['mean']['dice']}")
    return [{"experiment": experiment.model_dump(mode="json"), **row} for row in found]


if __name__ == "__main__":
    typer.run(main)
