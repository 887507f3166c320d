"""Train a network on the labelled studies of a folder; a killed run resumes where it stopped when started again.

``torchrun --nproc-per-node N scripts/train.py ...`` trains with N processes, one a GPU: the same result but for rounding.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence, Set
from contextlib import ExitStack, contextmanager
from enum import Enum
from importlib.util import find_spec
from inspect import signature
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from tqdm import tqdm

from prato.data.atomic import first_line
from prato.data.cases import TrainingCase, load_training_cases
from prato.data.studies.folder import StudyFile, find_labelled_studies, load_manifest
from prato.data.studies.splits import Split, load_split, save_split, split_patients
from prato.labelling.trusted import find_trusted_phases
from prato.models.base import PrunableNetwork
from prato.models.checkpoint import ModelSpec, load_model, model_preset, save_model
from prato.models.convert_state_dict import convert_state_dict
from prato.models.registry import list_presets, model_class
from prato.pruning.plan import PruningPlan
from prato.training.distributed import ALONE, init_ranks
from prato.training.trainer import Budget, Settings, Trainer
from scripts.common.arguments import MAX_SEED
from scripts.common.model_files import TRAINED_NAME
from scripts.common.paths import check_writable, folder_held
from scripts.common.provenance import command, commit
from scripts.common.tables import shorten_list
from scripts.common.validation_curve import ValidationCurve


class Choose(str, Enum):
    """What decides which tokens stay."""

    relevance = "relevance"
    random = "random"


def main(
    studies: Annotated[Path, typer.Option(help="Studies folder with labels/final, as scripts/import_acdc.py makes it.")],
    out: Annotated[Path, typer.Option(help="Folder of the run: model.safetensors, curve.csv, split.json, state.pt.")],
    network: Annotated[str, typer.Option(help=f"One of {', '.join(list_presets())}.")] = "unetr",
    dense: Annotated[bool, typer.Option("--dense", help="Train without pruning.")] = False,
    percentile: Annotated[
        float | None, typer.Option(help="Percent of the remaining tokens dropped at each stage; by default the network's own.")
    ] = None,
    after: Annotated[
        list[int], typer.Option(help="Blocks or stages after which tokens are dropped, counted from 1; by default the network's own.")
    ] = [],  # noqa: B006
    choose: Annotated[Choose, typer.Option(help="Tokens stay by their relevance to the box, or at random.")] = Choose.relevance,
    margin: Annotated[float | None, typer.Option(help="Stage 0: drop tokens farther than this many pixels from the box first.")] = None,
    boxed: Annotated[bool, typer.Option("--boxed", help="Never drop a token that the box touches.")] = False,
    whole_slices: Annotated[
        int | None, typer.Option(help="Train on windows of this many pixels around the middle of the image instead of the box.")
    ] = None,
    start_from: Annotated[Path | None, typer.Option(help="Model file of the same network, to go on from its weights.")] = None,
    dense_first: Annotated[
        float,
        typer.Option(min=0, max=1, help="Fraction of the budget, from the start, in which no token is dropped; for training from scratch."),
    ] = 0.0,
    minutes: Annotated[float | None, typer.Option(help="Budget in minutes of training time.")] = None,
    epochs: Annotated[float | None, typer.Option(help="Budget in passes over the slices of the training patients.")] = None,
    seed: Annotated[int, typer.Option(min=0, max=MAX_SEED, help="Seed of everything random.")] = 0,
    device: Annotated[str, typer.Option(help="cpu, cuda or cuda:N; by default cuda where there is one.")] = "",
    threads: Annotated[int, typer.Option(min=0, help="CPU threads; 0 leaves it to torch.")] = 0,
    workers: Annotated[int, typer.Option(min=0, help="Processes that prepare samples, for each training process.")] = 0,
    batch: Annotated[int, typer.Option(min=1, help="Slices per step.")] = 8,
    rate: Annotated[float, typer.Option(help="Peak learning rate of AdamW.")] = 1e-3,
    split: Annotated[
        Path | None, typer.Option(help="Split file by patient; by default 80:20, seeded, written to the run's folder.")
    ] = None,
    tensorboard: Annotated[
        bool, typer.Option("--tensorboard", help="Also write TensorBoard events (needs the tensorboard package).")
    ] = False,
) -> None:
    """Train a PrATo network (or, with --dense, the same network without pruning) and write the model with its validation curve."""
    ranks, held = ALONE, ExitStack()
    try:
        if threads:
            torch.set_num_threads(threads)
        ranks, where = init_ranks(device)
        with ranks.share_errors():  # all read before the first of them writes
            check_writable(out, is_folder=True)
            _check_numbers(epochs, minutes, rate)
            if dense and dense_first:
                raise ValueError("--dense trains without pruning, so --dense-first has no effect: leave one of them out.")
            if tensorboard and find_spec("tensorboard") is None:
                raise ValueError("--tensorboard needs the tensorboard package: install it, or leave --tensorboard out.")
            spec = _spec(network, tuple(after), whole_slices)
            options = {"percentile": percentile, "after": tuple(after), "margin": margin, "boxed": boxed, "choose": choose.value}
            plan = _plan(spec, dense, options)
            torch.manual_seed(seed)
            built, started_from, start = _network(spec, start_from)
            assigned = _split(studies, out / "split.json", split, seed)
            run = {"network": spec.network, "arguments": spec.arguments, "started_from": started_from, "split": assigned.model_dump()}
            settings = Settings(batch, rate, spec.window, seed, workers, spec.centre, dense_first=dense_first)
            trainer = Trainer(built, plan, settings, where, run, ranks)
            trainer.resume(out / "state.pt")
            files = find_trusted_phases(find_labelled_studies(studies))[0]
            loaded = _load([f for f in files if f.patient in {*assigned.train, *assigned.validation}], spec.pixel, ranks.is_first)
            training = [case for case in loaded if case.patient in assigned.train]
            validation = [case for case in loaded if case.patient in assigned.validation]
            _check_sides(studies, assigned, loaded, {f.patient for f in files}, ranks.is_first)
            slices = sum(c.slices[1] - c.slices[0] for c in training)
            budget = Budget(steps=None if epochs is None else max(1, round(epochs * slices / batch)), minutes=minutes)
            if ranks.is_first:
                held.enter_context(folder_held(out))
        ranks.check_same_weights(trainer.network, trainer.step)
        made_by = commit()  # of the code that trains, not of what the checkout holds when it is done
        made = {"training": out.name, "seed": seed, "device": str(where), "commit": made_by, "command": command()}
        curve = ValidationCurve(out, trainer, budget, validation, slices / batch, tensorboard, made) if ranks.is_first else None
        if curve:
            save_split(out / "split.json", assigned)
    except (ValueError, RuntimeError, OSError) as error:
        if ranks.is_first:
            typer.echo(first_line(error), err=True)
        raise typer.Exit(2) from None
    with held, _told_if_stopped(out):
        trainer.fit(training, budget, curve or (lambda _: True), state_file=out / "state.pt")
        ranks.close()
        if curve is None:
            return
        curve.close()
        details = {
            "seed": seed,
            "steps": trainer.step,
            "training_minutes": round(trainer.seconds / 60, 1),
            "device": str(where),
            "processes": ranks.size,
            "dense": dense,
            "dense_first": dense_first,
            "started_from": started_from,
            "start": start,
            "patients": {"train": len({c.patient for c in training}), "validation": len({c.patient for c in validation})},
            "command": command(),
            "commit": made_by,
        }
        version = save_model(out / TRAINED_NAME, trainer.averaged, spec.with_plan(plan).model_copy(update={"training": details}))
    typer.echo(f"model {version}: {out / TRAINED_NAME}")


def _check_numbers(epochs: float | None, minutes: float | None, rate: float) -> None:
    amount = (epochs if minutes is None else minutes) or 0.0
    if (epochs is None) == (minutes is None) or not 0 < amount < math.inf:
        raise ValueError("Give a training budget, either --epochs or --minutes, above zero and finite.")
    if not 0 < rate < 1:
        raise ValueError(f"--rate must lie between 0 and 1, not {rate}.")


def _spec(network: str, after: tuple[int, ...], whole_slices: int | None) -> ModelSpec:
    """The preset of ``network``, able to prune ``after`` other stages and to see whole slices."""
    if network not in list_presets():
        raise ValueError(f"--network must be one of {', '.join(list_presets())}, not {network}.")
    preset = model_preset(network)
    arguments, changed = dict(preset.arguments), {}
    if after:
        if "stages" not in signature(model_class(network)).parameters:
            raise ValueError(f"--after is not for {network}, whose constructor has no argument stages: leave it out.")
        arguments["stages"] = after
    if whole_slices is not None:
        if whole_slices < 32 or whole_slices % 32:
            raise ValueError(f"--whole-slices must be a multiple of 32 pixels, such as 192, not {whole_slices}.")
        changed = {"window": whole_slices, "centre": "image"}
        if "img_size" in arguments:
            arguments["img_size"] = whole_slices
    return preset.model_copy(update={"arguments": arguments, **changed})


def _plan(spec: ModelSpec, dense: bool, options: dict[str, Any]) -> PruningPlan | None:
    plan = spec.pruning_plan()
    given: dict[str, Any] = {name: value for name, value in options.items() if value not in (None, (), False, "relevance")}
    if "percentile" in given:
        given["threshold"] = None
    if dense and given:
        raise ValueError(f"--dense trains without pruning, so --{next(iter(given))} has no effect: leave one of them out.")
    if dense or plan is None:
        return None
    return PruningPlan.from_dict({**plan.to_dict(), **given})


def _network(spec: ModelSpec, start_from: Path | None) -> tuple[PrunableNetwork, str | None, dict[str, Any] | None]:
    """The network to train, the version of the model file that its weights are from and how that was trained; None for fresh weights."""
    if start_from is None:
        return spec.build(), None, None
    source, found, version = load_model(start_from)
    if found.network != spec.network:
        raise ValueError(f"{start_from} holds a {found.network}, not a {spec.network}: start from a model file of the same network.")
    network = spec.build()
    try:
        network.load_state_dict(convert_state_dict(source.state_dict(), network))
    except RuntimeError:
        raise ValueError(f"{start_from} holds a {spec.network} of another size: start from a model file of the same network.") from None
    return network, version, found.training


def _split(studies: Path, written: Path, given: Path | None, seed: int) -> Split:
    """The split ``given``, the one that the run has ``written`` before, or a fresh one."""
    before = load_split(written) if written.exists() else None
    if given is not None:
        assigned = load_split(given)
        if before is not None and before != assigned:
            raise ValueError(f"{given} is not the split that this run began with ({written}): leave it out, or train in another folder.")
        return assigned
    if before is not None:
        return before
    manifest = load_manifest(studies)
    groups = {s.patient: s.group for s in manifest.studies.values()} if manifest else {}
    patients = {f.patient for f in find_trusted_phases(find_labelled_studies(studies))[0]}
    if len(patients) < 2:
        raise ValueError(f"{studies} has labels of {len(patients) or 'no'} patient, in its folder labels/final: training needs two.")
    return split_patients(patients, 0.2, seed, groups)


def _check_sides(studies: Path, split: Split, loaded: Sequence[TrainingCase], labelled: Set[str], shown: bool) -> None:
    """Say which patients of the split have nothing here to train or measure on, for it may be the split of another folder, and which of the
    ``labelled`` ones are on neither side, for they may have been labelled since it was made."""
    there = {case.patient for case in loaded}
    sides = {"training": split.train, "validation": split.validation}
    if not all(there.intersection(patients) for patients in sides.values()):
        raise ValueError(f"{studies} has no labelled studies for one side of the split: both training and validation need some.")
    for side, patients in sides.items():
        missing = [patient for patient in patients if patient not in there]
        if missing and shown:
            typer.echo(
                f"{studies} has no usable label of {len(missing)} of the split's {len(patients)} {side} patients: {shorten_list(missing)}.",
                err=True,
            )
    unused = split.find_unassigned(labelled)
    if unused and shown:
        typer.echo(
            f"Labelled patients who are on neither side of the split are not used ({len(unused)}): {shorten_list(unused)}.", err=True
        )


@contextmanager
def _told_if_stopped(out: Path) -> Iterator[None]:
    """A disk that is full, or gone, in the middle of a training is told of in a sentence; what is stored already serves to go on."""
    try:
        yield
    except OSError as error:
        typer.echo(f"{first_line(error)}; when that is fixed, the same command resumes from what is stored in {out}.", err=True)
        raise typer.Exit(1) from None


def _load(files: Sequence[StudyFile], pixel: float, shown: bool) -> list[TrainingCase]:
    shown_files = tqdm(files, desc="loading", unit="study", mininterval=1.0, disable=not shown)
    cases, left_out = load_training_cases(shown_files, pixel)
    for study, reason in left_out.items() if shown else ():
        typer.echo(f"{study} is left out: {reason}", err=True)
    return [case for _, case in cases]


if __name__ == "__main__":
    typer.run(main)
