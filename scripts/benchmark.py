"""Time the ways to segment a slice with a box, side by side in one process: dense, cut to the box, tokens masked, tokens dropped."""

from __future__ import annotations

import json
import platform
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer
from rich.console import Console
from rich.table import Table
from tqdm import tqdm

from prato.checkpoint import CheckpointError, channels_last, load_model
from prato.data.atomic import write_bytes
from prato.data.cases import TrainingCase, labelled_studies, load_training_case
from prato.flops import counted
from prato.prompts import BoxPrompts
from prato.validation import heart_slices
from provenance import command, commit

_MODELS = Path(__file__).parents[1] / "apps" / "prato_label" / "model"
#: Every network here takes images whose sides are multiples of this.
_STEP = 32


def main(
    studies: Annotated[Path, typer.Option(help="Studies folder with labels/final: its slices are what is timed.")],
    out: Annotated[Path, typer.Option(help="The JSON file to write.")],
    model: Annotated[list[str], typer.Option(help="Shipped models or model files.")] = ["prato_unetr", "prato_swin_unetr"],  # noqa: B006
    batch: Annotated[list[int], typer.Option(min=1, help="Slices a call.")] = [1, 8],  # noqa: B006
    edge: Annotated[list[int], typer.Option(min=16, help="Edges of the box, in pixels of the network.")] = [32, 48, 64, 80, 96],  # noqa: B006
    prune: Annotated[str, typer.Option(help="25, 50 or 75; by default each model's own plan.")] = "",
    rounds: Annotated[int, typer.Option(min=3, help="Timed calls of each way.")] = 15,
    threads: Annotated[int, typer.Option(min=1, help="CPU threads.")] = 1,
    device: Annotated[str, typer.Option(help="cpu, cuda or cuda:N.")] = "cpu",
) -> None:
    """Medians and quartiles of interleaved calls, in the largest window, and the GFLOP of one such call."""
    try:
        torch.set_num_threads(threads)
        where = torch.device(device)
        torch.zeros(1, device=where)
        paths = [Path(name) if name.endswith(".safetensors") else _MODELS / f"{name}.safetensors" for name in model]
        networks = {path.stem: load_model(path) for path in paths}
        files = labelled_studies(studies)[:4]
        rows: list[dict[str, Any]] = []
        for name, (network, spec, version) in networks.items():
            plan = spec.pruning_plan()
            if plan is None:
                raise ValueError(f"{name} has no pruning plan: benchmark a model that was trained with one.")
            cases = [case for file in files if (case := load_training_case(file, spec.pixel))]
            if not cases:
                raise ValueError(f"{studies} has no labelled studies: labels belong in its folder labels/final.")
            timer = _Timer(channels_last(network.to(where)), plan.asked(prune or None), spec.window, where, rounds)
            for size in tqdm([(b, e) for b in batch for e in edge if e <= spec.window], desc=name):
                rows += [{"model": name, "model_version": version, **row} for row in timer.measure(cases, *size)]
        result = {
            "rows": rows,
            "device": torch.cuda.get_device_name(where) if where.type == "cuda" else platform.processor() or platform.machine(),
            "threads": threads,
            "rounds": rounds,
            "prune": prune or "the model's plan",
            "commit": commit(),
            "command": command(),
        }
        out.parent.mkdir(parents=True, exist_ok=True)
        write_bytes(out, (json.dumps(result, indent=1) + "\n").encode())
    except (CheckpointError, ValueError, RuntimeError, OSError) as error:
        typer.echo(str(error).splitlines()[0], err=True)
        raise typer.Exit(2) from None
    _show(result)


class _Timer:
    """Times one network, ``rounds`` calls of every way."""

    def __init__(self, network: Any, plan: Any, window: int, device: torch.device, rounds: int) -> None:
        self.network, self.plan, self.window, self.device, self.rounds = network, plan, window, device, rounds

    @torch.inference_mode()
    def measure(self, cases: list[TrainingCase], batch: int, edge: int) -> list[dict[str, Any]]:
        """A row for each way with ``batch`` slices of ``cases`` and a box of ``edge`` pixels round each heart's middle."""
        image = torch.cat([heart_slices(case, self.window)[1] for case in cases])
        image = image[torch.arange(batch) * len(image) // batch].to(self.device).contiguous(memory_format=torch.channels_last)
        low, high = (self.window - edge) / 2, (self.window + edge) / 2
        prompts = BoxPrompts.build([[((low, low), (high, high))]] * batch, (self.window, self.window))
        cut = min(self.window, _STEP * -(-edge // _STEP))
        a = (self.window - cut) // 2
        ways: dict[str, Callable[[], Any]] = {"dense": lambda: self.network.segment(image, None, None)}
        ways["cut to the box"] = lambda: self.network.segment(image[..., a : a + cut, a : a + cut], None, None)
        for name, changed in (
            ("masked", {"mode": "mask", "decode": "all"}),
            ("dropped, decode all", {"mode": "drop", "decode": "all"}),
            ("dropped, decode kept", {"mode": "drop", "decode": "kept"}),
        ):
            plan = replace(self.plan, **changed)
            ways[name] = partial(self.network.segment, image, prompts, plan)
        cost = {name: counted(call)[1] for name, call in ways.items()}  # and warms up
        times: dict[str, list[float]] = {name: [] for name in ways}
        for _ in range(self.rounds):
            for name, call in ways.items():
                times[name].append(self._timed(call))
        dense = float(np.median(times["dense"]))
        return [
            {
                "batch": batch,
                "box_edge": edge,
                "box_area": round((edge / self.window) ** 2, 4),
                "way": name,
                "ms": round(1000 * float(np.median(taken)), 2),
                "ms_quartiles": [round(1000 * float(q), 2) for q in np.percentile(taken, (25, 75))],
                "times_faster_than_dense": round(dense / float(np.median(taken)), 3),
                "gflops": round(cost[name], 3),
            }
            for name, taken in times.items()
        ]

    def _timed(self, call: Callable[[], Any]) -> float:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        start = time.perf_counter()
        call()
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        return time.perf_counter() - start


def _show(result: dict[str, Any]) -> None:
    table = Table(title=f"{result['device']}, {result['threads']} threads, pruning: {result['prune']}")
    for column in ("model", "batch", "box", "way", "ms", "quartiles", "x dense", "GFLOP"):
        table.add_column(column)
    for row in result["rows"]:
        quartiles = "-".join(map(str, row["ms_quartiles"]))
        shown = (row[key] for key in ("model", "batch", "box_edge", "way", "ms"))
        table.add_row(*map(str, shown), quartiles, str(row["times_faster_than_dense"]), str(row["gflops"]))
    Console().print(table)


if __name__ == "__main__":
    typer.run(main)
