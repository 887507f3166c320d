"""Label an archive: thousands of studies, on many cores or GPUs with Ray, or on one core; a stopped run resumes when started again."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any

import typer
from tqdm import tqdm

from prato.archive.labeller import Labeller, error_sentence, run_parameters
from prato.archive.run import Run
from prato.archive.studies import ArchiveError, Job, read_jobs
from prato.data.atomic import write_bytes
from prato.data.wording import counted
from prato.models.registry import DEFAULT_MODEL
from scripts.common.model_files import locator_file, model_file
from scripts.common.provenance import command, commit
from scripts.common.tables import shorten_list
from scripts.common.throughput import throughput

#: What is told in a sentence.
_ERRORS = (ValueError, RuntimeError, OSError)


def main(
    studies: Annotated[
        Path, typer.Option(help="Folder of NIfTI studies, or a .txt or .csv list of images, with paths relative to the list.")
    ],
    out: Annotated[Path, typer.Option(help="Folder of the masks, records.jsonl and summary.json; new, empty or this run's own.")],
    model: Annotated[str, typer.Option(help="A shipped model's name or a model file.")] = DEFAULT_MODEL,
    boxes: Annotated[Path | None, typer.Option(help=".json (id -> roi) or .csv (id,i0,i1,j0,j1,k0,k1); else boxes are proposed.")] = None,
    prune: Annotated[str, typer.Option(help="off, 25, 50 or 75; by default the model's own plan.")] = "",
    workers: Annotated[int, typer.Option(min=0, help="Number of workers, each on one core; 0 for as many as fit.")] = 0,
    gpus_per_worker: Annotated[float, typer.Option(min=0, max=1, help="Share of a GPU that each worker takes; 0 for the CPU.")] = 0.0,
    address: Annotated[str, typer.Option(help="A Ray cluster's address, or auto; by default one is started on this machine.")] = "",
    local: Annotated[
        bool, typer.Option("--local", help="Label one study after the other in this process, without Ray; the masks are the same.")
    ] = False,
) -> None:
    """Write a mask and a record for each study. Exit code 1: some failed, and the records say why; 2: refused, nothing was labelled."""
    run: Run | None = None
    try:
        if local and (address or workers > 1):
            raise ArchiveError("--local labels in this process: leave --workers and --address out.")
        if not local and find_spec("ray") is None:
            raise ArchiveError("Labelling with several workers needs Ray: pip install -r requirements-ray.txt, or use --local.")
        jobs = read_jobs(studies, boxes)
        chosen = model_file(model), locator_file(), prune or None, "cuda" if gpus_per_worker else "cpu"
        parameters, folder = run_parameters(*chosen), out.resolve()
        build = partial(Labeller, *chosen, folder)
        workers, labelled = _labelling(build, parameters, None if local else address, workers, gpus_per_worker)
        run = Run(folder, parameters)
        to_do = run.to_do(jobs, partial(tqdm, total=len(jobs), desc="comparing", unit="study", mininterval=1.0))
    except _ERRORS as error:
        if run:
            run.close()
        typer.echo(error_sentence(error), err=True)
        raise typer.Exit(2) from None
    if to_do.foreign:
        many = "masks were written by somebody else and are left as they are"
        others = counted(len(to_do.foreign), "mask was written by somebody else and is left as it is", many)
        typer.echo(f"{others}: {shorten_list(to_do.foreign)}.", err=True)
    if to_do.unread:
        many = "images cannot be read now, and their masks are left as they are"
        unread = counted(len(to_do.unread), "image cannot be read now, and its mask is left as it is", many)
        typer.echo(f"{unread}: {shorten_list(to_do.unread)}.", err=True)
    began = time.monotonic()
    done, arrived, stopped = _label(run, labelled(to_do.waiting), len(jobs), len(jobs) - len(to_do.waiting))
    if done:
        kind = {"device": run.parameters["device"], "ray": not local, "gpus_per_worker": gpus_per_worker, "parameters": run.parameters}
        paces = throughput(done, began, arrived, run.out, workers)
        made = {"seed": None, "commit": commit(), "command": command()}  # nothing is drawn
        try:
            write_bytes(run.out / "summary.json", (json.dumps({**paces, **kind, **made}, indent=1) + "\n").encode())
        except OSError as error:
            stopped = stopped or error_sentence(error)
    raise typer.Exit(_told(run, jobs, stopped) or int(bool(to_do.unread)))


def _label(run: Run, records: Iterator[dict[str, Any]], total: int, before: int) -> tuple[list[dict[str, Any]], list[float], str]:
    """Keep ``records`` as they come. Those that are done, when each came, and what ended it early, or nothing."""
    done, arrived, stopped = [], [], ""
    with tqdm(total=total, initial=before, unit="study") as bar:
        try:
            for record in records:
                run.add(record)
                bar.update()
                if record["status"] == "done":
                    done.append(record)
                    arrived.append(time.monotonic())
                else:
                    bar.write(f"{record['study']} failed: {record['error']}", file=sys.stderr)
        except KeyboardInterrupt:
            stopped = "Stopped."
        except _ERRORS as error:
            stopped = error_sentence(error)
    run.close()
    return done, arrived, stopped


def _labelling(
    build: Callable[[], Labeller], parameters: dict[str, Any], address: str | None, workers: int, gpus: float
) -> tuple[int, Callable[[list[Job]], Iterator[dict[str, Any]]]]:
    """How many workers there are, and what gives the records of jobs as they come; ``address`` None is this process."""
    if address is None:
        return 1, partial(map, build().label)
    from scripts.common.batch_cluster import Crew, connect  # --local does without Ray

    found = connect(address, workers, gpus)
    return found, lambda jobs: Crew(jobs, build, parameters, found, gpus).records()


def _told(run: Run, jobs: list[Job], stopped: str) -> int:
    """Say how the run ended, and give the exit code for it."""
    states = [run.records.get(job.study, {}).get("status", "waiting") for job in jobs]
    failed = [job.study for job, state in zip(jobs, states) if state == "failed"]
    typer.echo(f"{states.count('done')} of {counted(len(jobs), 'study has its', 'studies have their')} mask in {run.out}.")
    warned = [job.study for job in jobs if run.records.get(job.study, {}).get("warnings")]
    if warned:
        typer.echo(f"{counted(len(warned), 'has', 'have')} warnings (see records.jsonl): {shorten_list(warned)}.", err=True)
    if failed:
        typer.echo(f"{len(failed)} failed (see records.jsonl): {shorten_list(failed)}.", err=True)
    if stopped:
        typer.echo(f"{stopped} The same command resumes from here.", err=True)
        return 130 if stopped == "Stopped." else 1
    return 1 if failed else 0


if __name__ == "__main__":
    typer.run(main)
