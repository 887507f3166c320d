"""Time whole requests: from the prompt that leaves the client to the mask that arrives, over HTTP on a warm server, step by step."""

from __future__ import annotations

import platform
import tempfile
import time
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer
from rich.table import Table
from tqdm import tqdm

from prato.data.cases import read_label
from prato.data.nifti import read_volume, write_volume
from prato.data.studies.folder import StudyFile, find_labelled_studies
from prato.models.registry import DEFAULT_MODEL
from prato.prompts.box import Box
from prato.runtime.devices import device_name
from scripts.bench.cines import Cine, write_cines
from scripts.common.demo_client import DemoServer, copy_app
from scripts.common.provenance import origin
from scripts.common.refusals import checked_table, refuses_in_one_sentence
from scripts.common.results import replace_rows
from scripts.common.tables import print_table

_STEPS = ("read", "locate", "preprocess", "network", "postprocess", "write", "http")
#: Images or patients that are requested first and not timed: a GPU captures its calls when they come a second time.
_WARM = 2
#: Most patients whose cines are timed.
_CINES = 5
_Times = dict[str, float]


@refuses_in_one_sentence
def main(
    studies: Annotated[Path, typer.Option(help="Studies folder with labels/final: its images are sent back and forth.")],
    out: Annotated[Path, typer.Option(callback=checked_table, help="The CSV file to write; rows of other devices in it stay.")],
    model: Annotated[list[str], typer.Option(help="Models of the server.")] = [DEFAULT_MODEL, "prato_unetr"],  # noqa: B006
    slices: Annotated[int, typer.Option(min=1, help="Slices of every image.")] = 10,
    rounds: Annotated[int, typer.Option(min=3, help="Images that are timed, each as new and once with its box moved.")] = 12,
    frames: Annotated[int, typer.Option(min=0, help="Frames of a cine; 0 leaves the cines out.")] = 30,
) -> None:
    """Measure medians and quartiles in ms: an image that is new, another box on the same image, and all frames of a heartbeat."""
    labelled = [f for f in find_labelled_studies(studies) if read_volume(f.image).array.shape[2] >= slices]
    files = labelled[: rounds + _WARM]
    if len(files) < rounds + _WARM:
        raise ValueError(f"{studies} has {len(files)} labelled images of at least {slices} slices: {rounds + _WARM} are needed.")
    with tempfile.TemporaryDirectory() as folder:
        served = Path(folder) / "studies"
        served.mkdir()
        boxes = {f.study: _crop(f, served, slices) for f in tqdm(files, desc="preparing", unit="image")}
        cines = write_cines(labelled, served, slices, frames, min(rounds, _CINES) + _WARM) if frames else []
        app, rows = copy_app(Path(folder) / "app"), []
        for name in model:
            # a server of its own, so that every image is new to it
            with DemoServer(app, served, Path(folder) / "server.log") as server:
                server.await_costs()
                where = server.infer(name, files[0].study, {"roi": list(boxes[files[0].study].bounds)})[1]["device"]
                rows += [*_volume_rows(server, name, boxes), *_cine_rows(server, name, cines)]
    about = {"slices": slices, "frames": frames, "computed_on": where}
    made = {**origin(_name(where))}
    replace_rows(out, [{**row, **about, **made} for row in rows], ("device",))
    _show(rows)


def _crop(file: StudyFile, served: Path, slices: int) -> Box:
    """Put the first ``slices`` slices of an image into the folder ``served``; the box round what of the heart they hold."""
    volume = read_volume(file.image)
    write_volume(served / file.image.name, volume.array[..., :slices], volume.affine)
    label = read_label(file.label, volume)[..., :slices]
    around = Box.around(label > 0) or Box.whole(label.shape)
    return Box((*around.start[:2], 0), (*around.stop[:2], slices))


def _name(where: str) -> str:
    """The device that the server calls ``where``, as its maker names it."""
    return device_name(torch.device(where), platform.processor() or platform.machine())


def _volume_rows(server: DemoServer, model: str, boxes: dict[str, Box]) -> list[dict[str, Any]]:
    times: dict[str, list[_Times]] = {"new image": [], "box moved": []}
    for study, box in tqdm(boxes.items(), desc=model, unit="image"):
        moved = Box((box.start[0] + 2, box.start[1] + 2, 0), box.stop)
        for what, roi in (("new image", box), ("box moved", moved)):
            times[what].append(_timed(server, model, [study], roi))
    return _rows(model, times)


def _cine_rows(server: DemoServer, model: str, cines: list[Cine]) -> list[dict[str, Any]]:
    times: dict[str, list[_Times]] = {"cine of a slice": [], "cine of a stack": []}
    for cine in tqdm(cines, desc=f"{model}, cines", unit="patient"):
        times["cine of a slice"].append(_timed(server, model, [cine.slice], cine.slice_box))
        times["cine of a stack"].append(_timed(server, model, cine.stacks, cine.stack_box))
    return _rows(model, times) if cines else []


def _timed(server: DemoServer, model: str, studies: list[str], roi: Box) -> _Times:
    """ms from the first prompt sent to the last mask received, one study after another; those of the steps are sums."""
    params = {"roi": list(roi.bounds)}
    start = time.perf_counter()
    replies = [server.infer(model, study, params)[1]["latency_ms"] for study in studies]
    whole = 1000 * (time.perf_counter() - start)
    steps = {step: sum(reply[step] for reply in replies) for step in replies[0]}
    return {**steps, "http": whole - steps["total"], "whole": whole}


def _rows(model: str, times: dict[str, list[_Times]]) -> list[dict[str, Any]]:
    return [{"model": model, "request": what, **_medians(taken[_WARM:])} for what, taken in times.items()]


def _medians(taken: list[_Times]) -> dict[str, Any]:
    whole = [each["whole"] for each in taken]
    low, high = (round(float(q), 1) for q in np.percentile(whole, (25, 75)))
    steps = {step: round(float(np.median([each[step] for each in taken])), 1) for step in _STEPS}
    return {"ms": round(float(np.median(whole)), 1), "ms_q25": low, "ms_q75": high, "requests": len(taken), "steps_ms": steps}


def _show(rows: list[dict[str, Any]]) -> None:
    table = Table(title="ms a request")
    for column in ("model", "request", "whole", "quartiles", *_STEPS):
        table.add_column(column)
    for row in rows:
        steps = (str(row["steps_ms"][step]) for step in _STEPS)
        table.add_row(row["model"], row["request"], str(row["ms"]), f"{row['ms_q25']}-{row['ms_q75']}", *steps)
    print_table(table)


if __name__ == "__main__":
    typer.run(main)
