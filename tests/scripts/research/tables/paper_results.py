"""Results as the paper's experiments leave them, of random numbers round a given DSC, and a file of tables that names them."""

from __future__ import annotations

import zlib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from prato.data.structures import STRUCTURES
from scripts.common.results import write_rows

PATIENTS = 12
_SIDE = 64


@dataclass(frozen=True)
class Made:
    """A row to be made: its place, what was to be done, and the DSC round which its cases lie."""

    table: str
    row: str
    name: str
    dice: float
    design: dict[str, Any]
    gflops: float = 4.0
    printed: dict[str, float] | None = None
    seeds: int = 1


def experiment(made: Made) -> dict[str, Any]:
    plan = {"after": [4, 7, 10], "percentile": 25.0, "k": 5}
    design: dict[str, Any] = {"network": "unetr", "method": "dense", "sees_box": "not at all", "plan": None, "recipe": "paper"}
    if made.design.get("method") == "prato":
        design |= {"plan": plan, "sees_box": "as prompt"}
    changed = dict(made.design)
    if "plan" in changed:
        changed["plan"] = plan | changed["plan"]
    return (
        design | {"box": "tight", "model_of": None, "data": "acdc", "seed": 0, "budget": {"steps": 100, "batch": 8}, "image": 128} | changed
    )


def write_results(folder: Path, rows: list[Made], unrun: list[Made] | None = None, slices: Path | None = None) -> Path:
    """Results of ``rows`` in ``folder``, slices for figures below ``slices``; the file of tables, which has ``unrun`` too."""
    runs, cases = [], []
    for made in {made.name: made for made in reversed(rows)}.values():  # a row of several tables is one experiment
        for seed in range(made.seeds):
            run = result(made, seed)
            cases += [{"experiment": made.name, **case, "seed": seed} for case in run.pop("cases")]
            runs.append(run)
        if slices:
            _slices(slices / f"{made.name}.npz", made)
    if runs:
        write_rows(folder / "runs.csv", runs)
        write_rows(folder / "cases.csv", cases)
    tables = [
        {
            "table": made.table,
            "title": f"Table {made.table[5:]}",
            "row": made.row,
            "data": made.design.get("data", "acdc"),
            "experiment": made.name,
            **(made.printed or {}),
        }
        for made in [*rows, *(unrun or [])]
    ]
    write_rows(folder / "tables.csv", tables)
    times = [
        {"experiment": name, "ms": {"median": 5.0 + n % 5}, "device": "cpu"} for n, name in enumerate(sorted({made.name for made in rows}))
    ]
    write_rows(folder / "times.csv", times)
    return folder / "tables.csv"


def result(made: Made, seed: int) -> dict[str, Any]:
    design = experiment(made)
    rng = np.random.default_rng(zlib.crc32(made.name.encode()) + seed)
    # how hard a patient's heart is, the same for all methods
    hard = np.random.default_rng(0).normal(0, 0.05, PATIENTS)
    names = list(STRUCTURES) if design["data"] == "acdc" else ["lesion"]
    cases = []
    for n in range(PATIENTS):
        for phase in ("ED", "ES") if design["data"] == "acdc" else ("",):
            dice = {name: float(np.clip(made.dice + hard[n] + rng.normal(0, 0.004), 0, 1)) for name in names}
            cases.append(
                {
                    "case": f"patient{n:03d}{phase}",
                    "patient": f"patient{n:03d}",
                    "dice": dice,
                    "iou": {name: value / (2 - value) for name, value in dice.items()},
                    "hd95": {name: float(rng.uniform(3, 12)) for name in names},
                    "gflops": made.gflops,
                    "tokens": 1.0 if design["method"] == "dense" else 0.42,
                }
            )
    return {
        "experiment": made.name,
        **{name: value for name, value in design.items() if value is not None},
        "spent": {"steps": 100, "batch": 8, "minutes": 1.2, **made.design.get("spent", {})},
        "device": "cpu",
        "threads": 1,
        "commit": "abc1234",
        "command": f"scripts/research/paper.py run {made.table}",
        "seed": seed,
        "parameters": 1234,
        "gflops_dense": 4.0,
        "cases": cases,
        "token_density": [] if design["method"] == "dense" else [0.75, 0.56, 0.42],
    }


def _slices(path: Path, made: Made) -> None:
    """Rings in noise: a heart of sorts, with a mask whose errors grow as the DSC falls."""
    design = experiment(made)
    rng = np.random.default_rng(1)
    rows, columns = np.mgrid[:_SIDE, :_SIDE]
    images, truths, masks, boxes, kept = [], [], [], [], []
    for n in range(4):
        centre = np.array([30, 34]) + rng.integers(-6, 6, 2)
        away = np.hypot(rows - centre[0], columns - centre[1])
        truth = np.where(away < 6 + n, 3, np.where(away < 10 + n, 2, 0)).astype(np.uint8)
        truth[(np.hypot(rows - centre[0], columns - centre[1] + 15) < 7) & (truth == 0)] = 1
        if design["data"] == "isic":
            truth = (truth > 0).astype(np.uint8)
        mask = np.roll(truth, round(20 * (1 - made.dice)), 1)
        where = np.argwhere(truth)
        box = np.stack([where.min(0), where.max(0) + 1])
        if design["box"] == "oversized":
            box = np.clip(box + np.array([[-8], [8]]), 0, _SIDE)
        elif design["box"] == "misleading":
            box = box - box[0]
        elif design["box"] == "partial":
            box[1, 0] = box[:, 0].mean()
        middle = box.mean(0)
        share = np.clip(1.4 - np.hypot(rows - middle[0], columns - middle[1]) / 24, 0, 1)
        images.append(truth * 0.3 + rng.normal(0.5, 0.08, truth.shape))
        truths, masks, boxes, kept = [*truths, truth], [*masks, mask], [*boxes, box], [*kept, np.round(3 * share[::8, ::8]) / 3]
    arrays = {"image": np.stack(images), "truth": np.stack(truths), "mask": np.stack(masks), "box": np.stack(boxes)}
    if design["method"] != "dense":
        arrays["retention"] = np.stack(kept).repeat(8, 1).repeat(8, 2)
    if design["method"] == "prato":
        rank = np.stack([rng.permutation(25) for _ in range(4)])
        arrays |= {"rank": rank / 24.0, "weight": 1 - rank / 24.0}
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(path, **arrays)


def all_tables() -> list[Made]:
    """Every table of the paper with rows that differ."""
    baselines = {"STP": "stp", "TRAM": "tram", "Random": "random"}
    rows = []
    for data in ("acdc", "isic"):
        here = {"data": data}
        rows.append(Made("table4", "dense", f"table4/dense_{data}", 0.80, here))
        rows.append(Made("table4", "crop to the box", f"table4/crop_{data}", 0.86, {**here, "sees_box": "by cropping"}, 1.0))
        for n, (title, method) in enumerate(baselines.items()):
            rows.append(Made("table4", title, f"table4/{method}_{data}", 0.73 + 0.01 * n, {**here, "method": method}, 3.0, {"ms": 10.11}))
            seeing = {**here, "method": method, "sees_box": "as a channel"}
            rows.append(Made("table4", f"{title}, same box", f"table4/{method}_box_{data}", 0.81 + 0.01 * n, seeing, 3.1))
        printed = {"left": 0.6146, "right": 0.7171, "myocardium": 0.8190, "iou": 0.6129, "hd95": 19.87, "ms": 3.55}
        ours = {**here, "method": "prato"}
        rows.append(Made("table4", "PrATo", f"table4/prato_{data}", 0.76, ours, 3.0, printed if data == "acdc" else {"dice": 0.8634}, 3))
        rows.append(Made("table4", "PrATo, best", f"table4/best_{data}", 0.90, {**ours, "recipe": "engine"}, 1.5))
        for network in ("unetr", "swin_unetr"):
            rows.append(Made("table5", f"{network}, dense", f"table5/{network}_{data}", 0.8, {**here, "network": network}))
            rows.append(Made("table5", f"{network}, pruned", f"table5/{network}_prato_{data}", 0.8, {**ours, "network": network}, 3.2))
    prato: dict[str, Any] = {"method": "prato"}
    rows.append(Made("table1", "proposed", "table4/prato_acdc", 0.76, prato, 3.0, {"dice": 0.7169}))
    rows.append(Made("table1", "w/o entropy", "table1/even_acdc", 0.70, {**prato, "plan": {"weights": "equal"}}, 3.0))
    rows.append(Made("table1", "naive cropping", "table4/crop_acdc", 0.86, {"sees_box": "by cropping"}, 1.0))
    for cut in (0.1, 0.5):
        rows.append(Made("table2", f"τ = {cut}", f"table2/fixed{cut}_acdc", 0.7, {**prato, "plan": {"percentile": None, "threshold": cut}}))
    rows.append(
        Made("table2", "75th percentile", "table2/share75_acdc", 0.69, {**prato, "plan": {"percentile": 75.0}}, 2.0, {"gflops": 18.66})
    )
    rows += [Made("table3", f"k = {k}", f"table3/k{k}_acdc", 0.8 - 0.02 * abs(k - 5), {**prato, "plan": {"k": k}}) for k in (3, 5, 7)]
    boxes = {"oversized": 0.74, "partial": 0.72, "misleading": 0.6}
    for name, title, design, lost in (("prato", "PrATo", prato, 0.0), ("crop", "Cut to the box", {"sees_box": "by cropping"}, 0.3)):
        rows.append(next(made for made in rows if made.name == f"table4/{name}_acdc"))
        rows[-1] = replace(rows[-1], table="table6", row=f"{title}, tight box")
        for box, dice in boxes.items():
            changed = {**design, "box": box, "model_of": f"table4/{name}_acdc"}
            rows.append(Made("table6", f"{title}, {box} box", f"table6/{name}_{box}_acdc", dice - lost, changed, 3.0))
    return rows
