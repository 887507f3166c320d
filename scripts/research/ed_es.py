"""How accurately end-diastole and end-systole are found, in generated beats whose contours were drawn unsteadily.

    python scripts/research/ed_es.py --out docs/results/ed_es.csv

A beat has 12 to 40 phases and begins anywhere in the cycle; its volume rests after the R wave, after ejection and, in slow hearts, before
the atrium contracts. The contours of every phase are moved by themselves, smoothly and at random, and in one of ten phases the basal slice
is left out. What is found in masks of the network, and in real cines, is measured by smooth_in_time.py.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from scipy.ndimage import gaussian_filter
from tqdm import tqdm

from prato.function.curve import VolumeCurve, find_ed_es
from prato.phantom.beat import BeatLabels, make_beat_labels
from prato.prompts.box import Box
from scripts.common.arguments import MAX_SEED
from scripts.common.provenance import origin
from scripts.common.refusals import checked_table, refuses_in_one_sentence
from scripts.common.results import Row, write_rows

#: By how much contours are moved, mm, one standard deviation.
MOVED_MM = (0.0, 1.5, 3.0, 4.5)
_PHASES = (12, 40)
#: How far a movement reaches in the mask, in voxels along X, Y, Z.
_REACH = (4.0, 4.0, 0.7)
#: Share of the phases in which the basal slice is left out.
_BASAL_MISSED = 0.1
_MARGIN = 8


def draw_unsteadily(rng: np.random.Generator, beat: BeatLabels, moved_mm: float) -> np.ndarray:
    """``beat``'s labels cut to the heart, uint8 (X', Y', Z, T), as somebody draws them who moves contours by ``moved_mm`` from phase to
    phase."""
    around = Box.around((beat.labels > 0).any(-1))
    assert around is not None
    cut = tuple(slice(max(a - _MARGIN, 0), b + _MARGIN) for a, b in zip(around.start[:2], around.stop[:2]))
    labels = beat.labels[cut]
    if not moved_mm:
        return labels
    drawn = np.empty_like(labels)
    i, j, k = np.indices(labels.shape[:3])
    for t in range(labels.shape[-1]):
        moved = [gaussian_filter(rng.normal(size=labels.shape[:3]), _REACH) for _ in range(2)]
        x, y = (
            np.clip(np.rint(at + shift / shift.std() * moved_mm / mm), 0, size - 1).astype(int)
            for at, shift, mm, size in zip((i, j), moved, beat.spacing, labels.shape)
        )
        drawn[..., t] = labels[x, y, k, t]
        if rng.random() < _BASAL_MISSED:
            drawn[:, :, np.flatnonzero(labels[..., t].any((0, 1)))[0], t] = 0
    return drawn


def distance(found: int, truth: int, count: int) -> int:
    """Phases from ``truth`` to ``found`` the shorter way round a cycle of ``count``; negative where it was found too early."""
    return (found - truth + count // 2) % count - count // 2


def measure_beat(seed: int, number: int) -> list[Row]:
    """A row for each way of drawing the beat ``number`` of the series ``seed``."""
    rng = np.random.default_rng([seed, number, 1])
    count, start = int(rng.integers(_PHASES[0], _PHASES[1] + 1)), float(rng.random())
    beat = make_beat_labels(seed, number, count, start)
    voxel_ml = float(np.prod(beat.spacing)) / 1000
    rows = []
    for moved_mm in MOVED_MM:
        found = find_ed_es(VolumeCurve.from_masks(draw_unsteadily(rng, beat, moved_mm), voxel_ml), is_cycle=True)
        assert found is not None
        off = {name: distance(at, truth, count) for name, at, truth in zip(("ed", "es"), found, (beat.ed, beat.es))}
        rows.append({"beat": number, "phases": count, "start": round(start, 3), "moved_mm": moved_mm, "off": off})
    return rows


@refuses_in_one_sentence
def main(
    out: Annotated[Path, typer.Option(callback=checked_table, help="The CSV file to write.")],
    beats: Annotated[int, typer.Option(min=1, help="Generated beats.")] = 100,
    seed: Annotated[int, typer.Option(min=0, max=MAX_SEED, help="Seed of everything random.")] = 16,
) -> None:
    """Measure by how many phases end-diastole and end-systole are missed."""
    made = {"seed": seed, **origin()}
    rows = [row for number in tqdm(range(1, beats + 1), unit="beat") for row in measure_beat(seed, number)]
    write_rows(out, [row | made for row in rows])
    for moved_mm in MOVED_MM:
        off = [row["off"] for row in rows if row["moved_mm"] == moved_mm]
        near = {name: np.mean([abs(one[name]) <= 1 for one in off]) for name in ("ed", "es")}
        typer.echo(f"moved by {moved_mm} mm: ED within a phase in {near['ed']:.0%}, ES in {near['es']:.0%} of {len(off)} beats")


if __name__ == "__main__":
    typer.run(main)
