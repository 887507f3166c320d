"""What docs/measured says of the default model: under corruptions, which are warned of, of hearts' function, and where Dice is lost."""

from __future__ import annotations

from collections.abc import Callable
from statistics import mean, median
from typing import Any

from prato.data.structures import STRUCTURES
from prato.evaluation.ejection_fraction import ejection_errors, summarise
from prato.models.registry import DEFAULT_MODEL
from scripts.common.markdown import grid
from scripts.common.results import Row

#: A corruption that costs more Dice than this is too much.
_MOST = 0.02


def corruption_table(rows: list[Row]) -> str:
    """By corruption: Dice with a tight box and without one, and what of the clean image's is lost."""
    own = [row for row in rows if row["model"] == DEFAULT_MODEL]
    clean = {(row["box"], row["study"]): row["mean_dice"] for row in own if row["corruption"] == "clean"}
    lines = []
    for name in dict.fromkeys(row["corruption"] for row in own):
        cells, lost = [name], []
        for box in ("tight", "none"):
            found = [row for row in own if row["corruption"] == name and row["box"] == box]
            change = mean(row["mean_dice"] - clean[box, row["study"]] for row in found)
            lost.append(-change)
            cells += [f"{mean(row['mean_dice'] for row in found):.3f}", f"{change:+.3f}"]
        lines.append([*cells, "-" if name == "clean" else "no" if max(lost) > _MOST else "yes"])
    return grid(["corruption", "tight box", "change", "no box", "change", f"within {_MOST}"], lines)


def scanner_table(rows: list[Row]) -> str:
    """By model, scan, and whether networks see it by its affine: Dice, and the ejection fraction beside the experts'."""
    lines = []
    for row in rows:
        dice = [row["dice"][name] for name in ("cavity_ed", "left_ventricle_ed", "cavity_es")]
        volumes = [f"{row[whose]['edv_ml']:.0f} / {row[whose]['esv_ml']:.0f}" for whose in ("app", "expert")]
        percent = [f"{row[whose]['ef']:.1f}" for whose in ("app", "expert")]
        lines.append([row["model"], row["scan"], row["seen"], *(f"{value:.3f}" for value in dice), *volumes, *percent])
    head = ["model", "scan", "slices seen", "DSC cavity ED", "DSC LV ED", "DSC cavity ES"]
    return grid([*head, "EDV / ESV ml", "experts' ml", "EF %", "experts' EF %"], lines)


def doubt_table(rows: list[Row]) -> str:
    """By what was done to images: Dice, and how many masks of which range of Dice there are, and how many of those are warned of.

    The version measured last is shown; of those before it, the median Dice.
    """
    versions: dict[str, dict[str, Row]] = {}
    for row in rows:
        versions.setdefault(row["model_version"], {})[row["fault"]] = row
    *before, last = versions
    shown = sorted(versions[last].values(), key=lambda row: -row["median_dice"])
    ranges = list(shown[0]["masks"])

    def medians(fault: str) -> list[str]:
        found = [versions[version].get(fault) for version in (last, *before)]
        return ["-" if row is None else f"{row['median_dice']:.3f}" for row in found]

    def cells(found: list[Row]) -> list[str]:
        counts = [[sum(row[what][name] for row in found) for what in ("warned", "masks")] for name in ranges]
        return [f"{warned} of {masks}" if masks else "-" for warned, masks in counts]

    lines = [[row["fault"], *medians(row["fault"]), *cells([row])] for row in shown]
    head = ["fault", "median DSC", *(f"of version {version}" for version in before), *(f"warned, DSC {name} %" for name in ranges)]
    return grid(head, [*lines, ["all", "", *("" for _ in before), *cells(shown)]])


def function_table(rows: list[Row]) -> str:
    """By box: how far ejection fractions lie from the expert's, in points, and Dice at end-diastole and at end-systole."""
    lines = []
    own = [row for row in rows if row["model"] == DEFAULT_MODEL and "volumes_ml" in row]
    for box, prune in dict.fromkeys((row["box"], row["prune"]) for row in own):
        found = [row for row in own if (row["box"], row["prune"]) == (box, prune)]
        cells = [box, prune]
        for cavity in ("LV cavity", "RV cavity"):
            errors = summarise(ejection_errors(found, cavity))
            cells += [f"{errors['mae']:.1f}", f"{errors['bias']:+.1f} ± {errors['sd']:.1f}"]
        phases = by_phase(found)
        cells += [" / ".join(f"{mean(row['mean_dice'] for row in phase):.3f}" for phase in phases)]
        cells += [" / ".join(f"{mean(row['scores']['RV cavity']['dice'] for row in phase):.3f}" for phase in phases)]
        lines.append(cells)
    head = ["box", "pruning", "LV: mean absolute error", "mean ± SD", "RV: mean absolute error", "mean ± SD"]
    return grid([*head, "DSC at ED / ES", "RV DSC at ED / ES"], lines)


def by_phase(rows: list[Row]) -> tuple[list[Row], list[Row]]:
    """Rows at end-diastole and at end-systole: of a patient's two studies, the one with the larger LV in the expert's label is at ED."""
    patients: dict[str, list[Row]] = {}
    for row in rows:
        patients.setdefault(row["patient"], []).append(row)
    pairs = [sorted(own, key=lambda row: -row["volumes_ml"]["LV cavity"]["expert"]) for own in patients.values() if len(own) == 2]
    return [pair[0] for pair in pairs], [pair[1] for pair in pairs]


def place_table(rows: list[Row]) -> str:
    """By place in the stack: Dice of each structure, and which share of all that is wrong lies there."""
    own = [row for row in rows if row["model"] == DEFAULT_MODEL]
    wrong: dict[tuple[str, str], float] = {}
    for row in own:
        for voxels in row["ml"].values():
            wrong[row["box"], row["place"]] = wrong.get((row["box"], row["place"]), 0.0) + voxels["missed"] + voxels["too much"]
    lines = []
    for box in dict.fromkeys(row["box"] for row in own):
        everywhere = sum(ml for (of, _), ml in wrong.items() if of == box)
        for place in dict.fromkeys(row["place"] for row in own):
            found = [row for row in own if row["box"] == box and row["place"] == place]
            dice = ["-" if place == "without a label" else f"{mean(row['dice'][name] for row in found):.3f}" for name in STRUCTURES]
            rv = sum(row["ml"]["RV cavity"]["missed"] + row["ml"]["RV cavity"]["too much"] for row in found)
            lines.append([box, place, *dice, f"{100 * wrong[box, place] / everywhere:.0f} %", f"{100 * rv / everywhere:.0f} %"])
    return grid(["box", "place", *(f"{name} DSC" for name in STRUCTURES), "of the wrong volume", "of which RV"], lines)


def way_table(rows: list[Row]) -> str:
    """By way of using the same weights: Dice, and what it changes."""
    own = [row for row in rows if row["model"] == DEFAULT_MODEL]
    boxes = list(dict.fromkeys(row["box"] for row in own))

    def dice(box: str, way: str, value: Callable[[Row], float]) -> float:
        return mean(value(row) for row in own if row["box"] == box and row["way"] == way)

    lines = []
    for way in dict.fromkeys(row["way"] for row in own):
        cells = [way]
        for box in boxes:
            found = dice(box, way, lambda row: row["mean_dice"])
            change = found - dice(box, "as answered", lambda row: row["mean_dice"])
            right = dice(box, way, lambda row: row["dice"]["RV cavity"])
            cells += [f"{found:.4f}", f"{change:+.4f}", f"{right:.3f}"]
        lines.append(cells)
    return grid(["way", *(cell for box in boxes for cell in (f"{box}: DSC", "change", "RV"))], lines)


def saving_table(rows: list[Row]) -> str:
    """By box and way: milliseconds of the network's parts, and Dice."""
    lines = []
    keys: list[tuple[Any, ...]] = list(dict.fromkeys((row["training"], row["device"], row["threads"], row["box"]) for row in rows))
    for key in keys:
        own = [row for row in rows if (row["training"], row["device"], row["threads"], row["box"]) == key]
        off = median(sum(row["ms"].values()) for row in own if row["way"] == "off")
        for way in dict.fromkeys(row["way"] for row in own):
            found = [row for row in own if row["way"] == way]
            parts = [f"{median(row['ms'].get(part, 0.0) for row in found):.0f}" for part in ("overview", "tokens", "decoder")]
            whole = median(sum(row["ms"].values()) for row in found)
            share = f"{100 * mean(row['share'] for row in found):.0f} %"
            dice = f"{mean(row['mean_dice'] for row in found):.3f}"
            lines.append([key[3], way, *parts, f"{whole:.0f}", f"{100 * whole / off:.0f} %", share, dice])
    return grid(["box", "way", "overview ms", "tokens ms", "decoder ms", "all ms", "of `off`", "pixels computed", "mean DSC"], lines)


def front_table(rows: list[Row], wanted: list[str]) -> str:
    """By network and way: time on each device and Dice, both by box; and which of the trainings ``wanted`` have not been measured."""
    devices = list(dict.fromkeys((row["device"], row["threads"]) for row in rows))
    boxes = ("tight", "partial", "none")
    lines = []
    for training, way in dict.fromkeys((row["training"], row["way"]) for row in rows):
        own = [row for row in rows if (row["training"], row["way"]) == (training, way)]
        cells = [training, way, str(max(row["volumes"] for row in own))]
        for device in devices:
            ms = {row["box"]: row["ms"]["all"] for row in own if (row["device"], row["threads"]) == device}
            cells.append(" / ".join(f"{ms[box]:.0f}" if box in ms else "-" for box in boxes))
        for box in boxes:
            dice = [row["dice"]["mean"] for row in own if row["box"] == box]
            cells.append(f"{mean(dice):.3f}" if dice else "-")
        lines.append(cells)
    missing = [name for name in wanted if name not in {row["training"] for row in rows}]
    head = [
        "network",
        "way",
        "volumes",
        *(f"ms, {device}: {' / '.join(boxes)}" for device, _ in devices),
        "tight box",
        "partial box",
        "no box",
    ]
    return grid(head, lines) + (f"\nNot measured yet: {', '.join(missing)}.\n" if missing else "")
