"""How the engine's rows are to be trained, looked up on the validation side of the paper's split: the test side is not touched."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from tqdm import tqdm

from prato.checkpoint import load_model
from prato.data.atomic import make_folder, write_bytes
from prato.experiments.learning import ModelFiles, learn, trained
from prato.experiments.material import Material
from prato.experiments.measuring import means, measure
from prato.experiments.schema import Experiment, load_experiments
from provenance import command, commit

PLANS = Path(__file__).parent / "experiments"
#: What is held against each other: changes of a plan, by name.
WAYS: dict[str, dict[str, Any]] = {
    "from the first step": {"dense_first": 0.0},
    "after half": {"dense_first": 0.5},
    "after seven tenths": {"dense_first": 0.7},
    "after half, the paper's loss at the plan alone": {"dense_first": 0.5, "recipe": "paper"},
}


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
                experiment = experiments[name].model_copy(update={**changed, "seed": seed})
                files = ModelFiles(models, f"{name}-{way.replace(' ', '_')}-seed{seed}")
                rows.append({"name": name, "way": way, **_looked_up(experiment, files, material, made_by)})
        make_folder(out.parent)
        write_bytes(out, (json.dumps({**made_by, "seed": seed, "side": "validation", "rows": rows}, indent=1) + "\n").encode())
    except (ValueError, RuntimeError, OSError) as error:
        typer.echo(str(error).splitlines()[0], err=True)
        raise typer.Exit(2) from None


def _looked_up(experiment: Experiment, files: ModelFiles, material: Material, made_by: dict[str, Any]) -> dict[str, Any]:
    device = torch.device("cpu")
    if trained(files, experiment) is None:
        samples = material.samples(experiment)
        with tqdm(total=100, desc=files.name, unit="%", mininterval=1.0) as bar:
            learn(experiment, files, None, samples, device, made_by, lambda progress: bar.update(int(100 * progress.share) - bar.n))
    network, spec = load_model(files.model)[:2]
    cases = material.tests(experiment, "validation")
    rows, _, _ = measure(network, spec.pruning_plan(), cases, device, (experiment.edge / experiment.image) ** 2)
    found = means(rows)
    tqdm.write(f"{files.name}: DSC {found['dice']}")
    scored = [{"patient": row["patient"], "dice": row["dice"]} for row in rows]
    return {"experiment": experiment.model_dump(mode="json"), "spent": spec.training["spent"], "mean": found, "cases": scored}


if __name__ == "__main__":
    typer.run(main)
