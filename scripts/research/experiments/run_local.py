"""The paper's experiments one after the other, in this process."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from tqdm import tqdm

from scripts.research.experiments.jobs import Job, Places, run


@dataclass(frozen=True)
class RunSettings:
    """What all experiments of a call share: folders, device, CPU threads, and the commit and command for their results."""

    places: Places
    device: str
    threads: int
    made_by: Mapping[str, Any]


def run_local(jobs: Sequence[Job], settings: RunSettings) -> None:
    """All ``jobs``, which stand behind those that they need.

    Raises:
        ValueError, OSError: as ``scripts.research.experiments.jobs.run``.
    """
    torch.set_num_threads(settings.threads)
    data = settings.places.experiment_data()
    shares = {"loading": (0.0, 0.05), "training": (0.05, 0.85), "measuring": (0.85, 1.0)}
    form = "{desc} {percentage:3.0f}%|{bar}| {elapsed}<{remaining} {postfix}"
    with tqdm(total=len(jobs), bar_format=form, mininterval=1.0) as bar:
        for number, job in enumerate(jobs):

            def show(what: str, share: float, loss: float | None, number: int = number, name: str = job.name) -> None:
                low, high = shares[what]
                bar.desc = f"{number + 1}/{len(jobs)} {name}: {what}"
                bar.postfix = "" if loss is None else f"loss {loss:.3f}"
                bar.update(number + low + (high - low) * share - bar.n)

            settings.places.store(run(job, settings.places, data, settings.device, settings.made_by, show))
            bar.write(f"{job.name}: measured")
