"""Kill a live server, damage its files, fill its disks, turn its clock: it answers, says why it cannot, and loses no label it has taken."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import active_children, get_context
from pathlib import Path
from typing import Annotated, Any

import typer
from tqdm import tqdm

from scripts.chaos.faults import clocks, full_disk, kill
from scripts.chaos.faults.base import Base, make_base
from scripts.chaos.faults.bench import Bench
from scripts.chaos.faults.damage import all_damages
from scripts.common.demo_client import ServerError
from scripts.common.provenance import origin
from scripts.common.results import write_rows

_STUDY = "phantom001_ED"
FAULTS: dict[str, Callable[[Bench], str]] = {
    "server killed during submits": kill.server_during_submits,
    "server killed during a training": kill.server_during_training,
    "training process killed": kill.training_process,
    "studies' disk full": full_disk.studies,
    "models' disk full": full_disk.models,
    "temporary disk full": full_disk.temporary,
    **all_damages(_STUDY),
    "clock jumps": clocks.jumps,
    "file times jump": clocks.file_times,
}
#: Versions that no server can give back afterwards.
_DAMAGED = {"a version of a label damaged": [(_STUDY, 2)]}


def main(
    out: Annotated[Path, typer.Option(help="A new folder for the servers, their studies and result.csv.")],
    seed: Annotated[int, typer.Option(min=0, help="Which hearts, which moments, which damage first.")] = 0,
    only: Annotated[list[str] | None, typer.Option(help="Name of a fault; may be given several times. All of them otherwise.")] = None,
    at_once: Annotated[int, typer.Option(min=1, help="How many faults side by side, each on a server of its own.")] = 1,
) -> None:
    """Exit code 1 where a fault had another consequence than a clear refusal."""
    unknown = [name for name in only or () if name not in FAULTS]
    if unknown or out.exists():
        why = f"There is no fault {unknown[0]!r}: choose {', '.join(FAULTS)}." if unknown else f"{out} already exists: give a new folder."
        typer.echo(why, err=True)
        raise typer.Exit(2)
    out.mkdir(parents=True)
    try:
        base = make_base(out.absolute() / "base", seed)
    except ServerError as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(1) from None
    rows: list[dict[str, Any]] = []
    made_by = {"seed": seed, **origin()}
    names = list(only or FAULTS)
    for row in tqdm(_prove_all(base, names, seed, at_once), total=len(names), unit="fault"):
        rows.append(row)
        write_rows(out / "result.csv", [{**each, **made_by} for each in rows])
    shutil.rmtree(base.folder)
    for row in rows:
        if row["verdict"] != "passed":
            why = "; ".join(line[:300] for line in row.get("wrong", ())) if row["verdict"] == "failed" else row["done"]
            typer.echo(f"{row['verdict'].upper()}: {row['fault']}: {why}", err=True)
    counts = {verdict: sum(row["verdict"] == verdict for row in rows) for verdict in ("passed", "failed", "skipped")}
    typer.echo(f"{', '.join(f'{number} {verdict}' for verdict, number in counts.items())}; see {out / 'result.csv'}.")
    if counts["failed"]:
        raise typer.Exit(1)


def _prove_all(base: Base, names: list[str], seed: int, at_once: int) -> Iterator[dict[str, Any]]:
    """In the order of ``names``."""
    prove = partial(_prove, base, seed)
    if at_once == 1:
        yield from map(prove, names)
        return
    pool = ProcessPoolExecutor(at_once, get_context("spawn"))
    try:
        yield from pool.map(prove, names)
    except BaseException:
        pool.shutdown(wait=False, cancel_futures=True)
        for process in active_children():
            process.terminate()
        raise
    finally:
        pool.shutdown()


def _prove(base: Base, seed: int, name: str) -> dict[str, Any]:
    """What was done for the fault ``name``, which answers came, and whether all is well afterwards. A folder is left where it is not."""
    folder = base.folder.parent / name.replace(" ", "_").replace("'", "")
    bench, done, verdict = base.bench(folder, seed), "", ""
    try:
        done = FAULTS[name](bench)
        bench.use(well=True)
        bench.verify(_DAMAGED.get(name, ()))
    except full_disk.SkippedError as error:
        done, verdict = str(error), "skipped"
    except ServerError as error:
        bench.wrong.append(str(error))
    finally:
        bench.stop()
    verdict = verdict or ("failed" if bench.wrong else "passed")
    if verdict != "failed":
        shutil.rmtree(folder)
    answers = "; ".join(f"{answer}: {count}" for answer, count in sorted(bench.statuses.items()))
    wrong = {"wrong": list(dict.fromkeys(bench.wrong))} if bench.wrong else {}
    found = {"verdict": verdict, "acknowledged_labels": len(bench.acknowledged), "answers": answers, "done": done}
    return {"fault": name, **found, **wrong}


if __name__ == "__main__":
    typer.run(main)
