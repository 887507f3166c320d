"""Reproduce the paper: run its experiments from their matrix, and make the pages from their results."""

from __future__ import annotations

import math
from collections.abc import Sequence
from enum import Enum
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import typer
from tqdm import tqdm

from prato.runtime.devices import find_device
from scripts.common.arguments import MAX_SEED
from scripts.common.paths import check_writable
from scripts.common.provenance import command, commit
from scripts.research.datasets.base import ExperimentError, list_datasets
from scripts.research.experiments.jobs import Places, schedule
from scripts.research.experiments.matrix import MATRIX, load_experiments, load_tables, paper_tables, select
from scripts.research.experiments.run_local import RunSettings, run_local
from scripts.research.experiments.schema import QUEUE_BATCH, Experiment, Spending

#: What is told in a sentence.
_ERRORS = (ValueError, RuntimeError, OSError)
app = typer.Typer(add_completion=False, no_args_is_help=True, help=__doc__)


class Backend(str, Enum):
    """Where experiments run."""

    local = "local"
    ray = "ray"


@app.command()
def run(
    names: Annotated[list[str], typer.Argument(help="Tables (table1 to table8) or experiments (table4/prato_acdc).")],
    budget: Annotated[str, typer.Option(help="steps=N or minutes=M of training for each, or slices=N of the queue's.")] = "",
    seed: Annotated[int | None, typer.Option(min=0, max=MAX_SEED, help="Seed to use instead of the matrix's.")] = None,
    backend: Annotated[Backend, typer.Option(help="local: one after the other, here; ray: each a task of a Ray cluster.")] = Backend.local,
    address: Annotated[str, typer.Option(help="Of the Ray cluster; by default one is started on this machine.")] = "",
    workers: Annotated[int, typer.Option(min=0, help="With Ray: experiments at a time on this machine; 0 for one per core.")] = 0,
    device: Annotated[str, typer.Option(help="cpu, cuda or cuda:N.")] = "cpu",
    threads: Annotated[int, typer.Option(min=1, help="CPU threads of each experiment.")] = 1,
    out: Annotated[Path, typer.Option(help="Folder of runs.csv, cases.csv and the splits.")] = Path("docs/results/paper"),
    models: Annotated[Path, typer.Option(help="Folder of models, training states and the figures' slices.")] = Path("out/paper"),
    data: Annotated[list[str], typer.Option(help="NAME=FOLDER of a data set; by default out/NAME.")] = [],  # noqa: B006
    matrix: Annotated[Path, typer.Option(help="Matrix of the experiments.")] = MATRIX,
    tables: Annotated[
        Path | None,
        typer.Option(help="Which experiments are the rows of which table; by default the paper's, as far as the matrix has them."),
    ] = None,
) -> None:
    """Train and measure what is missing; started again after a kill, it goes on where it was."""
    try:
        experiments = load_experiments(matrix)
        wanted = select(names, load_tables(tables, experiments) if tables else paper_tables(experiments), experiments)
        if backend is Backend.local and (address or workers):
            raise ExperimentError("--backend local runs one experiment after the other here: leave --address and --workers out.")
        if backend is Backend.ray and find_spec("ray") is None:
            raise ExperimentError("--backend ray needs Ray: pip install -r requirements-ray.txt, or use --backend local.")
        find_device(device)
        for folder in (out, models):
            check_writable(folder, is_folder=True)
        places = Places(out, models, data_folders(data))
        spending = _spending(budget)
        jobs = schedule(wanted, experiments, seed, spending, places)
        _check_data(places, [job.experiment for job in jobs])
        if not jobs:
            typer.echo(f"Nothing is missing of {', '.join(names)}: results are in {out}.")
            return
        settings = RunSettings(places, device, threads, {"commit": commit(), "command": command()})
        if backend is Backend.local:
            run_local(jobs, settings)
        else:
            from scripts.research.experiments.run_ray import run_on_cluster

            run_on_cluster(jobs, settings, address, workers)
    except _ERRORS as error:
        tqdm.write(str(error).splitlines()[0], file=typer.get_text_stream("stderr"))
        raise typer.Exit(2) from None


@app.command()
def report(
    results: Annotated[Path, typer.Option(help="Folder of runs.csv and cases.csv.")] = Path("docs/results/paper"),
    out: Annotated[Path, typer.Option(help="Folder of the documents.")] = Path("docs"),
) -> None:
    """Write the pages with every table, claim and figure from the results."""
    from scripts.research.paper_page import write

    try:
        if not (results / "runs.csv").is_file():
            raise ExperimentError(f"{results} holds no runs.csv: name a folder in which paper.py run left its results.")
        check_writable(out, is_folder=True)
        write(results, out)
    except _ERRORS as error:
        typer.echo(str(error).splitlines()[0], err=True)
        raise typer.Exit(2) from None


def _spending(text: str) -> Spending | None:
    """``steps=N``, ``minutes=M`` or ``slices=N``; None for none of them."""
    if not text:
        return None
    unit, _, amount = text.partition("=")
    try:
        number = float(amount)
        if unit not in ("steps", "minutes", "slices") or not 0 < number < math.inf or (unit != "minutes" and number != int(number)):
            raise ValueError
    except ValueError:
        raise ExperimentError(f"--budget is steps=N, minutes=M or slices=N, above zero, not {text!r}.") from None
    if unit == "slices":
        return Spending(slices=int(number), batch=QUEUE_BATCH)
    return Spending(steps=int(number)) if unit == "steps" else Spending(minutes=number)


def data_folders(given: Sequence[str]) -> dict[str, Path]:
    """The folder of every registered data set: of those ``given``, each "NAME=FOLDER", or out/NAME.

    Raises:
        ExperimentError: one of another form, or a data set that there is not.
    """
    folders = {name: Path("out") / name for name in list_datasets()}
    for each in given:
        name, _, folder = each.partition("=")
        if name not in folders or not folder:
            raise ExperimentError(f"--data is NAME=FOLDER with one of {', '.join(folders)}, not {each!r}.")
        folders[name] = Path(folder)
    return folders


def _check_data(places: Places, experiments: list[Experiment]) -> None:
    for name in sorted({experiment.data for experiment in experiments}):
        if not places.data[name].is_dir():
            raise ExperimentError(f"The data of {name} are not in {places.data[name]}: give their folder as --data {name}=FOLDER.")


if __name__ == "__main__":
    app()
