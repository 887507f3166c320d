"""Time the ways to segment slices with a box, side by side in one process: dense, cut to the box, tokens masked or dropped, the engine."""

from __future__ import annotations

import platform
from dataclasses import replace
from enum import Enum
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from rich.console import Console
from rich.table import Table
from tqdm import tqdm

from prato.data.cases import TrainingCase, load_training_case
from prato.data.studies.folder import find_labelled_studies
from prato.evaluation.validation import heart_slices
from prato.models.checkpoint import CheckpointError, ModelSpec, channels_last, load_model
from prato.models.convert_state_dict import convert_state_dict
from prato.models.registry import WINDOW
from prato.prompts.batch import PromptBatch
from prato.prompts.box import BoxPrompt
from prato.pruning.plan import PruningPlan
from prato.runtime.devices import device_name, find_device
from scripts.bench.peers import peer_rows
from scripts.bench.timing import fold_norms, make_calls, time_interleaved, time_shares, with_dtype
from scripts.bench.volumes import volume_rows
from scripts.common.model_files import model_file
from scripts.common.provenance import origin
from scripts.common.results import replace_rows

#: Every network here takes images whose sides are multiples of this.
_STEP = 32
#: The engine's context round the box, in pixels: scripts/research/token_study.py found no more to be worth anything.
MARGIN = 8.0


class Dtype(str, Enum):
    """Kinds of numbers."""

    float32 = "float32"
    bfloat16 = "bfloat16"
    float16 = "float16"

    @property
    def torch(self) -> torch.dtype:
        """Torch's object of that name."""
        found: torch.dtype = getattr(torch, self.value)
        return found


def main(
    studies: Annotated[Path, typer.Option(help="Studies folder with labels/final: its slices are what is timed.")],
    out: Annotated[Path, typer.Option(help="Folder of benchmark.csv, benchmark_parts.csv, benchmark_peers.csv; rows of other names stay.")],
    name: Annotated[str, typer.Option(help="Name of the rows in these files.")] = "mine",
    model: Annotated[list[str], typer.Option(help="Shipped models or model files.")] = ["prato_unetr", "prato_swin_unetr"],  # noqa: B006
    batch: Annotated[list[int], typer.Option(min=1, help="Slices per call.")] = [1, 8],  # noqa: B006
    edge: Annotated[list[int], typer.Option(min=16, help="Edges of the box, in pixels of the network.")] = [32, 48, 64, 80, 96],  # noqa: B006
    window: Annotated[
        int, typer.Option(min=64, help="Edge of the image in pixels of the network; 192 (288 mm) shows a whole slice.")
    ] = 192,
    prune: Annotated[str, typer.Option(help="25, 50 or 75; by default each model's own plan, and 75 for the engine.")] = "",
    rounds: Annotated[int, typer.Option(min=0, help="Timed calls of each way; 0 leaves 2D out.")] = 15,
    volumes: Annotated[int, typer.Option(min=0, help="Timed calls of each way in 3D; 0 leaves 3D out.")] = 0,
    peers: Annotated[int, typer.Option(min=0, help="Studies that others' models segment too; 0 leaves them out.")] = 0,
    split: Annotated[Path | None, typer.Option(help="Split file: others' models see only its validation patients.")] = None,
    threads: Annotated[int, typer.Option(min=1, help="CPU threads.")] = 1,
    device: Annotated[str, typer.Option(help="cpu, cuda or cuda:N.")] = "cpu",
    dtype: Annotated[list[Dtype], typer.Option(help="Precision on a GPU; the app computes in float16.")] = [Dtype.float16],  # noqa: B006
) -> None:
    """Measure medians and quartiles of interleaved calls, and the GFLOP of one such call.

    dense: the whole image. cut to the box: nothing but the box (edges that are multiples of 32). norms folded: the same with batch norms
    made part of the convolutions, as the engine has them. window at the box: the box and its surroundings,
    as the app sees them, dense or with the model's plan. masked, dropped: tokens of the whole image, by the model's plan.
    engine: on the whole image, tokens far from the box never enter, 75 % of the others leave after the first block or stage, and only what
    is kept is decoded. On a GPU each of these but the masked stands there also captured as a CUDA graph, as the app calls it. The weights
    are those of the model files, whatever the size of the image: times depend on the size alone.
    """
    try:
        if window % _STEP:
            raise ValueError(f"--window must be a multiple of {_STEP} pixels, such as 192, not {window}.")
        torch.set_num_threads(threads)
        where = find_device(device)
        kinds = dtype if where.type == "cuda" else [Dtype.float32]
        paths = [model_file(name) for name in model]
        networks = {path.stem: load_model(path) for path in paths}
        files = find_labelled_studies(studies)[:4]
        rows: list[dict[str, Any]] = []
        parts: list[dict[str, Any]] = []
        for model_name, (network, spec, version) in networks.items() if rounds else ():
            plan = spec.pruning_plan()
            if plan is None:
                raise ValueError(f"{model_name} has no pruning plan: benchmark a model that was trained with one.")
            cases = [case for file in files if (case := load_training_case(file, spec.pixel))]
            if not cases:
                raise ValueError(f"{studies} has no labelled studies: labels belong in its folder labels/final.")
            wide = channels_last(widen_network(network, spec, window).to(where))
            for kind in kinds:
                timer = _Timer(wide, plan.with_override(prune or None) or plan, float(prune or 75), window, where, rounds, kind.torch)
                for size in tqdm([(b, e) for b in batch for e in edge if e <= window], desc=f"{model_name}, {kind.value}"):
                    described = {"model": model_name, "model_version": version, "dtype": kind.value}
                    rows += [{**described, **row} for row in timer.measure(cases, *size)]
                cut = timer.parts(cases, edge[len(edge) // 2]) if 1 in batch else []
                parts += [{"model": model_name, "dtype": kind.value, **row} for row in cut]
        for kind in kinds if volumes else ():
            rows += [{**row, "dtype": kind.value} for row in volume_rows(max(volumes, 3), where, kind.torch)]
        about = {"window": window, "rounds": rounds, "pruning": prune or "the model's plan"}
        where_run = device_name(where, platform.processor() or platform.machine())
        made = {"threads": threads, **origin(where_run)}
        found = peer_rows(studies, split, peers, paths) if peers else []
        for file, measured, more in (("benchmark", rows, about), ("benchmark_parts", parts, about), ("benchmark_peers", found, {})):
            if measured:
                replace_rows(out / f"{file}.csv", [{"benchmark": name, **row, **more, **made} for row in measured], ("benchmark",))
    except (CheckpointError, ValueError, RuntimeError, OSError) as error:
        typer.echo(str(error).splitlines()[0], err=True)
        raise typer.Exit(2) from None
    _show(f"{where_run}, {threads} threads, pruning: {about['pruning']}", rows, [*parts, *found])


def widen_network(network: Any, spec: ModelSpec, window: int) -> Any:
    """``network`` for images of ``window`` pixels, able to prune after its first block or stage."""
    plan = spec.pruning_plan()
    arguments = {**spec.arguments, "stages": sorted({1, *spec.arguments.get("stages", ()), *(plan.prune_after if plan else ())})}
    if "img_size" in arguments:
        arguments["img_size"] = window
    wide = spec.model_copy(update={"arguments": arguments}).build().eval()
    wide.load_state_dict(convert_state_dict(network.state_dict(), wide))
    return wide


class _Timer:
    """Times one network, ``rounds`` calls of every way."""

    def __init__(
        self, network: Any, plan: PruningPlan, percentile: float, window: int, device: torch.device, rounds: int, dtype: torch.dtype
    ) -> None:
        self.network, self.plan, self.window, self.device, self.rounds = network, plan, window, device, rounds
        self.dtype, self.folded = dtype, fold_norms(network)
        self.engine = replace(
            plan,
            prune_after=(1,),
            percentile=percentile,
            threshold=None,
            mode="drop",
            decode="kept",
            protect_prompted=True,
            margin=MARGIN,
        )

    @torch.inference_mode()
    def measure(self, cases: list[TrainingCase], batch: int, edge: int) -> list[dict[str, Any]]:
        """A row for each way with ``batch`` slices of ``cases`` and a box of ``edge`` pixels round each heart's middle."""
        image = self._image(cases, batch)
        prompts = self._prompts(batch, edge, self.window)
        close = min(self.window, WINDOW)
        in_near = self._prompts(batch, edge, close)
        cut, near = self._middle(image, min(self.window, _STEP * -(-edge // _STEP))), self._middle(image, close)
        ways: dict[str, tuple[Any, ...]] = {
            "dense": (self.network, image, None, None),
            "dense, norms folded": (self.folded, image, None, None),
            "cut to the box": (self.network, cut, None, None),
            "cut to the box, norms folded": (self.folded, cut, None, None),
            "window at the box, dense": (self.network, near, None, None),
            "window at the box, plan": (self.network, near, in_near, replace(self.plan, mode="drop", decode="kept")),
            "masked": (self.network, image, prompts, replace(self.plan, mode="mask", decode="all")),
            "dropped, decode all": (self.network, image, prompts, replace(self.plan, mode="drop", decode="all")),
            "dropped, decode kept": (self.network, image, prompts, replace(self.plan, mode="drop", decode="kept")),
            "engine": (self.network, image, prompts, self.engine),
        }
        calls = make_calls(ways, self.device, self.dtype)
        gone = {"tokens_dropped": round(1.0 - float(calls["engine"]().stages[-1].alive.float().mean()), 3)}
        size = {"batch": batch, "box_edge": edge, "box_area": round((edge / self.window) ** 2, 4)}
        rows = time_interleaved(calls, self.rounds, self.device)
        return [{**size, **row, **(gone if row["way"].startswith("engine") else {})} for row in rows]

    @torch.inference_mode()
    def parts(self, cases: list[TrainingCase], edge: int) -> list[dict[str, Any]]:
        """Where one slice's time goes, with the engine and where its first block sees all tokens, as a model of whole slices has it."""
        image, prompts = self._image(cases, 1), self._prompts(1, edge, self.window)
        first = replace(self.engine, margin=None)  # its image's embedding: patches, and the first block or stage on all of them
        plans = {"engine": self.engine, "engine without stage 0": first}
        return [
            {
                "way": name,
                "box_edge": edge,
                "ms": time_shares(
                    self.network,
                    make_calls({name: (self.network, image, prompts, plan)}, self.device, self.dtype)[name],
                    with_dtype(lambda: self.network.encode_image(image, first), self.device, self.dtype),
                    self.rounds,
                    self.device,
                ),
            }
            for name, plan in plans.items()
        ]

    def _image(self, cases: list[TrainingCase], batch: int) -> torch.Tensor:
        image = torch.cat([heart_slices(case, self.window)[1] for case in cases])
        return image[torch.arange(batch) * len(image) // batch].to(self.device).contiguous(memory_format=torch.channels_last)

    @staticmethod
    def _prompts(batch: int, edge: int, size: int) -> PromptBatch:
        low, high = (size - edge) / 2, (size + edge) / 2
        return PromptBatch.of(BoxPrompt, [[((low, low), (high, high))]] * batch, (size, size))

    @staticmethod
    def _middle(image: torch.Tensor, size: int) -> torch.Tensor:
        a = (image.shape[-1] - size) // 2
        return image[..., a : a + size, a : a + size].contiguous(memory_format=torch.channels_last)


def _show(title: str, rows: list[dict[str, Any]], more: list[dict[str, Any]]) -> None:
    table = Table(title=title)
    for column in ("model", "batch", "box", "way", "ms", "quartiles", "x dense", "GFLOP"):
        table.add_column(column)
    for row in rows:
        shown = (row[key] for key in ("model", "batch", "box_edge", "way", "ms"))
        quartiles = f"{row['ms_q25']}-{row['ms_q75']}"
        table.add_row(*map(str, shown), quartiles, str(row["times_faster_than_dense"]), str(row["gflops"]))
    console = Console()
    console.print(table)
    for row in more:
        console.print(row)


if __name__ == "__main__":
    typer.run(main)
