"""The labelling loop with an oracle in the labeller's place: how soon is a model good, and how much is left to correct, by strategy?

Patients of the shipped models' training side are labelled two a round, by their expert labels; after each round a network is trained from
fresh weights on all that is labelled, measured on fixed validation patients, and asked which patients come next. How many voxels the
oracle then has to change in that model's masks is what a round cost. The model "all" is trained as long on everybody: the goal.
The locator that proposes boxes to the strategies is the shipped one, which has seen these patients; it segments nothing.
"""

from __future__ import annotations

import copy
import json
import time
from collections.abc import Collection, Sequence
from enum import Enum
from hashlib import sha256
from pathlib import Path
from statistics import fmean
from typing import Annotated, Any

import numpy as np
import torch
import typer
from tqdm import tqdm

from prato.box import Box
from prato.checkpoint import save_model
from prato.data.atomic import write_bytes
from prato.data.cases import StudyFile, labelled_studies, load_training_case, read_label
from prato.data.manifest import load_manifest
from prato.data.nifti import read_volume
from prato.data.splits import load_split
from prato.evaluation import evaluate_cases, summary
from prato.image_stack import ImageStack
from prato.pipeline import Pipeline
from prato.presets import PRESETS
from prato.request import Request
from prato.training import Budget, Settings, Trainer
from prato.usefulness.judging import Opinion, by_entropy, by_jitter, by_phases
from prato.usefulness.phases import pairs
from provenance import command, commit

_ROOT = Path(__file__).parents[1]
_LOCATOR = _ROOT / "apps" / "prato_label" / "model" / "prato_locator.safetensors"
_SPLIT = _ROOT / "docs" / "results" / "acdc_split.json"
#: Patients labelled before the first round and in each. Every training starts from nothing: its rate is that of scripts/train.py.
_A_ROUND, _BATCH, _RATE = 2, 8, 1e-3


class Strategy(str, Enum):
    """How the next patients are chosen."""

    random = "random"
    jitter = "jitter"
    entropy = "entropy"
    phases = "phases"


def main(
    studies: Annotated[Path, typer.Option(help="ACDC as scripts/import_acdc.py makes it.")],
    out: Annotated[Path, typer.Option(help="The JSON file to write; one that is there is gone on with.")],
    strategy: Annotated[list[Strategy], typer.Option(help="Several may be given.")] = [Strategy.random, Strategy.jitter],  # noqa: B006
    seed: Annotated[list[int], typer.Option(min=0, help="Several may be given.")] = [0],  # noqa: B006
    dense: Annotated[bool, typer.Option("--dense", help="Train without pruning, too.")] = False,
    network: Annotated[str, typer.Option(help="unetr or swin_unetr.")] = "swin_unetr",
    rounds: Annotated[int, typer.Option(min=1, help="Trainings of each strategy.")] = 4,
    steps: Annotated[int, typer.Option(min=1, help="Steps of each training.")] = 200,
    sample: Annotated[int, typer.Option(min=_A_ROUND, help="Unlabelled patients that are looked at in a round.")] = 8,
    validation: Annotated[int, typer.Option(min=1, help="Validation patients that are measured.")] = 6,
    split: Annotated[Path, typer.Option(help="Split file: who may be labelled, and who is measured.")] = _SPLIT,
    threads: Annotated[int, typer.Option(min=1, help="CPU threads.")] = 1,
) -> None:
    """Dice and corrected voxels against labelled patients, row by row."""
    torch.set_num_threads(threads)
    budget = {"network": network, "steps": steps, "batch": _BATCH, "sample": sample, "validation_patients": validation}
    try:
        if network not in PRESETS:
            raise ValueError(f"--network must be one of {', '.join(PRESETS)}, not {network}.")
        loop = _Loop(studies, out, split, budget)
    except (ValueError, OSError) as error:
        typer.echo(str(error).splitlines()[0], err=True)
        raise typer.Exit(2) from None
    with tqdm(total=len(seed) * (1 + dense) * (len(strategy) * rounds + 1), unit="training", desc="trainings") as bar:
        for one_seed in seed:
            for pruned in (True, False)[: 1 + dense]:
                loop.everybody(one_seed, pruned)
                bar.update()
                for each in strategy:
                    loop.run(each, one_seed, pruned, rounds, bar)


class _Loop:
    """What all runs share, and the rows, written as they come.

    Raises:
        ValueError: ``out`` holds another simulation or none, or ``studies`` lacks patients of the split.
    """

    def __init__(self, studies: Path, out: Path, split_file: Path, budget: dict[str, Any]) -> None:
        split = load_split(split_file)
        self.spec, self.out, self.budget = PRESETS[budget["network"]], out, budget
        files = labelled_studies(studies)
        self.patients = {p: [f for f in files if f.patient == p] for p in split.train}
        self.measured = [f for f in files if f.patient in split.validation[: budget["validation_patients"]]]
        if not self.measured or not all(self.patients.values()):
            raise ValueError(f"{studies} does not hold labelled studies of all patients in {split_file.name}: import all of ACDC.")
        self.pairs = pairs([f.study for f in files], load_manifest(studies))
        self.files = {f.study: f for f in files}
        self.rows = _stored(out, budget, self.patients) if out.exists() else []
        out.parent.mkdir(parents=True, exist_ok=True)
        self.model = out.with_suffix(".safetensors")
        self.cases: dict[str, Any] = {}
        self.made = {"commit": commit(), "command": command(), "device": "cpu", "threads": torch.get_num_threads()}
        self.trained: dict[Any, tuple[Pipeline, dict[str, Any]]] = {}

    def everybody(self, seed: int, pruned: bool) -> None:
        """The row of the model that is trained on all patients."""
        if not self._known("all", seed, pruned):
            row = self._trained(list(self.patients), seed, pruned)[1]
            self._keep({"strategy": "all", "seed": seed, "pruned": pruned, "labelled_patients": len(self.patients), **row})

    def run(self, strategy: Strategy, seed: int, pruned: bool, rounds: int, bar: tqdm) -> None:
        """The rows of one strategy, those that are there already left out."""
        done = self._known(strategy.value, seed, pruned)
        new = done[-1]["next"] if done else sorted(self.patients, key=lambda p: _rank(seed, 0, p))[:_A_ROUND]
        corrected = done[-1]["next_corrected_voxels"] if done else self._corrections(None, new)
        labelled = [*(done[-1]["patients"] if done else []), *new]
        bar.update(min(len(done), rounds))
        for number in range(len(done), rounds):
            if not new:
                break  # everybody is labelled
            pipeline, row = self._trained(labelled, seed, pruned)
            start = time.perf_counter()
            new = self._chosen(pipeline, strategy, seed, number + 1, labelled)
            row["seconds"]["choose"] = round(time.perf_counter() - start, 1)
            next_corrected = self._corrections(pipeline, new)
            about = {"strategy": strategy.value, "seed": seed, "pruned": pruned, "labelled_patients": len(labelled), "patients": labelled}
            counts = {"corrected_voxels_per_study": round(fmean(corrected.values())), "corrected_voxels": corrected}
            self._keep({**about, **counts, **row, "next": new, "next_corrected_voxels": next_corrected})
            labelled, corrected = [*labelled, *new], next_corrected
            bar.update()

    def _known(self, strategy: str, seed: int, pruned: bool) -> list[dict[str, Any]]:
        return [row for row in self.rows if (row["strategy"], row["seed"], row["pruned"]) == (strategy, seed, pruned)]

    def _keep(self, row: dict[str, Any]) -> None:
        self.rows.append({**row, **self.made})
        write_bytes(self.out, (json.dumps({"budget": self.budget, "rows": self.rows}, indent=1) + "\n").encode())

    def _trained(self, patients: Sequence[str], seed: int, pruned: bool) -> tuple[Pipeline, dict[str, Any]]:
        """A network trained on ``patients`` from fresh weights, and what it reaches on the validation patients.

        The first round is the same for every strategy: it is trained once.
        """
        key = seed, pruned, tuple(patients)
        if key not in self.trained:
            self.trained[key] = self._train(patients, seed, pruned)
        pipeline, row = self.trained[key]
        return pipeline, copy.deepcopy(row)

    def _train(self, patients: Sequence[str], seed: int, pruned: bool) -> tuple[Pipeline, dict[str, Any]]:
        for file in (f for p in patients for f in self.patients[p] if f.study not in self.cases):
            self.cases[file.study] = load_training_case(file, self.spec.pixel)
        start = time.perf_counter()
        cases = [case for p in patients for f in self.patients[p] if (case := self.cases[f.study])]
        plan = self.spec.pruning_plan() if pruned else None
        torch.manual_seed(seed)
        trainer = Trainer(self.spec.build(), plan, Settings(_BATCH, _RATE, self.spec.window, seed), torch.device("cpu"))
        steps = self.budget["steps"]
        with tqdm(total=steps, desc=f"{len(patients)} patients", unit="step", leave=False, mininterval=1.0) as bar:
            network = trainer.fit(cases, Budget(steps=steps), lambda _: bar.update() is not False)
        save_model(self.model, network, self.spec.with_plan(plan))
        trained = time.perf_counter()
        pipeline = Pipeline(self.model, _LOCATOR, "cpu")
        found = summary(evaluate_cases(pipeline, self.measured, seed=seed))
        seconds = {"train": round(trained - start, 1), "evaluate": round(time.perf_counter() - trained, 1)}
        dice = {name: scores["dice"] for name, scores in found["structures"].items()}
        return pipeline, {"dice": found["mean_dice"], "dice_by_structure": dice, "seconds": seconds}

    def _chosen(self, pipeline: Pipeline, strategy: Strategy, seed: int, number: int, labelled: Sequence[str]) -> list[str]:
        """The next patients: of a seeded sample, those with the most useful study."""
        left = sorted(set(self.patients) - set(labelled), key=lambda p: _rank(seed, number, p))
        if strategy is Strategy.random:
            return left[:_A_ROUND]

        def score(patient: str) -> float:
            return max(self._opinion(pipeline, strategy, file).score for file in self.patients[patient])

        looked_at = tqdm(left[: self.budget["sample"]], desc=strategy.value, unit="patient", leave=False)
        scores = {patient: score(patient) for patient in looked_at}
        return sorted(scores, key=lambda p: (-scores[p], p))[:_A_ROUND]

    def _opinion(self, pipeline: Pipeline, strategy: Strategy, file: StudyFile) -> Opinion:
        if strategy is Strategy.phases:
            pair = self.pairs[file.study]
            ed, es = (ImageStack(read_volume(self.files[study].image)) for study in (pair.ed, pair.es))
            return by_phases(pipeline.predict, ed, es, pair.known)
        judge = by_jitter if strategy is Strategy.jitter else by_entropy
        return judge(pipeline.predict, ImageStack(read_volume(file.image)))

    def _corrections(self, pipeline: Pipeline | None, patients: Sequence[str]) -> dict[str, int]:
        return {file.study: self._corrected(pipeline, file) for patient in patients for file in self.patients[patient]}

    def _corrected(self, pipeline: Pipeline | None, file: StudyFile) -> int:
        """Voxels where the mask for a tight box differs from the expert label; without a model, all that has to be drawn."""
        volume = read_volume(file.image)
        truth = read_label(file.label, volume)
        tight = Box.around(truth > 0)
        if pipeline is None or tight is None:
            return int(np.count_nonzero(truth))
        return int(np.count_nonzero(pipeline.predict(volume, Request((tight,), "roi")).mask != truth))


def _stored(out: Path, budget: dict[str, Any], patients: Collection[str]) -> list[dict[str, Any]]:
    """The rows in ``out``; a ValueError where they are no simulation of ``budget`` on ``patients``."""
    try:
        stored = json.loads(out.read_text())
        rows: list[dict[str, Any]] = stored["rows"]
        same = stored["budget"] == budget and all(set(row.get("patients", ())) <= set(patients) for row in rows)
    except (ValueError, KeyError, TypeError, AttributeError):
        same = False
    if not same:
        raise ValueError(f"{out} is not a simulation of this budget and split: give what it was begun with, or another file.")
    return rows


def _rank(seed: int, number: int, patient: str) -> str:
    return sha256(f"{seed}:{number}:{patient}".encode()).hexdigest()


if __name__ == "__main__":
    typer.run(main)
