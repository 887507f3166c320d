"""Count the least that decoding a box exactly costs, beside a network that sees nothing but the box: why a crop is cheaper."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import torch
import typer

from prato.models.checkpoint import CheckpointError, load_model
from prato.prompts.batch import PromptBatch
from prato.prompts.box import BoxPrompt
from prato.pruning.prompted_pruning import PromptedPruning
from prato.runtime.flops import count_flops
from prato.runtime.region import Region
from scripts.bench.benchmark import MARGIN, widen_network
from scripts.common.model_files import model_file
from scripts.common.provenance import origin
from scripts.common.refusals import checked_table
from scripts.common.results import write_rows

_IMAGE, _STEP = 192, 32


def main(
    out: Annotated[Path, typer.Option(callback=checked_table, help="The CSV file to write.")],
    edge: Annotated[list[int], typer.Option(min=16, help="Edges of the box, in pixels.")] = [32, 64, 96],  # noqa: B006
) -> None:
    """Count the GFLOP of a slice of 192 pixels: the crop, the engine, the engine without context, and decoding the box alone.

    Noise instead of an image and seed 0: how much is computed depends on the box alone.
    """
    try:
        rows = [_row(name, size) for name in ("prato_unetr", "prato_swin_unetr") for size in edge]
        made = {"image": _IMAGE, "seed": 0, **origin()}
        write_rows(out, [{**row, **made} for row in rows])
    except (CheckpointError, ValueError, OSError) as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(2) from None


@torch.inference_mode()
def _row(name: str, edge: int) -> dict[str, Any]:
    network, spec, _ = load_model(model_file(name))
    plan = spec.pruning_plan()
    if plan is None:
        raise ValueError(f"{name} has no pruning plan: name a model that was trained with one.")
    wide, size = widen_network(network, spec, _IMAGE), (_IMAGE,) * 2
    low, high = (_IMAGE - edge) // 2, (_IMAGE + edge) // 2
    prompts = PromptBatch.of(BoxPrompt, [[((low,) * 2, (high,) * 2)]], size)
    image = torch.randn(1, 3, *size, generator=torch.Generator().manual_seed(0))
    near = replace(
        plan,
        prune_after=(1,),
        percentile=75.0,
        threshold=None,
        mode="drop",
        decode="kept",
        protect_prompted=True,
        margin=MARGIN,
    )
    tight = replace(near, margin=0.0)
    encoded = wide.encode(image, wide.encode_image(image, tight), PromptedPruning(wide.relevance, tight, prompts, size))
    cut = _STEP * -(-edge // _STEP)
    crop = image[..., :cut, :cut].contiguous()
    calls = {
        "crop": lambda: wide.segment(crop, None, None),
        "engine": lambda: wide.segment(image, prompts, near),
        "engine, no context": lambda: wide.segment(image, prompts, tight),
        "decoding the box alone": lambda: wide.decode(image, encoded, Region((low,) * 2, (high,) * 2, size)),
    }
    return {"model": name, "box_edge": edge, "gflops": {way: round(count_flops(call)[1], 4) for way, call in calls.items()}}


if __name__ == "__main__":
    typer.run(main)
