"""A trained network on the test cases: scores, cost and what it kept; and the slices that the figures show."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from prato.data.atomic import make_folder, write_bytes
from prato.evaluation.metrics import case_metrics
from prato.models.checkpoint import channels_last
from prato.prompts.batch import PromptBatch
from prato.prompts.box import BoxPrompt
from prato.pruning.plan import PruningPlan
from prato.pruning.record import PrunedOutput
from prato.runtime.devices import synchronise
from prato.runtime.flops import count_flops
from scripts.research.datasets.base import EvalCase
from scripts.research.experiments.query_weights import QueryWeights

_METRICS = ("dice", "iou", "hd95")
#: Slices in one call, as the server's.
_BATCH = 16
#: Cases that figures show.
_SHOWN = 4


def measure(
    network: Any,
    plan: PruningPlan | None,
    cases: Sequence[EvalCase],
    device: torch.device,
    first_tokens: float,
    report: Callable[[int, int], object] = lambda done, total: None,
) -> tuple[list[dict[str, Any]], list[float], dict[str, np.ndarray]]:
    """Rows of all ``cases``, the share of tokens that each stage let on (mean over slices), and the arrays of the figures.

    Args:
        network: in evaluation mode. plan: what it prunes.
        first_tokens: share of the whole image's tokens that the network begins with; 1 but for a cut image.
    """
    network = channels_last(network.to(device))
    shown = set(sorted((case.case for case in cases), key=lambda name: hashlib.sha256(name.encode()).hexdigest())[:_SHOWN])
    rows, density, pictures = [], [], []
    for done, case in enumerate(cases, start=1):
        outputs, gflops = [], 0.0
        with QueryWeights(network, plan) as queries:
            for first in range(0, len(case.image), _BATCH):
                output, cost = _run(network, plan, case.image[first : first + _BATCH], case.box, device)
                gflops += cost
                outputs.append(output)
        count = len(case.image)
        mask = case.native(torch.nan_to_num(torch.cat([o.logits for o in outputs]).float().cpu()))
        kept = [first_tokens * share for share in _kept_shares(outputs)]
        density.append(kept)
        row = _score(case, mask)
        row |= {"gflops": round(gflops / count, 5), "tokens": kept[-1] if kept else first_tokens}
        rows.append(row)
        if case.case in shown:
            pictures.append(_figure_arrays(case, mask, outputs, queries))
        report(done, len(cases))
    # a box outside the network's window is no prompt: such a case keeps all its tokens, and names no stage
    stages = range(max(len(kept) for kept in density))
    by_stage = [round(float(np.mean([kept[s] if kept else first_tokens for kept in density])), 4) for s in stages]
    common = [name for name in pictures[0] if all(name in p for p in pictures)]
    return rows, by_stage, {name: np.stack([p[name] for p in pictures]) for name in common}


def means(rows: Sequence[dict[str, Any]]) -> dict[str, float | None]:
    """Over cases and structures; HD95 over those where both masks hold something."""
    found: dict[str, float | None] = {}
    for metric in _METRICS:
        values = [value for row in rows for value in row[metric].values() if value is not None]
        found[metric] = round(float(np.mean(values)), 4) if values else None
    return found | {key: round(float(np.mean([row[key] for row in rows])), 4) for key in ("gflops", "tokens")}


def write_pictures(path: Path, arrays: dict[str, np.ndarray]) -> None:
    """The arrays as a compressed .npz file."""
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)  # type: ignore[arg-type]
    make_folder(path.parent)
    write_bytes(path, buffer.getvalue())


@torch.inference_mode()
def _run(network: Any, plan: PruningPlan | None, image: Tensor, box: np.ndarray, device: torch.device) -> tuple[PrunedOutput, float]:
    prompts = PromptBatch.of(BoxPrompt, [[box.tolist()]] * len(image), image.shape[2:])
    image = image.to(device).contiguous(memory_format=torch.channels_last)
    output, gflops = count_flops(lambda: network.segment(image, prompts, plan))
    synchronise(device)
    return output, gflops


def _kept_shares(outputs: Sequence[PrunedOutput]) -> list[float]:
    """By stage, mean share over the slices."""
    stages = zip(*(output.kept_fraction().values() for output in outputs))
    return [round(float(torch.cat(list(shares)).mean()), 4) for shares in stages]


def _retention_map(case: EvalCase, kept: Tensor) -> np.ndarray:
    """``kept`` (edge, edge) of what the network saw, on the picture: nothing was kept of what it did not see."""
    if case.view is None:
        return kept.numpy()
    seen, (x, y) = case.view.back(kept[None, None], case.grey.shape)
    whole = np.zeros(case.grey.shape, dtype=np.float32)
    whole[x, y] = seen[0, 0].numpy()
    return whole


def _score(case: EvalCase, mask: np.ndarray) -> dict[str, Any]:
    scores = case_metrics(mask, case.truth, case.spacing, case.structures)
    for name, value in case.structures.items():
        if not (mask == value).any() or not (case.truth == value).any():
            scores[name]["hd95"] = float("nan")
    by_metric = {m: {name: _number(own[m]) for name, own in scores.items()} for m in _METRICS}
    return {"case": case.case, "patient": case.patient, **by_metric}


def _number(value: float) -> float | None:
    return None if np.isnan(value) else round(value, 4)


def _figure_arrays(case: EvalCase, mask: np.ndarray, outputs: Sequence[PrunedOutput], queries: QueryWeights) -> dict[str, np.ndarray]:
    arrays = {"image": case.grey, "box": case.grey_box, "truth": case.picture(case.truth), "mask": case.picture(mask)}
    if outputs[0].stages:
        kept = torch.cat([output.token_map().float().cpu() for output in outputs])
        arrays["retention"] = _retention_map(case, kept[len(kept) // 2])
    omega = queries.omega()
    if omega is not None:
        weight = omega[len(omega) // 2].numpy()
        arrays |= {"weight": weight, "rank": 1 - weight}
    return arrays
