"""The tables of docs/measured of the default network, and of docs/training.md: what pruning saves in the app, and how networks learned."""

from __future__ import annotations

from statistics import median
from typing import Any

from scripts.common.markdown import fill_pages, grid
from scripts.common.paths import DOCS, IMAGES, RESULTS
from scripts.common.results import Row, read_rows
from scripts.research.figures.front_figure import draw_front
from scripts.research.tables import overview_tables
from scripts.research.train_queue import QUEUE, entries

_PAGES = ("default_network", "accuracy", "dice_against_time")
#: Which file a table is made of.
_RESULTS = {
    **{"time": "pruning_time", "memory": "server_memory", "rounds": "retraining_round"},
    **{"curves": "training_queue", "speed": "training_speed"},
    **{"saving": "saving_split", "corruptions": "corruptions", "doubts": "doubtful_masks"},
    "scanner": "sunnybrook",
    **{"function": "evaluation", "places": "slice_dice", "ways": "error_sources"},
}


def main() -> None:
    """Fill the pages, and draw docs/images/front.png."""
    tables = {
        **{"time": time_table, "memory": memory_table, "rounds": round_table},
        **{"curves": curve_table, "speed": speed_table},
        **{"saving": overview_tables.saving_table, "corruptions": overview_tables.corruption_table, "doubts": overview_tables.doubt_table},
        "scanner": overview_tables.scanner_table,
        **{"function": overview_tables.function_table, "places": overview_tables.place_table, "ways": overview_tables.way_table},
    }
    front = read_rows(RESULTS / "front.csv")
    blocks = {name: table(read_rows(RESULTS / f"{_RESULTS[name]}.csv")) for name, table in tables.items()}
    blocks["front"] = overview_tables.front_table(front, [entry["name"] for entry in entries(QUEUE)])
    fill_pages([*(DOCS / "measured" / f"{name}.md" for name in _PAGES), DOCS / "training.md"], blocks)
    draw_front(front, IMAGES / "front.png")


def time_table(rows: list[Row]) -> str:
    """By threads, box and model: the median time of a study, and what share of the same network's time without pruning it is."""
    found: dict[tuple[Any, ...], dict[str, list[float]]] = {}
    for row in rows:
        way = found.setdefault((row["threads"], row["box"], row["prune"], row["model"]), {"ms": [], "gflops": [], "dice": []})
        way["ms"].append(row["locate_ms"] + row["network_ms"])
        way["gflops"].append(row["gflops"])
        way["dice"].append(row["mean_dice"])
    lines = []
    boxes = ["tight", "oversized", "partial", "misleading", "none"]
    for key, way in sorted(found.items(), key=lambda item: (item[0][0], item[0][3], item[0][2] != "off", boxes.index(item[0][1]))):
        threads, box, prune, model = key
        off = found.get((threads, "none" if box == "none" else "tight", "off", model))
        share = "-" if off is None or prune == "off" else f"{100 * median(way['ms']) / median(off['ms']):.0f} %"
        cells = [model, box, prune, str(threads), f"{median(way['ms']):.0f}", share, f"{median(way['gflops']):.1f}"]
        lines.append([*cells, f"{sum(way['dice']) / len(way['dice']):.3f}"])
    head = ["model", "box", "pruning", "threads", "ms per study", "of `off`", "GFLOP", "mean DSC"]
    studies = len({row["study"] for row in rows})
    return grid(head, lines) + f"\n{studies} studies: medians, and the mean DSC.\n"


def memory_table(rows: list[Row]) -> str:
    """By request: what the server held after it and at its height, and what the request took."""
    lines = [
        [row["request"], *(f"{row[name]:,}" if name in row else "-" for name in ("held_mib", "height_mib", "seconds"))] for row in rows
    ]
    return grid(["request", "MiB after it", "peak", "seconds"], lines)


def round_table(rows: list[Row]) -> str:
    """By round: seconds by the clock and of CPU time, by part, and how it ended."""
    lines = []
    for row in rows:
        parts = ", ".join(f"{name} {seconds:.0f}" for name, seconds in row["parts_s"].items())
        ended = f"{row['dice_before']:.4f} to {row['dice_after']:.4f}" + ("" if row["published"] else ", not published")
        cells = [
            row["model"],
            str(row["studies"]),
            str(row["round"]),
            str(row["steps"]),
            f"{row['seconds']:.0f}",
            f"{row['cpu_seconds']:.0f}",
        ]
        lines.append([*cells, parts, f"{row['load']:.1f}", row["precision"], ended, row["commit"]])
    head = ["model", "labels", "round", "steps", "seconds", "CPU seconds", "parts", "load", "precision"]
    head += ["Dice of held-out patients", "commit"]
    return grid(head, lines)


def curve_table(rows: list[Row]) -> str:
    """By training and slices seen: Dice with a tight box and with none, at the network's resolution."""
    lines = []
    for row in rows:
        dice = [f"{row[f'dice {name}']['mean']:.4f}" if f"dice {name}" in row else "-" for name in ("tight", "none")]
        loss = f"{row['loss']['segmentation']:.3f}" if "loss" in row else "-"
        lines.append([row["training"], f"{row['slices']:,}", loss, *dice, row["device"]])
    return grid(["training", "slices seen", "loss", "DSC, window at the box", "DSC, window where the overview points", "device"], lines)


def speed_table(rows: list[Row]) -> str:
    """Slices a second of whole training steps, and where an eager step's time goes."""
    lines = []
    for row in rows:
        parts = [f"{part} share" for part in ("data", "forward", "backward", "optimiser")]
        shares = [f"{100 * row[part]:.0f} %" if part in row else "-" for part in parts]
        lines.append([row["network"], row["way"], f"{row['slices a second']:,}", *shares, row["device"]])
    return grid(["network", "way", "slices a second", "data", "forward", "backward", "optimiser", "device"], lines)
