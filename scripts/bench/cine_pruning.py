"""What pruning saves of a whole cine in one call of the predictor: the network's time with the plan and without, boxes taking turns.

    python scripts/bench/cine_pruning.py --packed acdc.zip --model apps/prato_label/model/prato_overview_unet.safetensors \\
        --out docs/results/cine_pruning.csv

Cines are blended from the labelled frames of validation patients, packed at the network's resolution, and new to the predictor each time.
"""

from __future__ import annotations

import json
import tempfile
import time
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import typer
from tqdm import tqdm

from prato.data.cine import read_cine, write_cine
from prato.evaluation.box_conditions import BoxCondition
from prato.inference.cine_predictor import predict_cine
from prato.inference.predictor import Predictor
from prato.prompts.box import BoxPrompt
from prato.training.slice_bank import load_packed
from scripts.common.paths import RESULTS
from scripts.common.provenance import command, commit
from scripts.common.refusals import checked_table
from scripts.common.results import Row, replace_rows
from scripts.research.stacks import Stack, first_slices, load_stacks

#: Which boxes with which pruning.
WAYS = [(box, "") for box in BoxCondition] + [(BoxCondition.tight, "off"), (BoxCondition.none, "off")]


def main(
    packed: Annotated[Path, typer.Option(help="File that prato.training.slice_bank.save_packed wrote.")],
    model: Annotated[Path, typer.Option(help="Model file.")],
    out: Annotated[Path, typer.Option(callback=checked_table, help="The CSV file to write.")],
    split: Annotated[Path, typer.Option(help="Split file: its validation patients are measured.")] = RESULTS / "acdc_split.json",
    most: Annotated[int, typer.Option(min=1, help="Maximum number of cines.")] = 4,
    phases: Annotated[int, typer.Option(min=2, help="Phases of each cine.")] = 30,
    slices: Annotated[int, typer.Option(min=1, help="Slices of each cine.")] = 10,
    threads: Annotated[int, typer.Option(min=1, help="CPU threads.")] = 1,
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
    at: Annotated[str, typer.Option("--commit", help="Commit that the rows name, where there is no checkout.")] = "",
) -> None:
    """Write one row per cine, box and pruning: milliseconds of the network and of the whole call, GFLOP."""
    try:
        torch.set_num_threads(threads)
        bank = load_packed(packed, torch.device("cpu"), json.loads(split.read_text(encoding="utf-8"))["validation"])
        pairs = heartbeats(load_stacks(bank), slices)[:most]
        predictor = Predictor.from_files(model, device=device)
        made: Row = {"phases": phases, "slices": slices, "threads": threads}
        made |= {"device": torch.cuda.get_device_name() if device == "cuda" else device, "commit": at or commit(), "command": command()}
        rows: list[Row] = []
        for number, pair in enumerate(tqdm([pairs[0], *pairs], unit="cine")):  # whatever is made at the first calls: twice the first
            for box, prune in WAYS[number % len(WAYS) :] + WAYS[: number % len(WAYS)]:
                row = measure(predictor, pair, box, prune, phases)
                if number:
                    rows.append({"model": model.stem, "model_version": predictor.version, **row, **made})
        replace_rows(out, rows, ("model", "box", "prune", "threads", "device"))
    except (ValueError, RuntimeError, OSError) as error:
        typer.echo(str(error).splitlines()[0], err=True)
        raise typer.Exit(2) from None


def heartbeats(stacks: list[Stack], slices: int) -> list[tuple[Stack, Stack]]:
    """The two labelled frames of each patient, cut to so many slices, where both have one shape.

    Raises:
        ValueError: of no patient.
    """
    of_patient: dict[str, list[Stack]] = {}
    for stack in stacks:
        of_patient.setdefault(stack.name.rpartition(":")[0], []).append(first_slices(stack, slices))
    pairs = [(found[0], found[1]) for found in of_patient.values() if len(found) == 2 and found[0].label.shape == found[1].label.shape]
    if not pairs:
        raise ValueError("no validation patient has two frames of one shape: pack both of each.")
    return pairs


def measure(predictor: Predictor, pair: tuple[Stack, Stack], box: BoxCondition, prune: str, phases: int) -> Row:
    """One call for a heartbeat between the frames of ``pair`` and back; the box is drawn round the first."""
    first, last = (stack.image[:, 1].permute(1, 2, 0).numpy() + 1 for stack in pair)
    shares = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(phases) / phases)
    beat = np.stack([(1 - share) * first + share * last for share in shares], -1)
    drawn = pair[0].draw(box)
    with tempfile.TemporaryDirectory(prefix="prato_cine_") as folder:
        path = Path(folder) / "beat.nii.gz"
        write_cine(path, (1000 * beat).astype(np.int16), np.diag([predictor.segmenter.spec.pixel] * 2 + [10.0, 1.0]), 30, level=1)
        cine = read_cine(path)
        began = time.perf_counter()
        found = predict_cine(predictor, cine, prompts=() if drawn is None else (BoxPrompt(drawn),), prune=prune or None)
    took = 1000 * (time.perf_counter() - began)
    parts = {part: round(sum(each.latency_ms.get(part, 0.0) for each in found.predictions), 2) for part in ("locate", "network")}
    gflops = round(sum(each.gflops for each in found.predictions), 1)
    row: Row = {"box": box.value, "prune": prune or "plan", "study": pair[0].name, "ms": {**parts, "all": round(took, 1)}}
    return row | {"gflops": gflops}


if __name__ == "__main__":
    typer.run(main)
