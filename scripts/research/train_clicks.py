"""Train the network behind a click with simulated labellers, on the training patients and what the default network makes of them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import torch
import typer
from tqdm import tqdm

from prato.data.atomic import make_folder
from prato.data.cases import TrainingCase, load_training_case
from prato.data.studies.folder import find_labelled_studies
from prato.data.studies.splits import load_split
from prato.models.checkpoint import load_model, model_preset, save_model
from prato.models.registry import DEFAULT_MODEL
from prato.training.click_bank import ClickBank
from prato.training.click_trainer import ClickRecipe, ClickTrainer
from scripts.common.model_files import model_file
from scripts.common.paths import ACDC_SPLIT, check_writable
from scripts.common.provenance import command, commit
from scripts.common.refusals import refuses_in_one_sentence

#: Of everything random.
_SEED = 0


@refuses_in_one_sentence
def main(
    studies: Annotated[Path, typer.Option(help="ACDC as scripts/import_acdc.py makes it.")],
    out: Annotated[Path, typer.Option(help="Folder of the bank, the state and the model; a stopped training resumes.")] = Path(
        "out/clicks"
    ),
    steps: Annotated[int, typer.Option(min=1, help="Steps of twelve clicks each; about three a second on one CPU thread.")] = 18_000,
) -> None:
    """Writes ``click_refiner.safetensors``."""
    check_writable(out, is_folder=True)
    spec = model_preset("click_refiner")
    torch.manual_seed(_SEED)
    bank = _bank(studies, out / "bank.npz", spec.pixel)
    network = spec.build()
    trainer = ClickTrainer(network, bank, ClickRecipe(steps, edge=spec.window, seed=_SEED))
    with tqdm(total=steps, unit="step", mininterval=10.0) as bar:

        def report(now: ClickTrainer) -> None:
            bar.update(now.step - bar.n)
            bar.set_postfix(loss=f"{now.loss:.4f}", refresh=False)

        trainer.fit(out / "state.pt", report)
    network.load_state_dict(trainer.averaged)
    about = {"seed": _SEED, "steps": trainer.step, "seconds": round(trainer.spent), "slices": len(bank.images)}
    made = {**about, "commit": commit(), "command": command()}
    save_model(out / "click_refiner.safetensors", network, spec.model_copy(update={"training": made}))


def _bank(studies: Path, path: Path, pixel: float) -> ClickBank:
    """The bank at ``path``, made now where it is not there yet."""
    if path.exists():
        return ClickBank.load(path)
    training = {*load_split(ACDC_SPLIT).train}
    files = [file for file in find_labelled_studies(studies) if file.patient in training]
    if not files:
        raise ValueError(
            f"{studies} has no labelled studies of the training patients of {ACDC_SPLIT}: labels belong in its folder labels/final."
        )
    read = (load_training_case(file, pixel) for file in tqdm(files, desc="studies"))
    cases: list[TrainingCase] = [case for case in read if case is not None]
    network, known, _ = load_model(model_file(DEFAULT_MODEL))
    with tqdm(total=len(cases), desc="drafts") as bar:
        bank = ClickBank.from_cases(cases, network, known.pruning_plan(), _SEED, on_case=bar.update)
    make_folder(path.parent)
    bank.save(path)
    return bank


if __name__ == "__main__":
    typer.run(main)
