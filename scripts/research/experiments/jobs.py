"""One experiment from its plan to its result file: trained where it was not, measured, written whole."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from prato.data.atomic import make_folder, write_bytes
from prato.models.checkpoint import load_model
from prato.prompts.batch import PromptBatch
from prato.runtime.flops import count_flops
from scripts.research.datasets.folders import Material
from scripts.research.experiments.measure import means, measure, write_pictures
from scripts.research.experiments.networks import dense_spec
from scripts.research.experiments.schema import Experiment, ExperimentError, Spending, same_plan
from scripts.research.experiments.training import ModelFiles, learn, trained

#: Told what is going on ("loading", "training", "measuring"), what share of it is done (0..1), and the loss where there is one.
Watching = Callable[[str, float, float | None], object]


@dataclass(frozen=True)
class Job:
    """An experiment with all that its plan file leaves open.

    Attributes:
        name: with "-seedN" behind it where the seed is not the plan's.
        experiment: as it is run. needs: the jobs' names whose models it takes.
    """

    name: str
    experiment: Experiment
    needs: tuple[str, ...]

    @property
    def trains(self) -> bool:
        """Whether it has a model of its own."""
        return self.experiment.model_of is None


@dataclass(frozen=True)
class Places:
    """Folders: result files and splits, models and figures' material, and the data sets by name."""

    results: Path
    models: Path
    data: Mapping[str, Path]

    def result(self, job: Job) -> Path:
        """The result file of ``job``."""
        return self.results / f"{job.name}.json"


def job_of(name: str, experiments: Mapping[str, Experiment], seed: int | None, spending: Spending | None) -> Job:
    """The experiment ``name`` with another ``seed`` and budget, where they are given."""
    plan = experiments[name]
    changed: dict[str, Any] = {} if seed is None else {"seed": seed}
    if spending is not None:
        changed["budget"] = spending.model_copy(update={"batch": plan.budget.batch})
    suffix = "" if seed is None or seed == plan.seed else f"-seed{seed}"
    return Job(name + suffix, plan.model_copy(update=changed), tuple(needed + suffix for needed in plan.needs))


def jobs_to_do(
    names: Sequence[str], experiments: Mapping[str, Experiment], seed: int | None, spending: Spending | None, places: Places
) -> list[Job]:
    """What is missing of ``names``, and before it the experiments whose models it takes and that are not there.

    Raises:
        ExperimentError: a result or model is there, but of another plan, seed or budget.
    """
    found: dict[str, Job] = {}

    def visit(name: str, for_model: bool) -> None:
        job = job_of(name, experiments, seed, spending)
        measured = _is_done(job, places.result(job))
        has_model = job.trains and trained(ModelFiles(places.models, job.name), job.experiment) is not None
        if job.name in found or (has_model if for_model else measured):
            return
        for needed in experiments[name].needs:
            visit(needed, True)
        found[job.name] = job

    for name in names:
        visit(name, False)
    return list(found.values())


def _is_done(job: Job, path: Path) -> bool:
    if not path.exists():
        return False
    try:
        made_for = json.loads(path.read_bytes())["experiment"]
    except (ValueError, KeyError, TypeError) as error:
        raise ExperimentError(f"{path} is not a result of an experiment: delete it.") from error
    if not same_plan(made_for, job.experiment):
        raise ExperimentError(f"{path} is the result of another plan, seed or budget: delete it or use another --out.")
    return True


def run(job: Job, places: Places, material: Material, device: str, made_by: Mapping[str, Any], watch: Watching) -> Path:
    """Train ``job`` where its model is missing, measure it, and write its result file and its material for figures.

    Args:
        made_by: commit and command, for the result.

    Raises:
        ExperimentError, VolumeError, CheckpointError, ValueError: data, a model or a state that cannot be used.
    """
    experiment, where, threads = job.experiment, torch.device(device), torch.get_num_threads()
    own = ModelFiles(places.models, job.name)
    source = own if job.trains else ModelFiles(places.models, job.needs[0])
    spec = trained(source, experiment)
    if spec is None:
        if not job.trains:
            raise ExperimentError(f"{job.name} measures the model of {source.name}, which is not there.")
        teacher = places.models / f"{job.needs[0]}.safetensors" if job.needs else None
        samples = material.samples(experiment, lambda done, total: watch("loading", done / total, None))
        spec = learn(
            experiment, own, teacher, samples, where, {**made_by, "threads": threads}, lambda p: watch("training", p.share, p.loss)
        )
    network = load_model(source.model)[0]
    cases = material.tests(experiment)
    begins_with = (experiment.edge / experiment.image) ** 2
    rows, density, pictures = measure(
        network, spec.pruning_plan(), cases, where, begins_with, lambda done, total: watch("measuring", done / total, None)
    )
    result = {
        "experiment": experiment.model_dump(mode="json"),
        "budget": spec.training["spent"],
        "device": device,
        "threads": threads,
        **made_by,
        "seed": experiment.seed,
        "parameters": sum(p.numel() for p in network.parameters() if p.requires_grad),
        "gflops_dense": round(_dense_gflops(experiment), 5),
        "cases": rows,
        "loss_curve": spec.training["loss_curve"],
        "token_density": density,
        "mean": means(rows),
    }
    write_pictures(places.models / f"{job.name}.npz", pictures)
    path = places.result(job)
    make_folder(path.parent)
    write_bytes(path, (json.dumps(result, indent=1) + "\n").encode())
    return path


def material_at(places: Places) -> Material:
    """The data sets of ``places``."""
    return Material(dict(places.data), places.results)


def _dense_gflops(experiment: Experiment) -> float:
    """GFLOP of one whole slice through the same network, dense."""
    network = dense_spec(experiment).build().eval()
    image = torch.zeros(1, 3, experiment.image, experiment.image)
    with torch.inference_mode():
        return count_flops(lambda: network.segment(image, PromptBatch.empty(1, (1, 1)), None))[1]


def absolute(places: Places) -> Places:
    """The same, for processes that work in other folders."""
    return replace(
        places,
        results=places.results.resolve(),
        models=places.models.resolve(),
        data={name: folder.resolve() for name, folder in places.data.items()},
    )
