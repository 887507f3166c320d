"""How much memory a server takes with all shipped models loaded, and at the peak of a request, up to a long stack without pruning.

python scripts/bench/server_memory.py --studies out/acdc --out docs/results/server_memory.csv
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import psutil
import typer
from scipy import ndimage

from prato.data.nifti import Volume, read_volume, write_volume
from prato.data.studies.folder import find_labelled_studies
from prato.models.registry import DEFAULT_MODEL
from prato.runtime.devices import default_device, device_name
from scripts.common.demo_client import DemoServer, copy_app
from scripts.common.paths import MODELS
from scripts.common.provenance import origin
from scripts.common.refusals import checked_table, refuses_in_one_sentence
from scripts.common.results import replace_rows

#: What is asked of every model, by name.
_ORDINARY: tuple[tuple[str, dict[str, Any]], ...] = (("no box", {}), ("no box, off", {"prune": "off"}))
#: Slices, and voxels along both sides, of the long stack that is made of a study.
_LONG = (40, 512)


@refuses_in_one_sentence
def main(
    studies: Annotated[Path, typer.Option(help="Studies folder with labels/final; its first study is segmented.")],
    out: Annotated[Path, typer.Option(callback=checked_table, help="The CSV file to write.")],
) -> None:
    """Write one row per request: MiB that the server holds after it, and at its peak."""
    files = find_labelled_studies(studies)
    if not files:
        raise ValueError(f"{studies} has no labelled studies: labels belong in its folder labels/final.")
    with tempfile.TemporaryDirectory(prefix="prato_memory_") as folder:
        served = Path(folder) / "studies"
        served.mkdir()
        shutil.copy(files[0].image, served / "heart.nii.gz")
        long = _lengthen(read_volume(files[0].image))
        write_volume(served / "long.nii.gz", long.array, long.affine)
        with DemoServer(copy_app(Path(folder) / "app"), served, Path(folder) / "server.log") as server:
            server.await_costs()
            rows = list(_measure(server))
    made = {"threads": psutil.cpu_count(), **origin(device_name(default_device()))}
    replace_rows(out, [{**row, **made} for row in rows], ("request", "device"))
    for row in rows:
        typer.echo(", ".join(f"{name} {value}" for name, value in row.items()))


def _measure(server: DemoServer) -> Iterator[dict[str, Any]]:
    yield {"request": "all models loaded", **mib(server)}
    for model in sorted(path.stem for path in MODELS.glob("*.safetensors")):
        for name, params in _ORDINARY:
            yield {"request": f"{model}, {name}", **_ask(server, model, "heart", params)}
    count, edge = _LONG
    whole = {"prune": "off", "roi": [0, edge, 0, edge, 0, count]}
    for name, params in (*_ORDINARY[:1], ("all of it, off", whole)):
        yield {"request": f"{DEFAULT_MODEL}, {count} slices of {edge} x {edge}, {name}", **_ask(server, DEFAULT_MODEL, "long", params)}


def _ask(server: DemoServer, model: str, study: str, params: dict[str, Any]) -> dict[str, Any]:
    watch_height(server)
    _, reply = server.infer(model, study, params)
    return {**mib(server), "seconds": round(reply["latency_ms"]["total"] / 1000, 1)}


def watch_height(server: DemoServer) -> None:
    """From now on the server's height begins anew."""
    Path(f"/proc/{server.process.pid}/clear_refs").write_text("5")


def mib(server: DemoServer) -> dict[str, int]:
    """Memory of the server now and at its height since that was begun anew."""
    lines = Path(f"/proc/{server.process.pid}/status").read_text().splitlines()
    found = {line.split(":")[0]: int(line.split()[1]) for line in lines if line.startswith(("VmRSS", "VmHWM"))}
    return {"held_mib": found["VmRSS"] // 1024, "height_mib": found["VmHWM"] // 1024}


def _lengthen(volume: Volume) -> Volume:
    """A stack of :data:`_LONG` voxels of 1.5 mm in plane, with the slices of ``volume`` (its last axis) in it again and again."""
    count, edge = _LONG
    size = volume.array.shape
    wide = ndimage.zoom(volume.array.astype(np.float32), (edge / size[0], edge / size[1], 1), order=1)
    return Volume(np.resize(wide.transpose(2, 0, 1), (count, edge, edge)).transpose(1, 2, 0), np.diag([1.5, 1.5, volume.spacing[2], 1.0]))


if __name__ == "__main__":
    typer.run(main)
