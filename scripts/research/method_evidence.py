"""What the pages on the method say of it before any training, counted and measured: scores, thresholds, operations and decoding."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import torch.nn.functional as F
import typer
from torch import Tensor, nn

from prato.data.atomic import make_folder
from prato.data.cases import load_training_case
from prato.data.studies.folder import find_labelled_studies
from prato.models.checkpoint import model_preset
from prato.models.registry import PIXEL, WINDOW
from prato.models.unetr import PratoUNETR
from prato.phantom.frames import make_phantoms
from prato.prompts.batch import PromptBatch
from prato.prompts.box import BoxPrompt
from prato.pruning.plan import PruningPlan
from prato.pruning.prompted_pruning import PromptedPruning
from prato.pruning.relevance import Relevance, relevance
from prato.runtime.flops import count_flops
from prato.training.augmentation import SliceDataset
from scripts.common.arguments import MAX_SEED
from scripts.common.provenance import origin
from scripts.common.refusals import checked_table, refuses_in_one_sentence
from scripts.common.results import Row, write_rows

#: The block whose output is scored, and the bins of the prompted region.
_BLOCK, _K = 4, 5
_FIXED = (0.1, 0.2, 0.3, 0.5)
#: A UNETR of the usual size, the paper's likely host, and stages at which its Table II is met nearly.
_FULL: dict[str, Any] = {"in_channels": 1, "out_channels": 4, "img_size": 256, "feature_size": 16, "norm_name": "batch", "spatial_dims": 2}
_STAGES = ((2, 6, 11), (4, 7, 10))
#: The parts of the file.
RANKS, SPAN, FIXED = "a token in the box outranks one outside", "sigmoid of r", "kept by a fixed threshold"
OPERATIONS, DECODING = "operations", "decoding"


@refuses_in_one_sentence
def main(
    out: Annotated[Path, typer.Option(callback=checked_table, help="The CSV file to write.")],
    slices: Annotated[int, typer.Option(min=1, help="Slices of phantom hearts that are scored, each by a network of its own.")] = 60,
    seed: Annotated[int, typer.Option(min=0, max=MAX_SEED, help="Seed of phantoms, weights and boxes.")] = 0,
) -> None:
    """Nothing here is trained, and no data are needed."""
    torch.set_num_threads(1)
    make_folder(out.parent)  # what cannot be written is said before an hour has gone into it
    with torch.no_grad():
        rows = [*_scores(slices, seed), *_operations(seed), *(_decoding(norm, seed) for norm in ("batch", "instance"))]
    made = {"slices": slices, "seed": seed, **origin()}
    write_rows(out, [{**row, **made} for row in rows])


def _scores(slices: int, seed: int) -> Iterator[Row]:
    """How often a token in the box outranks one outside (chance: 0.5), by what is projected and how, and where sigmoid(r) lies."""
    ranks: dict[str, list[float]] = {}
    spans: list[tuple[float, float]] = []
    kept: dict[float, list[float]] = {tau: [] for tau in _FIXED}
    with tempfile.TemporaryDirectory() as folder:
        make_phantoms(Path(folder) / "hearts", 4, seed)
        cases = [case for each in find_labelled_studies(Path(folder) / "hearts") if (case := load_training_case(each, PIXEL)) is not None]
    samples = SliceDataset(cases, WINDOW, seed, slices, "image")
    for n in range(slices):
        torch.manual_seed(seed * slices + n)
        network = PratoUNETR(**model_preset("unetr").arguments).eval()
        size = (WINDOW, WINDOW)
        prompts = PromptBatch.of(BoxPrompt, [[samples[n]["box"].tolist()]], size)
        tokens, grid = network._embed(samples[n]["image"][None])
        for block in network.vit.blocks[:_BLOCK]:  # type: ignore[index]
            tokens = block(tokens)
        inside = prompts.protected(grid)[0]
        if prompts.is_empty or bool(inside.all()):
            continue
        for name, score in _ways(tokens, grid, prompts):
            pairs = score[inside][:, None] > score[~inside][None]
            ranks.setdefault(name, []).append(float(pairs.float().mean()))
        likely = torch.sigmoid(network.relevance[str(_BLOCK)](tokens, grid, prompts, _K, torch.ones_like(inside)[None])[0])
        spans.append((float(likely.min()), float(likely.max())))
        for tau in _FIXED:
            kept[tau].append(float((likely > tau).float().mean()))
    lowest, highest = min(low for low, _ in spans), max(high for _, high in spans)
    for part, values in (
        (RANKS, {name: float(np.mean(found)) for name, found in ranks.items()}),
        (SPAN, {"lowest": lowest, "highest": highest}),
        (FIXED, {str(tau): float(np.mean(found)) for tau, found in kept.items()}),
    ):
        yield from ({"part": part, "of": name, "value": round(value, 3), "scored": len(spans)} for name, value in values.items())


def _ways(tokens: Tensor, grid: tuple[int, ...], prompts: PromptBatch) -> Iterator[tuple[str, Tensor]]:
    """Relevance (Z,) of ``tokens`` (1, Z, C) with f1 = f2 and with two of their own, of layer-normed and of raw tokens."""
    dim = tokens.shape[-1]
    same = Relevance(dim, 2)
    other = nn.Linear(dim, dim, bias=False)
    nn.init.orthogonal_(other.weight)
    for how, y in (("layer-normed", F.layer_norm(tokens, (dim,))), ("raw", tokens)):
        queries, valid = prompts.queries(y.transpose(1, 2).unflatten(2, grid), _K)
        alive = torch.ones(y.shape[:2], dtype=torch.bool)
        for what, first, second in (
            ("f1 = f2", same.project_prompt, same.project_token),
            ("f1 and f2 apart", same.project_prompt, other),
        ):
            yield f"{how}, {what}", relevance(first(queries), second(y), valid, alive)[0]


def _operations(seed: int) -> Iterator[Row]:
    """GFLOP of one image of 256 pixels through a UNETR of the usual size, by stages, percentile and mode."""
    torch.manual_seed(seed)
    size = (_FULL["img_size"],) * 2
    image, prompts = torch.randn(1, 1, *size), PromptBatch.of(BoxPrompt, [[((40.0, 40.0), (90.0, 90.0))]], size)
    for stages in _STAGES:
        network = PratoUNETR(**_FULL, stages=stages).eval()
        dense = count_flops(partial(network.segment, image, prompts, None))[1]
        yield {"part": OPERATIONS, "of": "dense", "value": round(dense, 2), "after": stages}
        for percentile in (25.0, 50.0, 75.0):
            for mode in ("drop", "mask"):
                plan = PruningPlan(prune_after=stages, percentile=percentile, mode=mode)  # type: ignore[arg-type]
                output, cost = count_flops(partial(network.segment, image, prompts, plan))
                kept = float([*output.kept_fraction().values()][-1])
                counts = {"value": round(cost, 2), "tokens": round(kept, 3)}
                yield {"part": OPERATIONS, "of": mode, "after": stages, "percentile": percentile, **counts}


def _decoding(norm: str, seed: int) -> Row:
    """How far decoding the kept region alone is from decoding the whole image, there: largest difference over the logits' spread."""
    torch.manual_seed(seed)
    network = PratoUNETR(**{**model_preset("unetr").arguments, "norm_name": norm}).eval()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):  # statistics as training leaves them, not those of an identity
            assert module.running_mean is not None and module.running_var is not None
            module.running_mean.normal_(0, 0.2)
            module.running_var.uniform_(0.5, 2.0)
    size = (WINDOW, WINDOW)
    prompts = PromptBatch.of(BoxPrompt, [[((48.0, 48.0), (80.0, 80.0))]], size)
    plan = PruningPlan(prune_after=(_BLOCK,), percentile=99.0, protect_prompted=True)
    image = torch.randn(1, 3, *size)
    whole, part = (network.segment(image, prompts, replace(plan, decode=decode)) for decode in ("all", "kept"))
    kept = replace(plan, decode="kept")
    where = PromptedPruning(network.relevance, kept, prompts, size, stages=list(part.stages)).decoded_region()
    inside = (slice(None), slice(None), *where.slices)
    gap = (whole.logits[inside] - part.logits[inside]).abs().max()
    difference = float(gap / whole.logits[inside].std())
    return {"part": DECODING, "of": norm, "value": difference, "region": round(where.share, 3)}


if __name__ == "__main__":
    typer.run(main)
