"""How long a labeller waits for a better model: a round of retraining on a live server, from the request to the published model.

    python scripts/bench/retraining_round.py --studies out/acdc --out docs/results/retraining_round.csv

A copy of the app is served with the labelled studies of a few patients; comparison and publishing are part of the round.
"""

from __future__ import annotations

import shutil
import tempfile
import time
from pathlib import Path
from typing import Annotated, Any

import psutil
import torch
import typer

from prato.data.studies.folder import find_labelled_studies
from prato.models.registry import DEFAULT_MODEL
from prato.runtime.devices import default_device, device_name
from prato.runtime.precision import is_bfloat16_fast
from scripts.common.demo_client import DemoServer, copy_app
from scripts.common.provenance import origin
from scripts.common.refusals import checked_table, refuses_in_one_sentence
from scripts.common.results import replace_rows

#: Patients at most, evenly chosen.
_PATIENTS, _SEED = 10, 1


@refuses_in_one_sentence
def main(
    studies: Annotated[Path, typer.Option(help="Studies folder with labels/final.")],
    out: Annotated[
        Path, typer.Option(callback=checked_table, help="The CSV file to write; rows of other models, threads and seeds in it stay.")
    ],
    model: Annotated[str, typer.Option(help="A shipped model's name.")] = DEFAULT_MODEL,
) -> None:
    """Write one row, of a server's first round: wall-clock and CPU seconds from the request to the end, and what the round reports."""
    files = find_labelled_studies(studies)
    people = sorted({file.patient for file in files})
    people = people[:: max(1, len(people) // _PATIENTS)][:_PATIENTS]
    chosen = [file for file in files if file.patient in people]
    if len(people) < 2:
        raise ValueError(f"{studies} holds labelled studies of {len(people)} patients: a round needs two at least.")
    with tempfile.TemporaryDirectory(prefix="prato_round_") as folder:
        served = Path(folder) / "studies"
        labels = served / "labels" / "final"
        labels.mkdir(parents=True)
        for file in chosen:
            shutil.copy(file.image, served / file.image.name)
            shutil.copy(file.label, labels / file.image.name)
        shutil.copy(studies / "manifest.json", served) if (studies / "manifest.json").exists() else None
        with DemoServer(copy_app(Path(folder) / "app"), served, Path(folder) / "server.log") as server:
            server.await_costs()
            asked = {"max_steps": 120, "max_epochs": 10_000, "seed": _SEED}
            row = {"model": model, "studies": len(chosen), "round": 1, **_measure_round(server, model, asked)}
    row |= {"precision": _precision(), "threads": torch.get_num_threads(), "seed": _SEED, **origin(device_name(default_device()))}
    replace_rows(out, [row], ("model", "studies", "round", "threads", "seed", "device"))
    typer.echo(", ".join(f"{name} {value}" for name, value in row.items()))


def _measure_round(server: DemoServer, model: str, asked: dict[str, Any]) -> dict[str, Any]:
    busy, start = _cpu_seconds(server.process.pid), time.monotonic()
    stats = server.train(model, asked, lambda _: None)
    seconds = time.monotonic() - start
    found = {"seconds": round(seconds, 1), "cpu_seconds": round(_cpu_seconds(server.process.pid) - busy, 1)}
    told = {name: stats[name] for name in ("steps", "published", "dice_before", "dice_after")}
    return {**found, "parts_s": stats["parts_s"], "load": round(psutil.getloadavg()[0], 1), **told}


def _cpu_seconds(pid: int) -> float:
    """User and system time of a process and all its children so far."""
    process = psutil.Process(pid)
    return sum(times.user + times.system for times in (each.cpu_times() for each in (process, *process.children(recursive=True))))


def _precision() -> str:
    """What a round computes in on this machine."""
    return "bfloat16" if is_bfloat16_fast(torch.device(default_device())) else "float32"


if __name__ == "__main__":
    typer.run(main)
