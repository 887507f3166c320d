"""Time whole requests: from the prompt that leaves the client to the mask that arrives, over HTTP on a warm server, step by step."""

from __future__ import annotations

import json
import platform
import tempfile
import time
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from rich.console import Console
from rich.table import Table
from tqdm import tqdm

from demo_client import DemoServer, ServerError, copied_app
from prato.box import Box
from prato.data.atomic import write_bytes
from prato.data.cases import StudyFile, labelled_studies, read_label
from prato.data.nifti import VolumeError, read_volume, write_volume
from provenance import command, commit

_STEPS = ("read", "locate", "preprocess", "network", "postprocess", "write", "http")


def main(
    studies: Annotated[Path, typer.Option(help="Studies folder with labels/final: its images are sent back and forth.")],
    out: Annotated[Path, typer.Option(help="The JSON file to write.")],
    model: Annotated[list[str], typer.Option(help="Models of the server.")] = ["prato_unetr", "prato_swin_unetr"],  # noqa: B006
    slices: Annotated[int, typer.Option(min=1, help="Slices of every image.")] = 10,
    rounds: Annotated[int, typer.Option(min=3, help="Images, each asked for once as new and once with its box moved.")] = 12,
) -> None:
    """Medians and quartiles in ms: an image seen for the first time, and another box on the same image."""
    try:
        files = [f for f in labelled_studies(studies) if read_volume(f.image).array.shape[2] >= slices][:rounds]
        if len(files) < rounds:
            raise ValueError(f"{studies} has {len(files)} labelled images of at least {slices} slices: ask for fewer --rounds or --slices.")
        with tempfile.TemporaryDirectory() as folder:
            served = Path(folder) / "studies"
            served.mkdir()
            boxes = {f.study: _cropped(f, served, slices) for f in tqdm(files, desc="preparing", unit="image")}
            with DemoServer(copied_app(Path(folder) / "app"), served, Path(folder) / "server.log") as server:
                server.await_costs()
                rows = [row for name in model for row in _measured(server, name, boxes)]
        device = platform.processor() or platform.machine()
        result = {"rows": rows, "device": device, "slices": slices, "commit": commit(), "command": command()}
        out.parent.mkdir(parents=True, exist_ok=True)
        write_bytes(out, (json.dumps(result, indent=1) + "\n").encode())
    except (ServerError, VolumeError, ValueError, OSError) as error:
        typer.echo(str(error).splitlines()[0], err=True)
        raise typer.Exit(2) from None
    _show(rows)


def _cropped(file: StudyFile, served: Path, slices: int) -> Box:
    """Put the first ``slices`` slices of an image into the folder ``served``; the box round what of the heart they hold."""
    volume = read_volume(file.image)
    write_volume(served / file.image.name, volume.array[..., :slices], volume.affine)
    label = read_label(file.label, volume)[..., :slices]
    around = Box.around(label > 0) or Box.whole(label.shape)
    return Box((*around.start[:2], 0), (*around.stop[:2], slices))


def _measured(server: DemoServer, model: str, boxes: dict[str, Box]) -> list[dict[str, Any]]:
    warm = next(iter(boxes))
    server.infer(model, warm, {"roi": list(boxes[warm].bounds)})
    times: dict[str, list[dict[str, float]]] = {"new image": [], "box moved": []}
    for study, box in tqdm(list(boxes.items())[1:], desc=model, unit="image"):
        moved = Box((box.start[0] + 2, box.start[1] + 2, 0), box.stop)
        for what, roi in (("new image", box), ("box moved", moved)):
            start = time.perf_counter()
            _, reply = server.infer(model, study, {"roi": list(roi.bounds)})
            whole = 1000 * (time.perf_counter() - start)
            steps = reply["latency_ms"]
            times[what].append({**steps, "http": whole - steps["total"], "whole": whole})
    return [{"model": model, "request": what, **_summed(taken)} for what, taken in times.items()]


def _summed(taken: list[dict[str, float]]) -> dict[str, Any]:
    whole = [each["whole"] for each in taken]
    quartiles = [round(float(q), 1) for q in np.percentile(whole, (25, 75))]
    steps = {step: round(float(np.median([each[step] for each in taken])), 1) for step in _STEPS}
    return {"ms": round(float(np.median(whole)), 1), "ms_quartiles": quartiles, "requests": len(taken), "steps_ms": steps}


def _show(rows: list[dict[str, Any]]) -> None:
    table = Table(title="ms a request")
    for column in ("model", "request", "whole", "quartiles", *_STEPS):
        table.add_column(column)
    for row in rows:
        steps = (str(row["steps_ms"][step]) for step in _STEPS)
        table.add_row(row["model"], row["request"], str(row["ms"]), "-".join(map(str, row["ms_quartiles"])), *steps)
    Console().print(table)


if __name__ == "__main__":
    typer.run(main)
