"""What a run of scripts/batch_label.py measured of its own pace."""

from __future__ import annotations

import os
import platform
from collections.abc import Sequence
from pathlib import Path
from statistics import mean, median
from typing import Any

import torch


def throughput(done: Sequence[dict[str, Any]], began: float, arrived: Sequence[float], out: Path, workers: int) -> dict[str, Any]:
    """The pace at which studies were labelled, and where the time went.

    Args:
        done: records of the studies labelled, at least one; ``arrived``: when each came, in seconds of the clock that ``began`` is of.
        out: where the masks lie.

    Returns:
        JSON values. The pace is that after the start-up: loading of code and weights, until the first study was begun. ``stage_ms`` is the
        median by step, ``core_s`` and ``gflops`` a study's means, ``*_mb`` mean file sizes in units of 10**6 bytes.
    """
    start_up = max(arrived[0] - began - done[0]["latency_ms"]["total"] / 1000, 0.0)
    labelling = arrived[-1] - began - start_up
    return {
        "studies": len(done),
        "start_up_s": round(start_up, 2),
        "labelling_s": round(labelling, 2),
        "studies_per_minute": round(60 * len(done) / labelling, 2),
        "stage_ms": {step: round(median(record["latency_ms"][step] for record in done), 1) for step in done[0]["latency_ms"]},
        "gflops": round(mean(record["gflops"] for record in done), 3),
        "core_s": round(mean(record["cpu_ms"] for record in done) / 1000, 4),
        "image_mb": round(mean(Path(record["image"]).stat().st_size for record in done) / 1e6, 3),
        "mask_mb": round(mean((out / f"{record['study']}.nii.gz").stat().st_size for record in done) / 1e6, 3),
        "workers": workers,
        "machine": {"cores": os.cpu_count(), "processor": _processor(), "load_1_min": round(os.getloadavg()[0], 2)},
        "torch": torch.__version__,
    }


def _processor() -> str:
    known = Path("/proc/cpuinfo")
    lines = known.read_text().splitlines() if known.exists() else []
    named = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return named[0] if named else platform.machine()
