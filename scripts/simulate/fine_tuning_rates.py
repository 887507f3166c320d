"""What the default network learns and forgets in a round of retraining: at the rate that the round chooses, and at the full one.

Some validation patients, whom the network has never seen, are what labellers corrected: as they are, with half the contrast and a bias
field, with their contrast inverted, or generated hearts. Others of the same kind measure what was learned, others as they are what was
forgotten.

    python scripts/simulate/fine_tuning_rates.py --studies out/acdc --out docs/results/fine_tuning_rates.csv
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import fmean
from typing import Annotated

import numpy as np
import torch
import typer
from tqdm import tqdm

from prato.data.cases import TrainingCase, load_training_case
from prato.data.nifti import read_volume, write_volume
from prato.data.studies.folder import StudyFile, find_labelled_studies
from prato.data.studies.splits import load_split
from prato.models.checkpoint import load_model, read_spec, save_model
from prato.models.registry import DEFAULT_MODEL
from prato.phantom.frames import make_phantoms
from prato.retraining.comparison import measure_dice
from prato.training.fine_tuning import LEARNING_RATE, FineTuning, TrainingParameters, choose_rate, fine_tune
from prato.training.progress import TrainingProgress
from scripts.common.arguments import MAX_SEED
from scripts.common.model_files import model_file
from scripts.common.paths import ACDC_SPLIT
from scripts.common.provenance import origin
from scripts.common.refusals import checked_table, refuses_in_one_sentence
from scripts.common.results import Row, replace_rows

#: Patients that are trained on, and as many that measure each, at most.
_PATIENTS = 6


def _uneven(array: np.ndarray) -> np.ndarray:
    """Square root of the grey values, and a bias field of half their size along the first axis."""
    high = np.percentile(array, 99.5)
    field = np.linspace(0.5, 1.5, array.shape[0])[:, None, None]
    return np.sqrt(np.clip(array, 0, high) / high) * high * field


#: What makes the new hearts of old ones; None for generated ones.
KINDS: dict[str, Callable[[np.ndarray], np.ndarray] | None] = {
    "as they are": lambda array: array,
    "uneven": _uneven,
    "inverted": lambda array: array.max() - array,
    "generated": None,
}


@refuses_in_one_sentence
def main(
    studies: Annotated[Path, typer.Option(help="ACDC as scripts/import_acdc.py makes it.")],
    out: Annotated[Path, typer.Option(callback=checked_table, help="The CSV file to write; rows of other kinds and seeds in it stay.")],
    kind: Annotated[list[str], typer.Option(help=f"One of {', '.join(KINDS)}; several may be given.")] = list(KINDS),  # noqa: B006
    steps: Annotated[int, typer.Option(min=1, help="Steps of each training.")] = 120,
    seed: Annotated[int, typer.Option(min=0, max=MAX_SEED, help="Seed of everything random.")] = 1,
) -> None:
    """Measure Dice on new and on old patients, before and after training at either rate."""
    torch.set_num_threads(1)
    about = {"model": DEFAULT_MODEL, "steps": steps}
    made = {"threads": 1, "seed": seed, **origin()}
    if unknown := [name for name in kind if name not in KINDS]:
        raise ValueError(f"--kind must be one of {', '.join(KINDS)}, not {unknown[0]!r}.")
    held_out = load_split(ACDC_SPLIT).validation
    files = [file for file in find_labelled_studies(studies) if file.patient in held_out]
    if len({file.patient for file in files}) < 2 * _PATIENTS:
        raise ValueError(f"{studies} holds too few of the validation patients of {ACDC_SPLIT.name}: import all of ACDC.")
    with tempfile.TemporaryDirectory() as folder:
        for name in kind:
            rows = _measure_kind(name, files, Path(folder) / name.replace(" ", "_"), steps, seed)
            replace_rows(out, [{"hearts": name, **about, **row, **made} for row in rows], ("hearts", "seed", "steps"))


def _measure_kind(kind: str, files: Sequence[StudyFile], folder: Path, steps: int, seed: int) -> list[Row]:
    folder.mkdir()
    old_people = sorted({file.patient for file in files})[_PATIENTS : 2 * _PATIENTS]
    old = [file for file in files if file.patient in old_people]
    new = _make_new(kind, files, folder, seed)
    people = sorted({file.patient for file in new})
    learned, judged = ([file for file in new if file.patient in side] for side in (people[:_PATIENTS], people[_PATIENTS:]))
    start = model_file(DEFAULT_MODEL)
    spec = read_spec(start)
    cases = [case for file in learned if (case := load_training_case(file, spec.pixel))]

    def dice(path: Path) -> dict[str, float]:
        sides = {"new": judged, "old": old}
        return {
            name: round(fmean(row["mean"] for row in measure_dice(path, side, "cpu", lambda: None).values()), 4)
            for name, side in sides.items()
        }

    who = {"patients": {"trained": len(people[:_PATIENTS]), "new": len(people[_PATIENTS:]), "old": len(old_people)}}
    rows: list[Row] = [{"rate of": "no training", "dice": dice(start), **who}]
    chosen = choose_rate(load_model(start)[0], spec, cases, "cpu")
    for name, rate in {"the round": chosen, "the full rate": LEARNING_RATE}.items():
        if name == "the round" or rate != chosen:
            candidate = _train(start, cases, rate, steps, seed, folder)
            rows.append({"rate of": name, "rate": rate, "dice": dice(candidate), **who})
            typer.echo(f"{kind}, {name} ({rate:.1e}): {rows[0]['dice']} -> {rows[-1]['dice']}")
    return rows


def _train(start: Path, cases: Sequence[TrainingCase], rate: float, steps: int, seed: int, folder: Path) -> Path:
    """The model that a round would make of ``start``."""
    network, spec, _ = load_model(start)
    parameters = TrainingParameters(max_epochs=10_000, max_steps=steps, seed=seed)
    progress = TrainingProgress(folder / "stats.json", 1, steps, 0.0)
    with tqdm(total=steps, desc=f"{folder.name}, {rate:.1e}", unit="step", mininterval=1.0) as bar:

        def advance() -> bool:
            bar.update()
            return True

        job = FineTuning(spec, parameters, cases, cases[:1], rate, progress, folder / "state.pt", should_continue=advance)
        trained = fine_tune(network, job)
    (folder / "state.pt").unlink(missing_ok=True)
    candidate = folder / "candidate.safetensors"
    save_model(candidate, trained, spec)
    return candidate


def _make_new(kind: str, files: Sequence[StudyFile], folder: Path, seed: int) -> list[StudyFile]:
    """The studies of ``2 * _PATIENTS`` patients of this kind, those that are trained on first."""
    change = KINDS[kind]
    if change is None:
        make_phantoms(folder / "new", 2 * _PATIENTS, seed)
        return find_labelled_studies(folder / "new")
    made, people = [], sorted({file.patient for file in files})[: 2 * _PATIENTS]
    for file in (each for each in files if each.patient in people):
        volume = read_volume(file.image)
        path = folder / file.image.name
        write_volume(path, change(volume.array.astype(np.float32)), volume.affine)
        made.append(StudyFile(file.study, file.patient, path, file.label))
    return made


if __name__ == "__main__":
    typer.run(main)
