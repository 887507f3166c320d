"""What labelling an archive takes on more cores or on GPUs, from what was measured on few; docs/batch.md says how it is estimated."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Annotated, Any

import typer
from rich.table import Table

from scripts.common.markdown import grid
from scripts.common.provenance import origin
from scripts.common.refusals import checked_table, refuses_in_one_sentence
from scripts.common.results import Row, read_rows, write_rows
from scripts.common.tables import print_table

#: The way of scripts/bench/benchmark.py that a request takes on a GPU.
_WAY = "window at the box, plan, captured"
#: What the app computes in on a GPU.
_DTYPE = "float16"
_GPUS = (1, 8, 64)
_COLUMNS = ("hardware", "studies a minute", "hours", "core- or GPU-hours", "bound by", "based on")


@dataclass(frozen=True)
class Assumptions:
    """What is not measured. ``efficiency``: share of the pace of n separate GPUs that n together reach. ``storage_mb_s``: what the
    shared storage reads and writes, in 10**6 bytes a second. ``cores_per_gpu``: workers that prepare studies for one GPU."""

    studies: int
    efficiency: float
    storage_mb_s: float
    cores_per_gpu: int


@refuses_in_one_sentence
def main(
    measured: Annotated[list[Path], typer.Option(help="summary.json of scripts/batch_label.py on the CPU, one per number of workers.")],
    out: Annotated[
        Path, typer.Option(callback=checked_table, help="The CSV file to write; the measured runs go to batch_runs.csv beside it.")
    ],
    gpu: Annotated[Path | None, typer.Option(help="benchmark.csv with a GPU's rows; without it some rows stay empty.")] = None,
    studies: Annotated[int, typer.Option(min=1, help="How many studies the archive holds.")] = 10_000,
    efficiency: Annotated[float, typer.Option(min=0.01, max=1, help="Assumed: share of n times one GPU's pace that n GPUs reach.")] = 0.9,
    storage: Annotated[float, typer.Option(min=1, help="Assumed: MB/s of the shared storage.")] = 200.0,
    cores: Annotated[int, typer.Option(min=1, help="Assumed: CPU cores, and workers, beside each GPU.")] = 8,
) -> None:
    """Estimate the hours for the archive on the measured CPU and on 1, 8 and 64 GPUs."""
    try:
        runs = sorted((_json(path) for path in measured), key=lambda run: run["workers"])
        rate = None if gpu is None else gpu_rate(read_rows(gpu), runs[0]["parameters"]["model"])
        assumed = Assumptions(studies, efficiency, storage, cores)
        rows = [cpu_row(run, assumed) for run in runs] + [idle_row(runs[0], assumed)]
        rows += [gpu_row(count, runs[0], rate, assumed) for count in _GPUS]
        made = origin(runs[0]["machine"]["processor"])
        assumptions = {"assumptions": asdict(assumed), "gpu_gflops_a_second": rate}
        write_rows(out, [_without_none({**row, **assumptions, **made}) for row in rows])
        write_rows(out.with_name("batch_runs.csv"), map(_without_none, runs))
    except KeyError as error:
        raise ValueError(f"A file lacks {error}: give a summary.json of scripts/batch_label.py and a file of benchmark.py.") from None
    table = Table(*_COLUMNS, title=f"{studies} studies")
    for row in rows:
        table.add_row(*_cells(row))
    print_table(table)


def cpu_row(run: dict[str, Any], assumed: Assumptions) -> dict[str, Any]:
    """The cores of ``run`` at the pace that was measured on them."""
    name = f"{run['workers']} core{'s' * (run['workers'] > 1)}, {run['machine']['processor']}"
    pace = _pace(run["studies_per_minute"] / 60, run["workers"], run, assumed)
    return {"hardware": name, **pace, "bound by": "cores", "based on": f"measured on {run['studies']} studies"}


def idle_row(run: dict[str, Any], assumed: Assumptions) -> dict[str, Any]:
    """A core with nothing else to do: the CPU time that a study took, which waiting for a busy machine does not lengthen."""
    pace = _pace(1 / run["core_s"], 1, run, assumed)
    return {"hardware": "1 core, idle otherwise", **pace, "bound by": "cores", "based on": "CPU time of the first row's studies"}


def gpu_row(count: int, run: dict[str, Any], rate: float | None, assumed: Assumptions) -> dict[str, Any]:
    """``count`` GPUs, each with its cores; everything but the network takes a core as long as its share of the CPU time of ``run``.

    Args:
        rate: GFLOP a second of the network on one GPU; None where nobody has measured it.
    """
    name = f"{count} GPU{'s' * (count > 1)}, {assumed.cores_per_gpu} cores each"
    if rate is None:
        return {"hardware": name, **_pace(None, count, run, assumed), "bound by": None, "based on": "not measured"}
    network = run["gflops"] / rate
    beside = run["core_s"] * (1 - run["stage_ms"]["network"] / run["stage_ms"]["total"])
    together = count * (assumed.efficiency if count > 1 else 1.0)
    paces = {
        "network": together / network,
        "cores": together * assumed.cores_per_gpu / (beside + network),
        "storage": assumed.storage_mb_s / (run["image_mb"] + run["mask_mb"]),
    }
    bound = min(paces, key=lambda name: paces[name])
    pace = _pace(paces[bound], count, run, assumed)
    return {"hardware": name, **pace, "bound by": bound, "based on": "estimated, with assumptions"}


def gpu_rate(benchmark: Sequence[Row], model: str) -> float:
    """GFLOP a second of ``model`` in the largest batches of ``benchmark``'s rows, the median over box sizes.

    Raises:
        ValueError: it was not measured on a GPU, or not with this model.
    """
    if not any("--device cuda" in row["command"] for row in benchmark):
        raise ValueError("The file for --gpu has no rows of a GPU: run scripts/bench/benchmark.py with --device cuda there.")
    rows = [row for row in benchmark if row["model"] == model and row["way"] == _WAY and row.get("dtype", _DTYPE) == _DTYPE]
    if not rows:
        raise ValueError(f"The file for --gpu does not hold {model}: run scripts/bench/benchmark.py with --model {model}.")
    most = max(row["batch"] for row in rows)
    return round(median(1000 * row["gflops"] / row["ms"] for row in rows if row["batch"] == most), 1)


def cost_table(rows: Sequence[Row]) -> str:
    """The rows of ``batch_costs.csv`` as a table for docs/batch.md."""
    return grid(_COLUMNS, [*map(_cells, rows)]) + f"\n{rows[0]['assumptions']['studies']} studies.\n"


def _cells(row: dict[str, Any]) -> list[str]:
    return ["" if row.get(column) is None else str(row[column]) for column in _COLUMNS]


def _pace(a_second: float | None, units: int, run: dict[str, Any], assumed: Assumptions) -> dict[str, float | None]:
    """The pace, kept up for the whole archive after one start-up, on ``units`` cores or GPUs; nothing where it is not known."""
    if a_second is None:
        return dict.fromkeys(_COLUMNS[1:4])
    hours = (run["start_up_s"] + assumed.studies / a_second) / 3600
    return dict(zip(_COLUMNS[1:4], (round(60 * a_second, 1), round(hours, 2), round(units * hours, 2))))


def _without_none(row: Mapping[str, Any]) -> dict[str, Any]:
    return {name: _without_none(each) if isinstance(each, Mapping) else each for name, each in row.items() if each is not None}


def _json(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_bytes())
    except (OSError, ValueError):
        found = None
    if not isinstance(found, dict):
        raise ValueError(f"{path} cannot be read as JSON: give a summary.json that scripts/batch_label.py has written.")
    return found


if __name__ == "__main__":
    typer.run(main)
