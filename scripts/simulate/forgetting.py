"""What retraining forgets: a shipped model fine-tuned on hearts of another kind, and what each remedy keeps of the old ones.

The new kind are patients of the base model's own validation side with their contrast inverted, or generated hearts; some are trained on,
others measured. The base set are further validation patients as they are. No patient of either set was ever trained on by the base model.
"""

from __future__ import annotations

import copy
import tempfile
from collections.abc import Callable, Sequence
from enum import Enum
from pathlib import Path
from statistics import fmean
from typing import Annotated

import torch
import torch.nn.functional as F
import typer
from rich.table import Table
from torch import Tensor
from tqdm import tqdm

from prato.data.cases import load_training_case
from prato.data.nifti import read_volume, write_volume
from prato.data.studies.folder import StudyFile, find_labelled_studies
from prato.data.studies.splits import load_split
from prato.evaluation.evaluate import evaluate_cases
from prato.inference.predictor import Predictor
from prato.models.checkpoint import load_model, read_spec, save_model
from prato.phantom.frames import make_phantoms
from prato.prompts.batch import PromptBatch
from prato.pruning.record import PrunedOutput
from prato.training.fine_tuning import BATCH_SIZE, LEARNING_RATE, FrozenBatchNormTrainer, blend
from prato.training.trainer import Budget, Settings, Trainer
from scripts.common.model_files import model_file
from scripts.common.paths import ACDC_SPLIT
from scripts.common.provenance import origin
from scripts.common.refusals import checked_table, refuses_in_one_sentence
from scripts.common.results import Row, replace_rows
from scripts.common.tables import print_table

#: New patients that are trained on, and as many that are measured; base patients that are measured.
_NEW, _BASE = 3, 6


class Kind(str, Enum):
    """What the new hearts are."""

    inverted = "inverted"
    phantom = "phantom"


class _Anchored(Trainer):
    """L2-SP: a quadratic pull towards the weights that it started from (Li et al., ICML 2018)."""

    pull = 0.05

    def set_train_mode(self) -> None:
        super().set_train_mode()
        if not hasattr(self, "start"):
            self.start = [p.detach().clone() for p in self.network.parameters()]

    def compute_loss(self, output: PrunedOutput, label: Tensor, image: Tensor, prompts: PromptBatch) -> Tensor:
        loss = super().compute_loss(output, label, image, prompts)
        away = torch.stack([(p - s).square().sum() for p, s in zip(self.network.parameters(), self.start)]).sum()
        return loss + 0.5 * self.pull * away


class _Distilled(Trainer):
    """The answers of the model as it was, on the new images, are half of what is learnt (Li and Hoiem, ECCV 2016)."""

    def set_train_mode(self) -> None:
        super().set_train_mode()
        if not hasattr(self, "teacher"):
            self.teacher = copy.deepcopy(self.network).eval()

    def compute_loss(self, output: PrunedOutput, label: Tensor, image: Tensor, prompts: PromptBatch) -> Tensor:
        with torch.no_grad():
            wanted = self.teacher.segment(image, prompts, self.plan).logits.float().softmax(1)
        kept = F.cross_entropy(output.logits, wanted)
        return super().compute_loss(output, label, image, prompts) + kept


class _FrozenDistilled(FrozenBatchNormTrainer, _Distilled):
    """Both."""


#: By name: how to train, and the peak rate. Of each, several blends with the old weights are measured.
_REMEDIES: dict[str, tuple[type[Trainer], float]] = {
    "none": (Trainer, LEARNING_RATE),
    "a third of the rate": (Trainer, LEARNING_RATE / 3),
    "L2-SP": (_Anchored, LEARNING_RATE),
    "frozen statistics": (FrozenBatchNormTrainer, LEARNING_RATE),
    "distillation": (_Distilled, LEARNING_RATE),
    "frozen statistics and distillation": (_FrozenDistilled, LEARNING_RATE),
}
_SHARES = (1.0, 0.75, 0.5, 0.25)


#: The shipped model that is fine-tuned, and how.
_MODEL, _STEPS, _SEED = "prato_swin_unetr", 120, 0


@refuses_in_one_sentence
def main(
    studies: Annotated[Path, typer.Option(help="ACDC as scripts/import_acdc.py makes it.")],
    out: Annotated[Path, typer.Option(callback=checked_table, help="The CSV file to write; rows of other kinds in it stay.")],
    kind: Annotated[Kind, typer.Option(help="What the new hearts are.")] = Kind.inverted,
) -> None:
    """Measure Dice on new and on base patients before and after each way to fine-tune."""
    torch.set_num_threads(1)
    made = {"threads": 1, "seed": _SEED, **origin()}
    held_out = load_split(ACDC_SPLIT).validation
    files = [f for f in find_labelled_studies(studies) if f.patient in held_out]
    if len({f.patient for f in files}) < 2 * _NEW + _BASE:
        raise ValueError(f"{studies} holds too few of the validation patients of {ACDC_SPLIT.name}: import all of ACDC.")
    base = [f for f in files if f.patient in held_out[:_BASE]]
    with tempfile.TemporaryDirectory() as folder:
        rows = _measure(base, _new(kind, files, held_out, Path(folder)), Path(folder))
    about = {"kind": kind.value, "model": _MODEL, "steps": _STEPS}
    replace_rows(out, [{**about, **row, **made} for row in rows], ("kind", "model", "seed"))
    _show(kind, rows)


def _new(kind: Kind, files: Sequence[StudyFile], patients: Sequence[str], folder: Path) -> list[StudyFile]:
    """The studies of ``2 * _NEW`` patients of the new kind."""
    if kind is Kind.phantom:
        make_phantoms(folder / "new", 2 * _NEW, _SEED)
        return find_labelled_studies(folder / "new")
    (folder / "new").mkdir()
    made = []
    for file in (f for f in files if f.patient in patients[_BASE : _BASE + 2 * _NEW]):
        volume = read_volume(file.image)
        path = folder / "new" / file.image.name
        write_volume(path, volume.array.max() - volume.array, volume.affine)
        made.append(StudyFile(file.study, file.patient, path, file.label))
    return made


def _measure(base: list[StudyFile], new: list[StudyFile], folder: Path) -> list[Row]:
    start = model_file(_MODEL)
    patients = sorted({f.patient for f in new})
    learnt, judged = ([f for f in new if f.patient in side] for side in (patients[:_NEW], patients[_NEW:]))
    spec = read_spec(start)
    cases = [case for f in learnt if (case := load_training_case(f, spec.pixel))]

    def dice(path: Path) -> dict[str, float]:
        predictor = Predictor.from_files(path)
        return {
            name: round(fmean(row["mean_dice"] for row in evaluate_cases(predictor, files)), 4)
            for name, files in (("new", judged), ("base", base))
        }

    who = {"new_trained": patients[:_NEW], "new_measured": patients[_NEW:], "base_measured": sorted({f.patient for f in base})}
    rows: list[Row] = [{"remedy": "before", "dice": dice(start), **who}]
    for name, (kind, rate) in _REMEDIES.items():
        network, _, _ = load_model(start)
        old = {key: value.clone() for key, value in network.state_dict().items()}
        torch.manual_seed(_SEED)
        trainer = kind(network, spec.pruning_plan(), Settings(BATCH_SIZE, rate, spec.window, _SEED), torch.device("cpu"))
        with tqdm(total=_STEPS, desc=name, unit="step", mininterval=1.0) as bar:
            tuned = trainer.fit(cases, Budget(steps=_STEPS), _advance(bar))
        end = {key: value.clone() for key, value in tuned.state_dict().items()}
        for share in _SHARES:
            tuned.load_state_dict(end)
            blend(old, tuned, share)
            candidate = folder / "candidate.safetensors"
            save_model(candidate, tuned, spec)
            rows.append({"remedy": name, "rate": rate, "share_of_new_weights": share, "dice": dice(candidate), **who})
    return rows


def _advance(bar: tqdm) -> Callable[[object], bool]:
    def step(_: object) -> bool:
        bar.update()
        return True

    return step


def _show(kind: Kind, rows: list[Row]) -> None:
    table = Table(title=f"Dice, {kind.value} hearts")
    for column in ("remedy", "new weights", "new hearts", "base hearts"):
        table.add_column(column)
    for row in rows:
        share = f"{row['share_of_new_weights']:.2f}" if "share_of_new_weights" in row else ""
        table.add_row(row["remedy"], share, *(f"{row['dice'][name]:.3f}" for name in ("new", "base")))
    print_table(table)


if __name__ == "__main__":
    typer.run(main)
