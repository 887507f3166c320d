"""How much a segmented heartbeat flickers, and what smoothing it in time does to that, to Dice and to the ejection fraction.

    python scripts/research/smooth_in_time.py --acdc ACDC --sunnybrook SUNNYBROOK --out docs/results/smooth_in_time.csv

Of generated beats, of ACDC's cine of patient 090 and of two Sunnybrook scans (DICOM), each phase is segmented without a box: as in the app,
where the overview remembers what lies round the heart, and by itself. Then masks or logits are smoothed over the cycle, and components that
are small beside the largest are removed, as in the app.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from statistics import fmean
from typing import Annotated

import numpy as np
import torch
import typer
from scipy.ndimage import convolve1d
from scipy.signal import savgol_coeffs
from tqdm import tqdm

from prato.data.cases import read_label
from prato.data.cine import Cine, read_cine
from prato.data.nifti import Volume
from prato.data.structures import STRUCTURES
from prato.dicom.importer import import_dicom
from prato.evaluation.metrics import structure_dice
from prato.exchange.acdc_folder import read_info
from prato.function.curve import VolumeCurve, count_minima, find_ed_es
from prato.inference.image_stack import ImageStack
from prato.inference.postprocess import remove_small_components
from prato.inference.stack_segmenter import StackSegmenter
from prato.models.registry import DEFAULT_MODEL
from prato.phantom.beat import make_beat
from prato.prompts.box import Box
from scripts.common.arguments import MAX_SEED
from scripts.common.provenance import origin
from scripts.common.refusals import checked_table, refuses_in_one_sentence
from scripts.common.results import Row, replace_rows
from scripts.research.ed_es import distance
from scripts.research.error_sources import Case, logits_of, to_mask
from scripts.research.overview_models import load_overview_model
from scripts.research.smooth_phases import smooth_phases

#: Phases of the generated beats, in turn.
_PHASES = (20, 25, 30)
#: Phases per cycle of a Sunnybrook scan; its contours are numbered slice by slice.
_SUNNYBROOK_PHASES = 20
#: Loss of Dice, averaged over structures, from which a phase counts as worse than before.
_LOSS = 0.002


@dataclass(frozen=True)
class Beat:
    """A cine with what is known of it: the ``truth`` by phase, uint8 (X, Y, Z), and where ED and ES are."""

    name: str
    kind: str
    phases: list[Volume]
    ed: int
    es: int
    truth: dict[int, np.ndarray] = field(default_factory=dict)


def generated_beats(seed: int, count: int) -> Iterator[Beat]:
    for number in range(1, count + 1):
        phases = _PHASES[number % len(_PHASES)]
        start = float(np.random.default_rng([seed, number, 2]).random())
        beat = make_beat(seed, number, phases, start)
        volumes = [Volume(beat.images[..., t], beat.affine) for t in range(phases)]
        truth = {t: beat.labels[..., t] for t in range(phases)}
        yield Beat(f"phantom {number} ({beat.kind})", "phantom", volumes, beat.ed, beat.es, truth)


def acdc_beat(acdc: Path) -> Beat:
    """Patient 090, whose ED and ES an expert chose and labelled."""
    folder = acdc / "patient090"
    info, cine = read_info(folder), read_cine(folder / "patient090_4d.nii.gz")
    volumes, known = _volumes(cine), (info.ed - 1, info.es - 1)
    truth = {t: read_label(folder / f"patient090_frame{t + 1:02d}_gt.nii.gz", volumes[t]) for t in known}
    return Beat("ACDC patient090", "real", volumes, *known, truth)


def sunnybrook_phases(folder: Path) -> dict[str, tuple[int, int]]:
    """ED and ES of each scan, which are those with the expert's contours: of the epicardium in ED alone.

    Raises:
        ValueError: there is no scan, or one has contours in other than these two phases.
    """
    found: dict[str, tuple[int, int]] = {}
    for scan in sorted(path.name for path in folder.glob("SCD*") if path.is_dir()):
        drawn = {}
        for kind in ("o", "i"):
            names = (folder / "contours" / scan / f"{kind}-contours").glob("*.txt")
            numbers = [int(match[1]) for name in names if (match := re.search(r"IM-0001-(\d+)-", name.name))]
            drawn[kind] = {(number - 1) % _SUNNYBROOK_PHASES for number in numbers}
        both = [*drawn["o"], *(drawn["i"] - drawn["o"])]
        if len(both) != 2 or len(drawn["o"]) != 1:
            raise ValueError(f"{folder / 'contours' / scan} must hold contours of two phases, of the epicardium in one of them.")
        found[scan] = both[0], both[1]
    if not found:
        raise ValueError(f"{folder} holds no Sunnybrook scan: name the folder with SCD0000101 and others, and their contours.")
    return found


def sunnybrook_beat(scan: Path, ed: int, es: int) -> Beat:
    """The cine in the folder ``scan``."""
    with tempfile.TemporaryDirectory() as target:
        (cine,) = import_dicom(scan, target).imported
        volumes = _volumes(read_cine(Path(target) / f"{cine.study}.nii.gz"))
    return Beat(f"Sunnybrook {scan.name}", "real", volumes, ed, es)


def _volumes(cine: Cine) -> list[Volume]:
    return [cine.phase(t) for t in range(len(cine))]


def segment(segmenter: StackSegmenter, beat: Beat) -> tuple[np.ndarray, tuple[slice, slice]]:
    """Logits of all phases, float16 (T, classes, X', Y', Z), of the part of the slices that lies within 10 voxels of any mask."""
    found, masks = [], []
    for phase in beat.phases:
        image = ImageStack(phase)
        shape = image.volume.array.shape
        case = Case(image, np.zeros(shape, np.uint8), Box.whole(shape))
        embedding = segmenter.embedding(image, range(shape[2]))
        logits = logits_of(segmenter.network, segmenter.plan, case, segmenter.spec.pixel, False, embedding=embedding)
        native = torch.nn.functional.interpolate(logits, size=shape[:2], mode="bilinear", align_corners=False)
        found.append(native.permute(1, 2, 3, 0).half().numpy())
        masks.append(remove_small_components(to_mask(case, logits)))
    around = Box.union(box for mask in masks if (box := Box.around(mask)) is not None)
    part = tuple(slice(max(a - 10, 0), b + 10) for a, b in zip(around.start[:2], around.stop[:2]))
    return np.stack([logits[:, part[0], part[1]] for logits in found]), (part[0], part[1])


def _clean(masks: np.ndarray) -> np.ndarray:
    return np.stack([remove_small_components(masks[..., t]) for t in range(masks.shape[-1])], -1)


def _to_masks(scores: np.ndarray) -> np.ndarray:
    """uint8 (X, Y, Z, T), of scores (T, classes, X, Y, Z)."""
    return _clean(np.moveaxis(scores.argmax(1), 0, -1).astype(np.uint8))


def _filtered(scores: np.ndarray, weights: np.ndarray) -> np.ndarray:
    return convolve1d(scores.astype(np.float32), weights, axis=0, mode="wrap")


def _majority(masks: np.ndarray) -> np.ndarray:
    """What two of three neighbouring phases say, where two say the same."""
    before, after = np.roll(masks, 1, -1), np.roll(masks, -1, -1)
    return _clean(np.where(before == after, before, masks))


_GAUSS = np.exp(-0.5 * np.arange(-3, 4) ** 2) / np.exp(-0.5 * np.arange(-3, 4) ** 2).sum()
#: Way of smoothing -> masks, of logits (T, classes, X, Y, Z), masks (X, Y, Z, T) and the size of voxels in plane.
WAYS: dict[str, Callable[[np.ndarray, np.ndarray, tuple[float, float]], np.ndarray]] = {
    "none": lambda logits, masks, size: masks,
    "Gaussian of logits": lambda logits, masks, size: _to_masks(_filtered(logits, _GAUSS)),
    "Gaussian of probabilities": lambda logits, masks, size: _to_masks(
        _filtered(torch.from_numpy(logits).float().softmax(1).numpy(), _GAUSS)
    ),
    "parabola through logits": lambda logits, masks, size: _to_masks(_filtered(logits, savgol_coeffs(5, 2))),
    "median of masks": lambda logits, masks, size: _majority(masks),
    "parabola through distances": lambda logits, masks, size: smooth_phases(masks, size),
}

#: Phases whose overviews know nothing of each other; not smoothed.
BY_THEMSELVES = "none, each phase by itself"


def measure(masks: np.ndarray, beat: Beat, truth: dict[int, np.ndarray]) -> Row:
    """What ``masks`` of all phases of ``beat`` are worth, beside the ``truth`` of some, cut alike."""
    voxel_ml = float(np.prod(beat.phases[0].spacing)) / 1000
    curve = VolumeCurve.from_masks(masks, voxel_ml)
    before, after, later = (np.roll(masks, step, -1) for step in (1, -1, -2))
    flips = (masks != before) & ((after == before) | (later == before))
    sides = {"lv": curve.lv, "rv": curve.rv}
    row: Row = {
        "minima": {side: count_minima(volume) for side, volume in sides.items()},
        "flicker": {side: _flicker(volume) for side, volume in sides.items()},
        "changed_back": round(100 * float(flips.sum()) / float((masks > 0).sum()), 3),
    }
    if truth:
        dice = {t: fmean(structure_dice(masks[..., t], label).values()) for t, label in truth.items()}
        row["dice"] = {"mean": np.mean([*dice.values()]), "min": min(dice.values()), "ed": dice[beat.ed], "es": dice[beat.es]}
        row["dice"] = {name: round(float(value), 4) for name, value in row["dice"].items()}
        row["by_phase"] = dice
        pairs = [(masks[..., t], truth[t]) for t in (beat.ed, beat.es)]
        row["ef_error"] = {
            side: round(abs(_fraction([p[0] for p in pairs], value) - _fraction([p[1] for p in pairs], value)), 2)
            for side, value in (("lv", STRUCTURES["LV cavity"]), ("rv", STRUCTURES["RV cavity"]))
        }
    found = find_ed_es(curve, is_cycle=True)
    if found is not None:
        row["off"] = {name: distance(at, known, len(curve)) for name, at, known in zip(("ed", "es"), found, (beat.ed, beat.es))}
    return row


def _flicker(volume: np.ndarray) -> float:
    """Mean absolute second difference of a cycle, percent of its range."""
    second = np.roll(volume, -1) - 2 * volume + np.roll(volume, 1)
    return round(100 * float(np.abs(second).mean() / max(np.ptp(volume), 1e-6)), 2)


def _fraction(pair: list[np.ndarray], value: int) -> float:
    """Ejection fraction in percent, of masks at ED and ES."""
    full, empty = ((mask == value).sum() for mask in pair)
    return float(100 * (1 - empty / max(full, 1)))


def measure_beat(segmenter: StackSegmenter, beat: Beat) -> list[Row]:
    """A row for each way of smoothing, and one for phases that are segmented by themselves."""
    image = ImageStack(beat.phases[0])
    logits, part = segment(segmenter.for_cine(image), beat)
    masks, size = _to_masks(logits), image.volume.spacing[:2]
    found = {way: (smooth(logits, masks, size), part) for way, smooth in WAYS.items()}
    logits, part = segment(segmenter, beat)
    found[BY_THEMSELVES] = _to_masks(logits), part
    rows: list[Row] = []
    for way, (masks, part) in found.items():
        truth = {t: image.to_stack(label)[part] for t, label in beat.truth.items()}
        row = {
            "cine": beat.name,
            "kind": beat.kind,
            "phases": len(beat.phases),
            "way": way,
            **measure(masks, beat, truth),
        }
        if by_phase := row.pop("by_phase", None):
            plain = rows[0]["plain"] if rows else by_phase
            gains = [by_phase[t] - plain[t] for t in by_phase]
            row["gain"] = {"worst": round(min(gains), 4), "phases_worse": round(float(np.mean([gain < -_LOSS for gain in gains])), 3)}
            row["plain"] = plain
        rows.append(row)
    return [{name: value for name, value in row.items() if name != "plain"} for row in rows]


@refuses_in_one_sentence
def main(
    out: Annotated[Path, typer.Option(callback=checked_table, help="The CSV file to write; rows of other cines stay.")],
    acdc: Annotated[Path | None, typer.Option(help="The official ACDC folder.")] = None,
    sunnybrook: Annotated[Path | None, typer.Option(help="Folder of the Sunnybrook scans SCD… and their contours.")] = None,
    beats: Annotated[int, typer.Option(min=1, help="Generated beats.")] = 8,
    seed: Annotated[int, typer.Option(min=0, max=MAX_SEED, help="Seed of the generated beats.")] = 11,
) -> None:
    """Measure each way to smooth each cine."""
    first = [] if acdc is None else [acdc_beat(acdc)]
    scans = [] if sunnybrook is None else [(sunnybrook / scan, *known) for scan, known in sunnybrook_phases(sunnybrook).items()]
    segmenter = load_overview_model(DEFAULT_MODEL)
    made = {"model": DEFAULT_MODEL, "model_version": segmenter.version, "seed": seed, "threads": torch.get_num_threads(), **origin()}
    for beat in tqdm(chain(first, (sunnybrook_beat(*scan) for scan in scans), generated_beats(seed, beats)), unit="cine"):
        replace_rows(out, [row | made for row in measure_beat(segmenter, beat)], ("cine",))


if __name__ == "__main__":
    typer.run(main)
