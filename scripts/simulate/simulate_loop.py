"""The labelling loop with an oracle in the labeller's place: how soon is a model good, and how much is left to correct, by strategy?

Patients of the shipped models' training side are labelled two a round, by their expert labels. A small network that was taught on
generated hearts, and has seen no patient, is trained further in each round, on all that is labelled by then, for so many steps a labelled
patient; it is measured on fixed validation patients, and it chooses which patients come next. How many voxels the oracle then has to
change in that model's masks is what a round cost.
The model "all" is trained from the same beginning for as many steps as all rounds together, on everybody: the goal.
The shipped overview network proposes boxes to the strategies; it has seen these patients, and segments nothing here.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from pathlib import Path
from statistics import fmean
from typing import Annotated, Any

import torch
import typer
from tqdm import tqdm

from prato.acquisition.phases import find_pairs
from prato.data.studies.folder import find_labelled_studies, load_manifest
from prato.data.studies.splits import load_split
from prato.inference.predictor import Predictor
from prato.models.registry import list_presets
from scripts.common.arguments import MAX_SEED
from scripts.common.model_files import locator_file
from scripts.common.paths import ACDC_SPLIT
from scripts.common.provenance import origin
from scripts.common.refusals import checked_table, refuses_in_one_sentence
from scripts.simulate.learner import BATCH, FRESH, FURTHER, PIXEL, WINDOW, Learner
from scripts.simulate.oracle import Oracle, mean_dice
from scripts.simulate.rows import Row, Rows
from scripts.simulate.strategies import A_ROUND, Strategy, choose_patients, shuffle


@refuses_in_one_sentence
def main(
    studies: Annotated[Path, typer.Option(help="ACDC as scripts/import_acdc.py makes it.")],
    out: Annotated[
        Path, typer.Option(callback=checked_table, help="The CSV file to write; an existing one is continued. Networks are kept beside it.")
    ],
    strategy: Annotated[list[Strategy], typer.Option(help="Several may be given.")] = list(Strategy),  # noqa: B006
    seed: Annotated[list[int], typer.Option(min=0, max=MAX_SEED, help="Several may be given.")] = [0],  # noqa: B006
    dense: Annotated[bool, typer.Option("--dense", help="Train without pruning instead.")] = False,
    goal: Annotated[bool, typer.Option(help="Also train a network on all patients.")] = True,
    network: Annotated[str, typer.Option(help=f"One of {', '.join(list_presets())}.")] = "swin_unetr",
    rounds: Annotated[int, typer.Option(min=2, help="Rounds of training of each strategy.")] = 10,
    phantoms: Annotated[int, typer.Option(min=1, help="Generated patients that the network is trained on before the first round.")] = 40,
    taught: Annotated[int, typer.Option(min=1, help="Steps of that first training.")] = 1500,
    steps: Annotated[int, typer.Option(min=1, help="Steps of each training, for every labelled patient.")] = 8,
    sample: Annotated[int, typer.Option(min=A_ROUND, help="Unlabelled patients that are scored in each round.")] = 8,
    validation: Annotated[int, typer.Option(min=1, help="Validation patients that are measured.")] = 10,
    split: Annotated[Path, typer.Option(help="Split file: who may be labelled, and who is measured.")] = ACDC_SPLIT,
    threads: Annotated[int, typer.Option(min=1, help="CPU threads.")] = 1,
) -> None:
    """Measure Dice and corrected voxels against labelled patients, row by row."""
    torch.set_num_threads(threads)
    trained = {"taught_steps": taught, "phantoms": phantoms, "steps_a_patient": steps, "rounds": rounds, "batch": BATCH}
    looked = {"rates": [FRESH, FURTHER], "sample": sample, "validation_patients": validation}
    budget = {"network": network, "pixel": PIXEL, "window": WINDOW, **trained, **looked}
    if network not in list_presets():
        raise ValueError(f"--network must be one of {', '.join(list_presets())}, not {network}.")
    if dense and Strategy.coverage in strategy:
        raise ValueError("The strategy coverage needs a network that prunes: leave out --dense, or choose other strategies.")
    loop = _Loop(studies, out, split, budget)
    with tqdm(total=len(seed) * (len(strategy) * rounds + goal), unit="training", desc="trainings") as bar:
        for one_seed in seed:
            for each in strategy:
                loop.run(each, one_seed, not dense, bar)
            if goal:
                loop.everybody(one_seed, not dense)
                bar.update()


class _Loop:
    """What all runs share.

    Raises:
        ValueError: ``out`` holds another simulation or none, or ``studies`` lacks patients of the split.
    """

    def __init__(self, studies: Path, out: Path, split_file: Path, budget: dict[str, Any]) -> None:
        split = load_split(split_file)
        files = find_labelled_studies(studies)
        self.patients = {p: [f for f in files if f.patient == p] for p in split.train}
        self.measured = [f.study for f in files if f.patient in split.validation[: budget["validation_patients"]]]
        if not self.measured or not all(self.patients.values()):
            raise ValueError(f"{studies} does not hold labelled studies of all patients in {split_file.name}: import all of ACDC.")
        self.pairs = find_pairs([f.study for f in files], load_manifest(studies))
        self.rows = Rows(out, budget, self.patients, {"threads": torch.get_num_threads(), **origin()})
        self.models, self.budget = out.with_suffix(""), budget
        self.learner, self.oracle = Learner(budget["network"]), Oracle(files)

    def everybody(self, seed: int, pruned: bool) -> None:
        """The row of the model that is trained on all patients."""
        if not self.rows.of("all", seed, pruned):
            about = {"strategy": "all", "seed": seed, "pruned": pruned, "labelled_patients": len(self.patients)}
            model, seconds = self._train("all", None, self._teach(pruned), list(self.patients), seed, pruned)
            self.rows.append({**about, **self._validate(Predictor.from_files(model, locator_file())), "seconds": {"train": seconds}})

    def run(self, strategy: Strategy, seed: int, pruned: bool, bar: tqdm) -> None:
        """The rows of one strategy, those that are there already left out."""
        done = self.rows.of(strategy.value, seed, pruned)
        labelled = [patient for row in done[-1:] for patient in row["patients"]]
        new = done[-1]["next"] if done else shuffle(self.patients, seed, 0)[:A_ROUND]
        if done:
            cost = done[-1].get("next_corrected")  # a run's last round has none: nobody is corrected after it
        else:
            cost = self._count_corrected(Predictor.from_files(self._teach(pruned), locator_file()), new)
        bar.update(len(done))
        for _ in range(len(done), self.budget["rounds"]):
            if not new:
                break  # everybody is labelled
            labelled = [*labelled, *new]
            after = self._round(strategy, seed, pruned, labelled)
            about = {"strategy": strategy.value, "seed": seed, "pruned": pruned, "labelled_patients": len(labelled), "patients": labelled}
            self.rows.append({**about, "corrected": cost, **after})
            new, cost = after["next"], after.get("next_corrected")
            bar.update()

    def _round(self, strategy: Strategy, seed: int, pruned: bool, labelled: list[str]) -> Row:
        """Train on ``labelled``, measure, choose who comes next, and count what they will cost."""
        model, seconds = self._teach(pruned), 0.0
        for number in range(A_ROUND, len(labelled) + A_ROUND, A_ROUND):  # those before are on disk
            model, seconds = self._train(strategy.value, number, model, labelled[:number], seed, pruned)
        predictor, start = Predictor.from_files(model, locator_file()), time.perf_counter()
        measured = self._validate(predictor)
        evaluated = time.perf_counter()
        left = shuffle(set(self.patients) - set(labelled), seed, len(labelled))
        new = choose_patients(predictor, strategy, left, labelled, self.budget["sample"], self.oracle, self.pairs) if left else []
        took = {"train": seconds, "evaluate": round(evaluated - start, 1), "choose": round(time.perf_counter() - evaluated, 1)}
        last = len(labelled) >= A_ROUND * self.budget["rounds"]
        counted = self._count_corrected(predictor, left if last else new)
        return {**measured, "seconds": took, "next": new, "unlabelled" if last else "next_corrected": counted}

    def _teach(self, pruned: bool) -> Path:
        """The model file that every run begins with."""
        made = self.models / f"taught_{'pruned' if pruned else 'dense'}.safetensors"
        self.learner.teach(self.models / "phantoms", self.budget["phantoms"], made, self.budget["taught_steps"], pruned)
        return made

    def _train(self, strategy: str, labelled: int | None, start: Path, patients: list[str], seed: int, pruned: bool) -> tuple[Path, float]:
        """The model file of a round, see :func:`model_name`: ``start`` trained further on ``patients``; and the seconds that this took."""
        made = self.models / model_name(strategy, labelled, seed, pruned)
        rounds, people = self.budget["rounds"], len(patients)
        steps = self.budget["steps_a_patient"] * (A_ROUND * rounds * (rounds + 1) // 2 if labelled is None else people)
        files = [file for patient in patients for file in self.patients[patient]]
        return made, self.learner.train(files, start, made, steps, seed * 1000 + people, pruned)

    def _count_corrected(self, predictor: Predictor, patients: Iterable[str]) -> dict[str, int]:
        """Of ``patients``: studies, voxels that the oracle has to change in what ``predictor`` makes of them, and their hearts' voxels."""
        studies = [file.study for patient in patients for file in self.patients[patient]]
        changed = sum(self.oracle.verdict(predictor, study).changed for study in studies)
        return {"studies": len(studies), "voxels": changed, "heart_voxels": sum(map(self.oracle.drawn, studies))}

    def _validate(self, predictor: Predictor) -> Row:
        """What ``predictor`` reaches on the validation patients."""
        verdicts = [self.oracle.verdict(predictor, study) for study in self.measured]
        dice = mean_dice(verdicts)
        return {"dice": dice.pop("mean"), "dice_by_structure": dice, "validation_voxels": round(fmean(v.changed for v in verdicts))}


def model_name(strategy: str, labelled: int | None, seed: int, pruned: bool) -> str:
    """The file of the model of a round with so many ``labelled`` patients; the first round is every strategy's, "all" has no rounds."""
    name = strategy if labelled is None else "first" if labelled == A_ROUND else f"{strategy}_{labelled}"
    return f"{name}_seed{seed}_{'pruned' if pruned else 'dense'}.safetensors"


if __name__ == "__main__":
    typer.run(main)
