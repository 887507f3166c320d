"""One experiment from its row of the matrix to its results: trained if it has not been, and measured."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import torch

from prato.models.checkpoint import ModelSpec, load_model
from prato.prompts.batch import PromptBatch
from prato.runtime.devices import device_name, find_device
from prato.runtime.flops import count_flops
from scripts.common.results import Row, delete_rows, read_rows, replace_rows
from scripts.research.datasets.base import ExperimentError
from scripts.research.experiments.data import ExperimentData
from scripts.research.experiments.measure import means, measure, write_pictures
from scripts.research.experiments.networks import dense_spec
from scripts.research.experiments.schema import Experiment, Spending, is_same_experiment, slices_seen
from scripts.research.experiments.training import ModelFiles, load_trained, train_experiment

#: Called with what is going on ("loading", "training", "measuring"), what share of it is done (0..1), and the loss where there is one.
OnProgress = Callable[[str, float, float | None], object]
#: What tells one run from another, in both files of results.
_RUN = ("experiment", "seed")


@dataclass(frozen=True)
class Job:
    """An experiment with all that its row of the matrix leaves open.

    Attributes:
        row: its name in the matrix. experiment: as it is run. needs: names of the jobs whose models it takes.
    """

    row: str
    experiment: Experiment
    needs: tuple[str, ...]
    suffix: str = ""

    @property
    def name(self) -> str:
        """Its own, with "-seedN" behind it where the seed is not the matrix's."""
        return self.row + self.suffix

    @property
    def trains(self) -> bool:
        """Whether it has a model of its own."""
        return self.experiment.model_of is None


@dataclass(frozen=True)
class Result:
    """A run's row for runs.csv, and one for cases.csv for each test case; the command stands in the first alone."""

    run: Row
    cases: list[Row]


@dataclass(frozen=True)
class Places:
    """Folders: results and splits, models and the figures' slices, and the data sets by name."""

    results: Path
    models: Path
    data: Mapping[str, Path]

    def stored_run(self, job: Job) -> Row | None:
        """The row of ``job`` in runs.csv; None where there is none."""
        path = self.results / "runs.csv"
        rows = read_rows(path) if path.exists() else []
        return next((row for row in rows if row.get("experiment") == job.row and row.get("seed") == job.experiment.seed), None)

    def store(self, result: Result) -> None:
        """Write ``result`` in the place of an earlier one of the same experiment and seed.

        Runs of the experiment that saw fewer slices in training go, whatever their seed: beside this one they would mislead.
        """
        name, seen = result.run["experiment"], slices_seen(result.run)
        shorter = delete_rows(self.results / "runs.csv", lambda run: run["experiment"] == name and slices_seen(run) < seen)
        seeds = {run["seed"] for run in shorter}
        delete_rows(self.results / "cases.csv", lambda case: case["experiment"] == name and case["seed"] in seeds)
        replace_rows(self.results / "cases.csv", result.cases, _RUN)
        replace_rows(self.results / "runs.csv", [result.run], _RUN)  # last: a run that stands there has its cases

    def experiment_data(self) -> ExperimentData:
        """The data sets."""
        return ExperimentData(self.data, self.results)

    def resolve(self) -> Places:
        """The same, for processes that work in other folders."""
        data = {name: folder.resolve() for name, folder in self.data.items()}
        return replace(self, results=self.results.resolve(), models=self.models.resolve(), data=data)


def make_job(name: str, experiments: Mapping[str, Experiment], seed: int | None, spending: Spending | None) -> Job:
    """The experiment ``name`` with another ``seed`` and budget, where they are given."""
    own = experiments[name]
    changed: dict[str, Any] = {} if seed is None else {"seed": seed}
    if spending is not None:
        changed["budget"] = spending if spending.slices else spending.model_copy(update={"batch": own.budget.batch})
    suffix = "" if seed is None or seed == own.seed else f"-seed{seed}"
    return Job(name, own.model_copy(update=changed), tuple(needed + suffix for needed in own.needs), suffix)


def schedule(
    names: Sequence[str], experiments: Mapping[str, Experiment], seed: int | None, spending: Spending | None, places: Places
) -> list[Job]:
    """What is missing of ``names``, and before it the experiments whose models it takes and that are not there.

    Raises:
        ExperimentError: a result or model is there, but of another plan, seed or budget.
    """
    found: dict[str, Job] = {}

    def visit(name: str, for_model: bool) -> None:
        job = make_job(name, experiments, seed, spending)
        is_measured = _is_measured(job, places)
        has_model = job.trains and load_trained(ModelFiles(places.models, job.name), job.experiment) is not None
        if job.name in found or (has_model if for_model else is_measured):
            return
        for needed in experiments[name].needs:
            visit(needed, True)
        found[job.name] = job

    for name in names:
        visit(name, False)
    return list(found.values())


def _is_measured(job: Job, places: Places) -> bool:
    stored = places.stored_run(job)
    if stored is None:
        return False
    described = {name: value for name, value in stored.items() if name in Experiment.model_fields}
    if job.experiment.budget.slices and not described["budget"].get("slices"):
        return False  # a longer training takes the place of one of some hundred steps
    if not is_same_experiment(described, job.experiment):
        raise ExperimentError(
            f"{places.results / 'runs.csv'} has {job.row} with seed {job.experiment.seed}, but of another plan or budget: "
            "delete its row, or use another --out."
        )
    return True


def run(job: Job, places: Places, data: ExperimentData, device: str, made_by: Mapping[str, Any], on_progress: OnProgress) -> Result:
    """Train ``job`` where its model is missing, measure it, and write its slices for the figures.

    Args:
        made_by: commit and command, for the result.

    Raises:
        ExperimentError, VolumeError, CheckpointError, ValueError: data, a model or a state that cannot be used.
    """
    experiment, where, threads = job.experiment, find_device(device), torch.get_num_threads()
    own = ModelFiles(places.models, job.name)
    source = own if job.trains else ModelFiles(places.models, job.needs[0])
    spec = load_trained(source, experiment)
    if spec is None:
        if not job.trains:
            raise ExperimentError(f"{job.name} measures the model of {source.name}, which is not there.")
        if experiment.budget.slices:
            raise ExperimentError(f"{job.name} has no model in {places.models}: train it with scripts/research/train_queue.py first.")
        teacher = places.models / f"{job.needs[0]}.safetensors" if job.needs else None
        samples = data.training_samples(experiment, lambda done, total: on_progress("loading", done / total, None))
        made = {**made_by, "threads": threads}
        spec = train_experiment(experiment, own, teacher, samples, where, made, lambda p: on_progress("training", p.share, p.loss))
    network, cases = load_model(source.model)[0], data.eval_cases(experiment)
    first_tokens = (experiment.sight.edge / experiment.image) ** 2
    rows, density, pictures = measure(
        network, spec.pruning_plan(), cases, where, first_tokens, lambda done, total: on_progress("measuring", done / total, None)
    )
    write_pictures(places.models / f"{job.name}.npz", pictures)
    made = {"threads": threads, "seed": experiment.seed, "device": device_name(where), **made_by}
    described = experiment.model_dump(mode="json", exclude_none=True, exclude={"seed"})
    if experiment.plan:
        described["plan"] = experiment.plan  # with what is None in it: that may be another value than the default
    counts = {
        "spent": spec.training["spent"],
        "parameters": sum(p.numel() for p in network.parameters() if p.requires_grad),
        "gflops_dense": round(_dense_gflops(experiment), 5),
        "token_density": density,
        "mean": means(rows),
    }
    return Result(
        {"experiment": job.row, **described, **counts, **made},
        [{"experiment": job.row, **row, "seed": experiment.seed, "device": made["device"], "commit": made_by["commit"]} for row in rows],
    )


def _dense_gflops(experiment: Experiment) -> float:
    """GFLOP of one whole slice through the same network, dense."""
    return _gflops_of(dense_spec(experiment).model_dump_json(), experiment.image)


@cache
def _gflops_of(spec: str, edge: int) -> float:
    """Of one image of ``edge`` pixels through the network of ``spec`` (JSON), counted once."""
    network = ModelSpec.model_validate_json(spec).build().eval()
    image = torch.zeros(1, 3, edge, edge)
    with torch.inference_mode():
        return count_flops(lambda: network.segment(image, PromptBatch.empty(1, (1, 1)), None))[1]
