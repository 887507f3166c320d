"""The paper's rows on a GPU that is lent for minutes: what to copy there, in which order to train, and what to copy back.

    python scripts/research/paper_queue.py write
    python scripts/research/paper_queue.py pack --data acdc=out/acdc --name acdc --out out/acdc_rows.zip
    python scripts/research/train_queue.py --queue out/paper_queue.json --packed out/acdc_rows.zip \\
        --split docs/results/paper/split_acdc.json --out out/paper_queue --minutes 14
    python scripts/research/paper_queue.py collect --queue-out out/paper_queue
    python scripts/research/paper.py run table4 --budget slices=60000

Training needs torch and MONAI alone; the test patients are measured at home, by the last command, on the stored grid.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from pickle import UnpicklingError
from typing import Annotated, Any

import typer

from prato.data.atomic import first_line, make_folder
from prato.data.cases import TrainingCase
from prato.models.checkpoint import save_model
from prato.training.slice_bank import save_packed
from scripts.common.paths import ROOT, check_writable
from scripts.common.provenance import origin
from scripts.common.refusals import refuses_in_one_sentence
from scripts.common.results import Row, check_table, replace_rows
from scripts.research.datasets.acdc import CUT_MM
from scripts.research.datasets.base import FIELD_MM, ExperimentError, dataset_class
from scripts.research.datasets.isic import NATIVE
from scripts.research.datasets.splits import load_split
from scripts.research.experiments.matrix import PAPER_TABLES, load_experiments, load_tables
from scripts.research.experiments.networks import model_spec
from scripts.research.experiments.schema import QUEUE_BATCH, Experiment, Spending
from scripts.research.paper import data_folders
from scripts.research.queue_weights import load_weights, read_points

QUEUE = Path("out/paper_queue.json")
#: Slices that every row of a data set is trained on.
SLICES = {"acdc": 60_000, "isic": 30_000}
#: The rows that decide, first: with the same box, and what they need.
_FIRST = ("prato", "best", "near", "random_box", "dense_box", "dynamic_vit_box", "tome_box", "dense", "crop")
#: The tables in order of worth, with their seeds.
_TABLES = {
    "table4": (0, 1, 2),
    "table8": (0,),
    "table6": (0, 1, 2),
    "table1": (0, 1, 2),
    "table3": (0, 1, 2),
    "table7": (0, 1, 2),
    "table2": (0,),
    "table5": (0,),
}
#: What of a data set can be seen on the bank's canvas: edge of the whole image in its pixels, and whether slices are colours.
_FIELDS = {"acdc": (FIELD_MM / CUT_MM, False), "isic": (float(NATIVE), True)}
app = typer.Typer(add_completion=False, no_args_is_help=True, help=__doc__)


@app.command()
@refuses_in_one_sentence
def write(out: Annotated[Path, typer.Option(help="Queue file.")] = QUEUE) -> None:
    """Write the queue from the matrix: the rows that decide with two seeds, then table after table."""
    check_writable(out, is_folder=False)
    experiments = load_experiments()
    order = training_order(experiments, load_tables(PAPER_TABLES, experiments))
    lines = [json.dumps(entry(name, seed, experiments)) for name, seed in order]
    about = json.dumps({"depth": 1, "edge": 256, "rate": 0.001, "promptings": ["tight"]})
    make_folder(out.parent)
    out.write_text('{"defaults": ' + about + ',\n "entries": [\n  ' + ",\n  ".join(lines) + "\n]}\n", encoding="utf-8")
    typer.echo(f"{len(lines)} trainings are in {out}.")


@app.command()
@refuses_in_one_sentence
def pack(
    name: Annotated[str, typer.Option(help="acdc or isic.")],
    out: Annotated[Path, typer.Option(help="Packed file of training and validation slices.")],
    data: Annotated[list[str], typer.Option(help="NAME=FOLDER of the data set.")] = [],  # noqa: B006
    splits: Annotated[Path, typer.Option(help="Folder of the files split_NAME.json.")] = ROOT / "docs" / "results" / "paper",
) -> None:
    """Pack what is trained and validated on; hearts without the slices beyond them, colours in the place of slices."""
    check_writable(out, is_folder=False)
    if name not in _FIELDS:
        raise ValueError(f"--name must be {' or '.join(_FIELDS)}, not {name}: other data sets are trained by paper.py alone.")
    dataset = dataset_class(name)(data_folders(data)[name])
    images = next(each.images for each in load_experiments().values() if each.data == name)
    if not (file := splits / f"split_{name}.json").is_file():
        raise ValueError(f"{file} is missing: --splits is the --out of paper.py, whose first run writes it.")
    split = load_split(file, dataset.groups(images))
    cases = dataset.training_cases([*split.train, *split.validation], 128, True, lambda done, total: None)
    make_folder(out.parent)
    save_packed(out, [_whole(case, _FIELDS[name][1]) for case in cases])
    typer.echo(f"{len(cases)} cases, {out.stat().st_size / 1e6:.0f} MB")


@app.command()
def collect(
    queue_out: Annotated[Path, typer.Option(help="The queue's --out.")],
    device: Annotated[str, typer.Option(help="What it ran on.")] = "cpu",
    models: Annotated[Path, typer.Option(help="Folder of paper.py's models.")] = Path("out/paper"),
    curves: Annotated[Path, typer.Option(help="Learning curves.")] = ROOT / "docs" / "results" / "paper" / "curves.csv",
) -> None:
    """Model files for ``paper.py run`` of all trainings that have ended, and their learning curves."""
    experiments, made, place = load_experiments(), origin(device), queue_out
    try:
        check_table(curves)
        check_writable(models, is_folder=True)
        ended = sorted(queue_out.glob("*/weights.pt"))
        if not ended:
            raise ValueError("no training there has ended")
        for path in ended:
            place = path.parent
            typer.echo(f"{place.name}: {_collect_one(place, experiments, models, curves, made):.3f}")
    except (ValueError, KeyError, RuntimeError, EOFError, UnpicklingError, OSError) as error:
        typer.echo(f"{place} cannot be collected: {first_line(error)}", err=True)
        raise typer.Exit(2) from None


def _collect_one(folder: Path, experiments: Mapping[str, Experiment], models: Path, curves: Path, made: Row) -> float:
    """The validation DSC of the training in ``folder``, whose model and curve are written.

    Raises:
        ValueError, KeyError, RuntimeError, EOFError, UnpicklingError, OSError: it is damaged, or trains no row of the matrix.
    """
    stored = load_weights(folder)
    name, recipe = stored["entry"].get("experiment"), stored["recipe"]
    if name not in experiments:
        raise ValueError(f"it trains {name or 'a network of its own'}, which is no row of the matrix")
    steps = {"steps": recipe["steps"], "slices": recipe["steps"] * recipe["stacks"], "batch": recipe["stacks"]}
    experiment = with_budget(experiments[name], recipe["seed"], steps["slices"], steps["batch"])
    points = read_points(folder)
    rows = list(curve_rows(name, recipe["seed"], points))
    spent = {**steps, "minutes": round(points[-1]["seconds"] / 60, 2)}
    training: dict[str, Any] = {"experiment": experiment.model_dump(mode="json"), "spent": spent, **made}
    training["loss_curve"] = [[point["step"], point["loss"][0]] for point in points]
    spec = model_spec(experiment)
    network = spec.build()
    network.load_state_dict(stored["weights"])
    suffix = "" if recipe["seed"] == experiments[name].seed else f"-seed{recipe['seed']}"
    make_folder((models / name).parent)
    save_model(models / f"{name}{suffix}.safetensors", network, spec.model_copy(update={"training": training}))
    replace_rows(curves, [{**row, **made} for row in rows], ("experiment", "seed"))
    return float(rows[-1]["dice"])


def training_order(experiments: dict[str, Experiment], tables: dict[str, list[str]]) -> list[tuple[str, int]]:
    """Experiments that train a model, with their seeds: what is wanted first, first, and a teacher before who learns from it."""
    wanted = [(f"table4/{name}_acdc", seed) for seed in (0, 1) for name in _FIRST]
    for table, seeds in _TABLES.items():
        for data in ("acdc", "isic"):
            wanted += [(name, seed) for seed in seeds for name in tables[table] if experiments[name].data == data]
    order: dict[tuple[str, int], None] = {}
    for name, seed in wanted:
        own = experiments[name]
        for needed in (*own.needs, *(() if own.model_of else (name,))):
            order.setdefault((needed, seed))
    return list(order)


def with_budget(experiment: Experiment, seed: int, slices: int, batch: int) -> Experiment:
    """``experiment`` as the queue trained it, on so many slices: a quick trial is none of the queue's ``SLICES``."""
    budget = Spending(slices=min(slices, SLICES[experiment.data]), batch=batch)
    return experiment.model_copy(update={"seed": seed, "budget": budget, "box": "tight", "model_of": None})


def entry(name: str, seed: int, experiments: dict[str, Experiment]) -> Row:
    """The queue's entry of the experiment ``name``."""
    own = experiments[name]
    spec, (field, colours) = model_spec(own), _FIELDS[own.data]
    row: dict[str, Any] = {"edge": own.sight.edge, "boxes": own.sight.boxes, "field": field, "colours": colours}
    row |= {"plan": spec.plan, "engine": own.recipe == "engine", "dense_first": own.dense_first, "is_baseline": own.is_baseline}
    found: Row = {"name": entry_name(name, seed), "experiment": name, "data": own.data, "seed": seed}
    found |= {"network": spec.network, "arguments": json.loads(json.dumps(spec.arguments)), "row": row}
    found |= {"steps": -(-SLICES[own.data] // QUEUE_BATCH), "stacks": QUEUE_BATCH}
    return found | ({"teacher": entry_name(own.teacher, seed)} if own.teacher else {})


def entry_name(experiment: str, seed: int) -> str:
    """What its folder in the queue's --out is called."""
    return f"{experiment.replace('/', '-')}-seed{seed}"


def curve_rows(experiment: str, seed: int, points: list[Row]) -> list[Row]:
    """The points of a training's curve at which it was validated, by slices seen."""
    rows = [
        {"experiment": experiment, "slices": point["slices"], "dice": point["tight"], "seed": seed} for point in points if "tight" in point
    ]
    if not rows:
        raise ExperimentError(f"the curve of {experiment} has no validation")
    return rows


def _whole(case: TrainingCase, colours: bool) -> TrainingCase:
    if colours:
        return replace(case, label=case.label.expand(3, -1, -1))
    first, stop = case.slices
    return replace(case, image=case.image[first:stop], label=case.label[first:stop], slices=(0, stop - first))


if __name__ == "__main__":
    app()
