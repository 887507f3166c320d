"""Run as many of the wanted trainings as fit into the time given: on a GPU where there is one, else on the CPU; a killed run resumes.

    python scripts/research/train_queue.py --packed acdc.zip --split docs/results/acdc_split.json --out out/queue --minutes 30

On a machine that is lent for minutes, a training is done in pieces: ``--parts`` leaves its state in files of at most 16 MB, and ``--start``
names the folder in which what an earlier session left lies. Of trainings that have ended, it need hold ``curve.jsonl`` alone.

Needs torch, MONAI, numpy, Pillow and PyYAML alone, so that it runs on machines where nothing can be installed.
"""

from __future__ import annotations

import argparse
import json
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import asdict
from functools import cache, partial
from pathlib import Path
from typing import Any

import torch
import yaml

from prato.runtime.devices import default_device
from prato.training.slice_bank import SliceBank, load_packed
from prato.training.stack_trainer import Recipe, StackTrainer
from scripts.common.arguments import HelpFormatter, positive_float, positive_int, read_sides, refused_in_one_sentence
from scripts.common.paths import check_writable
from scripts.research.averaging import average_trainings, averaged_trainings
from scripts.research.paper_rows import RowLoss
from scripts.research.queue_networks import Judge, paper_row, start_network
from scripts.research.queue_state import join_state, split_state
from scripts.research.queue_weights import keep_weights, load_weights, read_points

#: What an entry says besides its recipe.
_NO_RECIPE = {"name", "network", "arguments", "promptings", "tokens", "experiment", "data", "row"} | {
    *("teacher", "start", "narrow", "mean_of", "frozen")
}
SIDES = ("train", "validation")
QUEUE = Path(__file__).parent / "training_queue" / "queue.yaml"


def entries(queue: Path) -> list[dict[str, Any]]:
    """The queue's entries, each with the defaults filled in; what else stands in the file is shared between them.

    Raises:
        ValueError: it is no queue. OSError: it cannot be read.
    """
    try:
        read = yaml.safe_load(queue.read_text(encoding="utf-8"))
        return [{**read["defaults"], **entry, "name": entry["name"]} for entry in read["entries"]]
    except (yaml.YAMLError, KeyError, TypeError):
        raise ValueError(f"{queue} is not a queue of trainings, with defaults and entries that have a name.") from None


def choose(queue: list[dict[str, Any]], data: str, only: list[str] | None) -> list[dict[str, Any]]:
    """The entries of a data set, those with the names in ``only`` alone where there are any; a ValueError where there is no such entry."""
    offered = [entry for entry in queue if entry.get("data", "acdc") == data]
    names = [entry["name"] for entry in offered]
    if not offered:
        raise ValueError(f"The queue has no training on {data}, only on {', '.join(sorted({each.get('data', 'acdc') for each in queue}))}.")
    if missing := [name for name in only or [] if name not in names]:
        raise ValueError(
            f"The queue has no training called {missing[0]} on {data}; it has {', '.join(names[:12])}{' …' if len(names) > 12 else ''}."
        )
    return [entry for entry in offered if not only or entry["name"] in only]


def recipe_of(entry: dict[str, Any], **override: Any) -> Recipe:
    """How ``entry`` is trained."""
    own = {name: value for name, value in entry.items() if name not in _NO_RECIPE}
    return Recipe(**{**own, **{name: value for name, value in override.items() if value is not None}})


def main() -> None:
    """Parse the command line and train."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=HelpFormatter)
    parser.add_argument("--packed", type=Path, required=True, help="file that prato.training.slice_bank.save_packed wrote")
    parser.add_argument("--split", type=Path, default=Path("docs/results/acdc_split.json"), help="patients for training and validation")
    parser.add_argument("--out", type=Path, default=Path("out/queue"), help="a folder of its own for each entry's curve, state and weights")
    parser.add_argument("--start", type=Path, help="an earlier --out, from which trainings resume")
    parser.add_argument("--parts", action="store_true", help="leave states in parts of at most 16 MB, in 16 bits")
    parser.add_argument("--queue", type=Path, default=QUEUE, help="the trainings that are wanted, a YAML or JSON file")
    parser.add_argument("--minutes", type=positive_float, default=1e9, help="stop after this many minutes; the next run resumes")
    parser.add_argument("--only", nargs="*", help="names of entries; by default all")
    parser.add_argument("--parallel", type=positive_int, default=1, help="entries that are trained at once, each in a process of its own")
    parser.add_argument("--data", default="acdc", help="only entries of this data set, from which --packed and --split must be")
    parser.add_argument("--steps", type=positive_int, help="number of steps instead of the queue's, for a quick trial")
    parser.add_argument("--stacks", type=positive_int, help="stacks per step instead of the queue's")
    given = parser.parse_args()
    deadline = time.monotonic() + 60 * given.minutes
    device = torch.device(default_device() if given.parallel == 1 else "cpu")
    with refused_in_one_sentence(parser):
        check_writable(given.out, is_folder=True)
        wanted = choose(entries(given.queue), given.data, given.only)
        banks = {side: load_packed(given.packed, device, patients) for side, patients in read_sides(given.split, SIDES).items()}
        if given.start:
            shutil.copytree(given.start, given.out, dirs_exist_ok=True)
    wanted = [entry for entry in wanted if not has_ended(given.out / entry["name"], steps_of(entry, given))]
    if not wanted:
        print(f"All trainings that are wanted have ended: {given.out}", flush=True)
    if given.parallel > 1:
        sys.exit(run_in_parallel(wanted, given, deadline))
    for entry in wanted:
        if time.monotonic() < deadline:
            train(entry, banks, given, deadline)


def run_in_parallel(wanted: list[dict[str, Any]], given: argparse.Namespace, deadline: float) -> int:
    """A process for each entry, so many at once; none outlives this one when it is told to end. 1 where one of them failed, else 0."""
    waiting, running, failed = list(wanted), list[subprocess.Popen[bytes]](), 0
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        while waiting or running:
            if any(process.poll() for process in running):
                failed = 1
            running = [process for process in running if process.poll() is None]
            while len(running) < given.parallel and time.monotonic() < deadline:
                ready = [entry for entry in waiting if has_teacher(entry, given.out)] or (waiting if not running else [])
                if not ready:
                    break
                entry = ready[0]
                waiting.remove(entry)
                running.append(subprocess.Popen(command_for(entry, given, deadline)))
            if time.monotonic() >= deadline:
                waiting = []
            time.sleep(0.2)
    finally:
        for process in running:
            process.terminate()
        for process in running:
            process.wait()
    return failed


def command_for(entry: dict[str, Any], given: argparse.Namespace, deadline: float) -> list[str]:
    """The command that trains ``entry`` alone, as ``given``."""
    flags = ["--parts"] if given.parts else []
    for name in ("steps", "stacks"):
        if getattr(given, name) is not None:
            flags += [f"--{name}", str(getattr(given, name))]
    files = {"--packed": given.packed, "--split": given.split, "--out": given.out, "--queue": given.queue, "--data": given.data}
    flags += [str(part) for pair in files.items() for part in pair]
    return [sys.executable, __file__, "--minutes", str((deadline - time.monotonic()) / 60), "--only", entry["name"], *flags]


def steps_of(entry: dict[str, Any], given: argparse.Namespace) -> int:
    """How many steps ``entry`` is trained: an average of other trainings, none."""
    return 0 if "mean_of" in entry else recipe_of(entry, steps=given.steps).steps


def has_ended(folder: Path, steps: int) -> bool:
    """Whether a training came to its end after ``steps`` steps or more; its weights are there, or an earlier session brought them home."""
    return any(row["step"] >= steps for row in curve_rows(folder))


def has_teacher(entry: dict[str, Any], out: Path) -> bool:
    """Whether the weights are there that an entry needs: of the one it learns from, and of those it starts from or averages."""
    needed = [*entry.get("start", ()), *averaged_trainings(entry), *([entry["teacher"]] if entry.get("teacher") else [])]
    return all((out / name / "weights.pt").exists() for name in needed)


def curve_rows(folder: Path) -> list[dict[str, Any]]:
    """The points of a training's curve so far."""
    return read_points(folder) if (folder / "curve.jsonl").exists() else []


def train(entry: dict[str, Any], banks: dict[str, SliceBank], given: argparse.Namespace, deadline: float) -> None:
    """Train one entry, or go on with it; its weights, curve and state go to the folder of its name."""
    if not has_teacher(entry, given.out):
        print(entry["name"], "waits for the weights of other entries that it needs", flush=True)
        return
    folder = given.out / entry["name"]
    folder.mkdir(parents=True, exist_ok=True)
    if "mean_of" in entry:
        average_trainings(entry, banks["validation"], given.out)
        return
    recipe = recipe_of(entry, steps=given.steps, stacks=given.stacks)
    torch.manual_seed(recipe.seed)
    torch.backends.cudnn.benchmark = True
    torch.set_float32_matmul_precision("high")
    if "row" in entry:
        trainer, loss = make_row_trainer(entry, banks["train"], recipe, given.out)
    else:
        network = start_network(entry, given.out)
        trainer, loss = StackTrainer(network, banks["train"], recipe), None
    state, curve = folder / "state.pt", folder / "curve.jsonl"
    join_state(state)
    trainer.resume(state)
    if loss is not None:
        loss.step = trainer.step
    # a run that was killed has told more than it has kept
    curve.write_text("".join(json.dumps(row) + "\n" for row in curve_rows(folder) if row["step"] <= trainer.step), encoding="utf-8")
    begun, began = time.perf_counter(), trainer.step
    parts = [1 / 2**halved for halved in range(5)] if "row" in entry else [part / 8 for part in range(1, 9)]
    marks, often = {round(recipe.steps * part) for part in parts}, max(1, recipe.steps // 40)
    judge = cache(partial(Judge, entry, trainer.device))

    def report(trainer: StackTrainer) -> bool:
        if trainer.step not in marks and ("row" in entry or trainer.step % often):  # marks are no multiples of a number of steps
            return True
        seconds = time.perf_counter() - begun
        losses = [round(value, 4) for value in trainer.losses]
        row: dict[str, Any] = {"step": trainer.step, "slices": trainer.step * recipe.slices, "loss": losses}
        row["seconds"] = round(trainer.seconds, 1)
        row["slices_per_second"] = round((trainer.step - began) * recipe.slices / max(seconds, 1e-9))
        if trainer.step in marks:
            row |= judge().validate(trainer.averaged(), banks["validation"])
        with curve.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")
        print(entry["name"], json.dumps(row), flush=True)
        return True

    if not trainer.fit(report, state, is_over=lambda: time.monotonic() >= deadline):
        if given.parts:
            split_state(state)
        return
    keep_weights(trainer.averaged(), entry, asdict(recipe), folder)
    state.unlink(missing_ok=True)


def make_row_trainer(entry: dict[str, Any], bank: SliceBank, recipe: Recipe, out: Path) -> tuple[StackTrainer, RowLoss]:
    """The trainer of a row of the paper, whose teacher, where it has one, has left its weights below ``out``."""
    row, teacher = paper_row(entry), None
    if entry.get("teacher"):
        stored = load_weights(out / entry["teacher"])
        dense = paper_row(stored["entry"]).build()
        dense.load_state_dict(stored["weights"])
        teacher = dense.float().to(bank.images.device).eval().answer
    network = row.build()
    loss = RowLoss(row, network, recipe, teacher)
    run = {"entry": {name: entry[name] for name in ("network", "arguments", "row")}}
    # what leaves differs from sample to sample, so that there is nothing that a graph could replay
    return StackTrainer(network, row.sampler(bank, recipe.seed, recipe.stacks), recipe, loss=loss, capture=False, run=run), loss


if __name__ == "__main__":
    main()
