"""Eight labellers and a training on one live server: how long they wait, what they are told, what memory it takes; no label is lost."""

from __future__ import annotations

import os
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import psutil
import requests
import typer
from tqdm import tqdm

from prato.data.nifti import read_volume
from prato.phantom.frames import make_phantoms
from scripts.chaos.load_clients import Seen, Worker, stored_labels
from scripts.common.demo_client import DemoServer, ServerError, copy_app
from scripts.common.provenance import origin
from scripts.common.results import write_rows

#: Labellers at the same time.
_CLIENTS = 8
#: Columns of the quantiles of the milliseconds.
_QUANTILES = {"p50_ms": 50, "p95_ms": 95, "p100_ms": 100}


def main(
    out: Annotated[Path, typer.Option(help="A new folder for the server, its studies and result.csv.")],
    seconds: Annotated[int, typer.Option(min=5, help="How long.")] = 300,
    seed: Annotated[int, typer.Option(min=0, help="Which hearts, and who asks what in which order.")] = 0,
) -> None:
    """Exit code 1 where a label was lost, or a request failed without a reason that its client could act on."""
    if out.exists():
        typer.echo(f"{out} already exists: give a new folder.", err=True)
        raise typer.Exit(2)
    app, studies = copy_app(out / "app"), out / "studies"
    make_phantoms(studies, 3, seed)
    labels = {path.name.removesuffix(".nii.gz"): read_volume(path) for path in sorted((studies / "labels" / "final").iterdir())}
    workers_of = [(n, {study: (label.array.astype(np.uint8), label.affine) for study, label in labels.items()}) for n in range(_CLIENTS)]
    try:
        with DemoServer(app, studies, out / "server.log", {"PRATO_LABEL_MAX_WAITING": str(_CLIENTS // 2)}) as server:
            server.infer("prato_unetr", next(iter(labels)), {})
            training = {"max_steps": 10_000, "max_epochs": 10_000}
            requests.post(f"{server.url}/train/prato_unetr", json=training, timeout=60).raise_for_status()
            workers = [Worker(server.url, seed * 1000 + n, own) for n, own in workers_of]
            memory = _work(workers, seconds, psutil.Process(server.process.pid))
            stop_sent = time.monotonic()
            stopped = requests.delete(f"{server.url}/train/", timeout=60).json()
            stopping = {"training": stopped and stopped["state"], "training_stopped_in_ms": round(1000 * (time.monotonic() - stop_sent))}
            seen = [worker.seen for worker in workers]
            lost = set().union(*(one.taken for one in seen)) - stored_labels(studies)
    except ServerError as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(1) from None
    unexplained = [line for one in seen for line in one.unexplained]
    labels_taken = len(set().union(*(one.taken for one in seen)))
    run = {"memory": memory, "labels_taken": labels_taken, "labels_lost": len(lost), **stopping}
    run |= {"clients": _CLIENTS, "seconds": seconds, "cores": os.cpu_count(), "trained_meanwhile": True, "unexplained": len(unexplained)}
    made = {"seed": seed, **origin()}
    rows = [{"request": kind, **counts, **run, **made} for kind, counts in _requests(seen).items()]
    write_rows(out / "result.csv", rows)
    for row in rows:
        typer.echo(", ".join(f"{name} {row[name]}" for name in ("request", "status", *_QUANTILES) if name in row))
    typer.echo(f"memory {memory}; {labels_taken} labels taken, {len(lost)} lost")
    for line in unexplained:
        typer.echo(line, err=True)
    if lost or unexplained:
        typer.echo(f"Not well: {len(lost)} labels lost, {len(unexplained)} requests failed; see {out / 'result.csv'}.", err=True)
        raise typer.Exit(1)


def _work(workers: list[Worker], seconds: int, server: psutil.Process) -> dict[str, Any]:
    """Let ``workers`` work; MiB of the server's memory at the start, the end and at most, and what a request adds once it has warmed up."""
    end = time.monotonic() + seconds
    points = []
    with ThreadPoolExecutor(len(workers)) as pool:
        working = [pool.submit(worker.work, lambda: time.monotonic() < end) for worker in workers]
        for _ in tqdm(range(seconds), unit="s"):
            time.sleep(1)
            done = sum(sum(c.total() for c in list(worker.seen.statuses.values())) for worker in workers)
            points.append((done, server.memory_info().rss / 2**20))
    for one in working:
        one.result()
    counts, rss = np.array(points).T
    late = counts > counts[-1] / 3
    slope = float(np.polyfit(counts[late], rss[late], 1)[0]) if late.sum() > 2 and np.ptp(counts[late]) else 0.0
    ends = {"start_mib": round(rss[0], 1), "end_mib": round(rss[-1], 1), "most_mib": round(rss.max(), 1)}
    return {**ends, "requests": int(counts[-1]), "kib_a_request": round(1024 * slope, 2)}


def _requests(seen: list[Seen]) -> dict[str, Any]:
    """By kind: statuses, and quantiles of the milliseconds of those that were answered."""
    told = {}
    for kind in sorted({kind for one in seen for kind in one.statuses}):
        ms = np.array([value for one in seen for value in one.ms.get(kind, [])])
        quantiles = {name: round(float(np.percentile(ms, q)), 1) for name, q in _QUANTILES.items()} if len(ms) else {}
        statuses: Counter[int] = sum((one.statuses.get(kind, Counter()) for one in seen), Counter())
        told[kind] = {"status": {str(status): n for status, n in sorted(statuses.items())}, **quantiles}
    return told


if __name__ == "__main__":
    typer.run(main)
