"""Time a whole cine over HTTP: all phases in one request beside one request for each, and the memory that the server takes.

python scripts/bench/cine_request.py --out docs/results/cine_request.csv
python scripts/bench/cine_request.py --cine patient090_4d.nii.gz --no-large --out docs/results/cine_request.csv
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Annotated, Any

import numpy as np
import psutil
import torch
import typer

from prato.data.cine import read_cine, write_cine
from prato.data.nifti import write_volume
from prato.models.registry import DEFAULT_MODEL
from prato.phantom.beat import make_beat
from prato.runtime.devices import default_device, device_name
from scripts.bench.server_memory import mib, watch_height
from scripts.common.demo_client import DemoServer, copy_app
from scripts.common.provenance import origin
from scripts.common.refusals import checked_table, refuses_in_one_sentence
from scripts.common.results import replace_rows

#: Of the cines that are timed.
_PHASES, _SLICES, _SEED = 30, 10, 0
#: Phases, slices and voxels along both sides of the cine whose memory is measured.
_LARGE = (40, 20, 512)
#: What a heartbeat of a cine that says nothing of time lasts, in ms.
_BEAT_MS = 1000.0
_STEPS = ("read", "preprocess", "locate", "network", "postprocess", "write")


@refuses_in_one_sentence
def main(
    out: Annotated[Path, typer.Option(callback=checked_table, help="The CSV file to write.")],
    model: Annotated[list[str], typer.Option(help="Models of the server.")] = [DEFAULT_MODEL],  # noqa: B006
    rounds: Annotated[int, typer.Option(min=1, help="Rounds, each of one request for all phases and one for each phase.")] = 3,
    cine: Annotated[list[Path], typer.Option(help="Real cines to time instead of generated hearts.")] = [],  # noqa: B006
    large: Annotated[bool, typer.Option(help="Whether to measure memory on 40 phases of 20 slices of 512 x 512.")] = True,
) -> None:
    """Write one row per way of asking: the median of all rounds, of which each segments the phases of another heart in both ways.

    Slices and phases of a real cine that has fewer than these are repeated, and those that are too many left out. Shares are of the time
    of a request for each phase of the same heart. ``others_ms`` is what networks do not take.
    """
    with tempfile.TemporaryDirectory(prefix="prato_cine_") as folder:
        served = Path(folder) / "studies"
        served.mkdir()
        for n in range(rounds + 1):
            _write_heart(served, n, *(_read(cine[n % len(cine)]) if cine else _generate(n)), _PHASES, _SLICES)
        if large:
            _write_large(served)
        rows: list[dict[str, Any]] = []
        for name in model:
            with DemoServer(copy_app(Path(folder) / name, name), served, Path(folder) / "server.log") as server:
                server.await_costs()
                for row in _time(server, name, rounds):
                    rows.append({"hearts": "real" if cine else "generated", **row})
                if large:
                    rows.append(_weigh(server, name))
    made = {"threads": torch.get_num_threads(), "seed": _SEED, **origin(device_name(default_device()))}
    replace_rows(out, [{**row, **made} for row in rows], ("model", "hearts", "request", "device", "threads"))
    for row in rows:
        typer.echo(", ".join(f"{name} {value}" for name, value in row.items()))


def _generate(n: int) -> tuple[np.ndarray, np.ndarray, float]:
    beat = make_beat(_SEED, n + 1, _PHASES)
    return beat.images, beat.affine, beat.rr_ms


def _read(path: Path) -> tuple[np.ndarray, np.ndarray, float]:
    cine = read_cine(path)
    first = cine.phase(0)
    lasts_ms = _BEAT_MS if cine.times_ms is None else float(cine.times_ms[-1]) * len(cine) / max(1, len(cine) - 1)
    return np.stack([first.array, *(cine.phase(t).array for t in range(1, len(cine)))], -1), first.affine, lasts_ms


def _write_heart(served: Path, n: int, images: np.ndarray, affine: np.ndarray, beat_ms: float, phases: int, slices: int) -> None:
    """A cine, and each of its phases as a study of its own."""
    planes, times = np.arange(slices) % images.shape[2], np.arange(phases) % images.shape[3]
    images = images[:, :, planes][..., times]
    noise = np.random.default_rng(n).integers(0, 2, images.shape)  # what is repeated has to be an image of its own to the server's caches
    images = np.rint(images + noise).astype(np.int16)
    write_cine(served / f"heart{n}.nii.gz", images, affine, beat_ms / phases)
    for t in range(phases):
        write_volume(served / f"heart{n}_frame{t:02d}.nii.gz", images[..., t], affine)


def _write_large(served: Path) -> None:
    phases, slices, edge = _LARGE
    beat = make_beat(0, 1, 1)
    stack = np.resize(beat.images[..., 0].transpose(2, 0, 1), (slices, *beat.images.shape[:2])).transpose(1, 2, 0)
    rows, columns = (np.arange(edge) * n // edge for n in stack.shape[:2])
    volume = stack[rows][:, columns]
    cine = np.broadcast_to(volume[..., None], (*volume.shape, phases))
    write_cine(served / "large.nii.gz", cine, np.diag([0.75, 0.75, 8.0, 1.0]), 25, level=1)


def _time(server: DemoServer, model: str, rounds: int) -> list[dict[str, Any]]:
    """Rows of one request and of many, interleaved; the first heart warms the server up."""
    taken: dict[str, list[dict[str, float]]] = {"one request": [], "a request for each": []}
    for n in range(rounds + 1):
        for what, asked in (
            ("one request", [(f"heart{n}", {"phases": "all"})]),
            ("a request for each", [(f"heart{n}_frame{t:02d}", {}) for t in range(_PHASES)]),
        ):
            start = time.perf_counter()
            replies = [server.infer(model, study, params)[1]["latency_ms"] for study, params in asked]
            whole = 1000 * (time.perf_counter() - start)
            steps = {step: sum(reply[step] for reply in replies) for step in _STEPS}
            networks = steps["locate"] + steps["network"]
            taken[what] += [{"whole": whole, "networks": networks, "others": whole - networks, **steps}] if n else []
    about = {"model": model, "phases": _PHASES, "slices": _SLICES, "rounds": rounds}
    medians = {what: {step: round(median(each[step] for each in of), 1) for step in of[0]} for what, of in taken.items()}
    many = [each["whole"] for each in taken["a request for each"]]
    return [
        {
            **about,
            "request": what,
            "ms": found["whole"],
            "share_of_many": round(median(each["whole"] / whole for each, whole in zip(taken[what], many)), 3),
            "network_share_of_many": round(median(each["networks"] / whole for each, whole in zip(taken[what], many)), 3),
            "others_ms": found["others"],
            "steps_ms": {step: found[step] for step in _STEPS},
        }
        for what, found in medians.items()
    ]


def _weigh(server: DemoServer, model: str) -> dict[str, Any]:
    """The row of the large cine: MiB that the server held before, and at its height."""
    idle = mib(server)["held_mib"]
    watch_height(server)
    start = time.perf_counter()
    server.infer(model, "large", {"phases": "all"})
    phases, slices, edge = _LARGE
    height = mib(server)["height_mib"]
    ms = round(1000 * (time.perf_counter() - start), 1)
    about = {
        "hearts": "generated",
        "model": model,
        "phases": phases,
        "slices": slices,
        "request": f"one request, {edge} x {edge}",
        "ms": ms,
    }
    return {**about, "idle_mib": idle, "height_mib": height, "above_idle_mib": height - idle, "cores": psutil.cpu_count()}


if __name__ == "__main__":
    typer.run(main)
