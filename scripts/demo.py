"""The whole loop on generated hearts, with the real server: box in, mask out, correction in, better model out.

Writes out/demo: summary.json, pictures, masks and the server's log. Nothing in the repository changes: the server runs a copy of the app.
"""

from __future__ import annotations

import base64
import json
import shutil
import time
import zlib
from importlib.metadata import version
from pathlib import Path
from statistics import fmean
from typing import Annotated, Any

import numpy as np
import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from prato.data.atomic import write_bytes
from prato.data.nifti import read_volume
from prato.data.structures import STRUCTURES
from prato.evaluation.metrics import case_metrics
from prato.models.registry import DEFAULT_MODEL as MODEL
from prato.phantom.frames import make_phantoms
from prato.prompts.box import Box
from scripts.common.arguments import MAX_SEED
from scripts.common.demo_client import DemoServer, ServerError, copy_app
from scripts.common.demo_pictures import draw_loop
from scripts.common.paths import APP, ROOT, check_writable
from scripts.common.provenance import commit
from scripts.common.refusals import refuses_in_one_sentence

#: The first two patients are labelled, the third is held back to be judged on.
HELD_BACK = ("phantom003_ED", "phantom003_ES")
#: A box as a hand draws it: this many voxels wider than the heart on each side in plane.
_SLACK = 3
#: Says that a folder was made here, and may be removed.
_MARK = ".prato_demo"
#: Dice by study and structure.
Scores = dict[str, dict[str, float]]


@refuses_in_one_sentence
def main(
    out: Annotated[Path, typer.Option(help="Folder for all results; those of an earlier run are removed.")] = ROOT / "out" / "demo",
    seed: Annotated[int, typer.Option(min=0, max=MAX_SEED, help="Seed: decides which hearts are generated, and which are trained on.")] = 0,
    steps: Annotated[int, typer.Option(min=1, help="How many steps to train.")] = 50,
) -> None:
    """Run the whole labelling loop on generated hearts, with a real server."""
    if not (APP / "model" / f"{MODEL}.safetensors").is_file():
        raise ValueError(f"There is no {MODEL}.safetensors in {APP / 'model'}: restore the shipped weights.")
    if out.exists() and not (out / _MARK).is_file() and (not out.is_dir() or any(out.iterdir())):
        raise ValueError(f"{out} holds something other than an earlier demo: give a new folder.")
    check_writable(out, is_folder=True)
    console = Console()
    start = time.monotonic()
    app, studies, truth = _prepare(out, seed)
    boxes = {path.name.removesuffix(".nii.gz"): _hand_drawn(path) for path in sorted(truth.glob("*.nii.gz"))}
    try:
        console.print("starting the server ...")
        with DemoServer(app, studies, out / "server.log") as server:
            console.print(f"MONAI Label {version('monailabel')} answers at {server.url}")
            before = _answers(server, boxes, out / "before")
            _label(server, boxes, truth, out / "proposed", console)
            stats = _train(server, steps, seed, console)
            after = _answers(server, boxes, out / "after")
    except ServerError as error:
        console.print(str(error), style="red", soft_wrap=True)
        raise typer.Exit(1) from None
    scores = {when: _scores(out / when, truth) for when in ("before", "after")}
    summary = _summary(before[HELD_BACK[0]], after[HELD_BACK[0]], scores, stats)
    summary["seconds"] = round(time.monotonic() - start, 1)
    write_bytes(out / "summary.json", (json.dumps(summary, indent=1) + "\n").encode())
    for study in HELD_BACK:
        _picture(out, study, boxes[study], before[study], scores)
    _show(console, summary, out)


def _prepare(out: Path, seed: int) -> tuple[Path, Path, Path]:
    """A copy of the app with its weights, studies without labels, and the labels, kept for later."""
    if out.exists():
        shutil.rmtree(out)
    out.mkdir(parents=True)
    (out / _MARK).touch()
    app, studies, truth = copy_app(out / "app", MODEL), out / "studies", out / "truth"
    make_phantoms(studies, 3, seed)
    (studies / "labels" / "final").rename(truth)
    return app, studies, truth


def _hand_drawn(label: Path) -> Box:
    mask = read_volume(label).array
    tight = Box.around(mask > 0)
    assert tight is not None
    slack = (_SLACK, _SLACK, 0)
    return Box(
        tuple(max(a - s, 0) for a, s in zip(tight.start, slack)), tuple(min(b + s, n) for b, s, n in zip(tight.stop, slack, mask.shape))
    )


def _answers(server: DemoServer, boxes: dict[str, Box], folder: Path) -> dict[str, dict[str, Any]]:
    """The held-back patient's masks, saved in ``folder``, and the replies."""
    folder.mkdir()
    replies = {}
    for study in HELD_BACK:
        mask, replies[study] = server.infer(MODEL, study, {"roi": list(boxes[study].bounds), "return_tokens": True})
        write_bytes(folder / f"{study}.nii.gz", mask)
    return replies


def _label(server: DemoServer, boxes: dict[str, Box], truth: Path, folder: Path, console: Console) -> None:
    """What the labeller does with the other two patients: take the next one, draw a box, correct the mask, submit."""
    folder.mkdir()
    while (study := server.next_study()) not in HELD_BACK:
        mask, _ = server.infer(MODEL, study, {"roi": list(boxes[study].bounds)})
        write_bytes(folder / f"{study}.nii.gz", mask)
        label = truth / f"{study}.nii.gz"
        proposed, correct = read_volume(folder / f"{study}.nii.gz").array, read_volume(label).array
        server.submit(study, label)
        console.print(f"{study}: {int((proposed != correct).sum())} of {int((correct > 0).sum())} voxels corrected, submitted")


def _train(server: DemoServer, steps: int, seed: int, console: Console) -> dict[str, Any]:
    columns = (
        TextColumn("training"),
        BarColumn(),
        TextColumn("{task.completed:.0f}/{task.total:.0f} steps{task.fields[more]}"),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=console) as bar:
        task = bar.add_task("", total=steps, more="")

        def report(stats: dict[str, Any]) -> None:
            dice = f", validation Dice {stats['validation']['mean']:.3f}" if "validation" in stats else ""
            loss = f", loss {stats['loss']:.3f}" if stats.get("loss") else ""
            bar.update(task, completed=stats["step"], total=stats["total_steps"], more=loss + dice)

        stats = server.train(MODEL, {"max_epochs": 1000, "max_steps": steps, "seed": seed}, report)
        report(stats)
    return stats


def _scores(folder: Path, truth: Path) -> Scores:
    """Dice by structure of each held-back study."""
    scores = {}
    for study in HELD_BACK:
        label = read_volume(truth / f"{study}.nii.gz")
        rows = case_metrics(read_volume(folder / f"{study}.nii.gz").array, label.array, label.spacing)
        scores[study] = {name: rows[name]["dice"] for name in STRUCTURES}
    return scores


def _summary(before: dict[str, Any], after: dict[str, Any], scores: dict[str, Scores], stats: dict[str, Any]) -> dict[str, Any]:
    dice = {when: {name: fmean(row[name] for row in rows.values()) for name in STRUCTURES} for when, rows in scores.items()}
    return {
        "dice_before": round(fmean(dice["before"].values()), 4),
        "dice_after": round(fmean(dice["after"].values()), 4),
        "dice_by_structure": {name: {when: round(dice[when][name], 4) for when in dice} for name in STRUCTURES},
        **{key: after[key] for key in ("kept_fraction", "gflops_dense")},
        "gflops_pruned": after["gflops"],
        **{key: after[key] for key in ("latency_ms", "label_names")},
        "server_version": version("monailabel"),
        "model": MODEL,
        "model_version_before": before["model_version"],
        "model_version_after": after["model_version"],
        "training": {key: stats[key] for key in ("published", "dice_before", "dice_after", "patients", "step", "total_time")},
        "commit": commit(),
    }


def _picture(out: Path, study: str, box: Box, reply: dict[str, Any], scores: dict[str, Scores]) -> None:
    image = read_volume(out / "studies" / f"{study}.nii.gz")
    sent = reply["tokens"]
    tokens = np.frombuffer(zlib.decompress(base64.b64decode(sent["data"])), np.uint8).reshape(sent["shape"]) / 255
    names = {when: f"{when} training: Dice {fmean(scores[when][study].values()):.2f}" for when in ("before", "after")}
    masks = {names[when]: read_volume(out / when / f"{study}.nii.gz").array for when in names}
    masks["truth"] = read_volume(out / "truth" / f"{study}.nii.gz").array
    draw_loop(out / f"{study}.png", f"{study}, a patient that was never labelled", image=image, box=box, tokens=tokens, masks=masks)


def _show(console: Console, summary: dict[str, Any], out: Path) -> None:
    table = Table(title="Dice on the held-out patient")
    for column in ("", "before", "after"):
        table.add_column(column, justify="right" if column else "left")
    for name, row in summary["dice_by_structure"].items():
        table.add_row(name, f"{row['before']:.3f}", f"{row['after']:.3f}")
    table.add_row("mean", f"{summary['dice_before']:.3f}", f"{summary['dice_after']:.3f}", style="bold")
    console.print(table)
    kept = list(summary["kept_fraction"].values())
    console.print(
        f"tokens kept to the end {kept[-1]:.0%}, {summary['gflops_pruned']:.1f} GFLOP instead of {summary['gflops_dense']:.1f}, "
        f"answer in {summary['latency_ms']['total'] / 1000:.1f} s; {summary['seconds']:.0f} s in all",
        soft_wrap=True,
    )
    console.print(f"pictures, masks and summary.json are in {out}", soft_wrap=True)


if __name__ == "__main__":
    typer.run(main)
