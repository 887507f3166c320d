"""Write every table, figure and model card that is made from docs/results (``make report``); no number in them is typed by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib
import typer

from prato.data.atomic import write_bytes
from prato.data.structures import COLOURS, STRUCTURES
from prato.evaluation.evaluate import summary
from prato.models.card import Origin, model_card, split_fact
from prato.models.checkpoint import read_spec, version_of
from prato.models.registry import DEFAULT_MODEL
from scripts.bench import overview_page, report_speed
from scripts.bench.cost_estimate import cost_table
from scripts.common import protocol_fields
from scripts.common.figures import legend_below
from scripts.common.markdown import fill_page, grid
from scripts.common.paths import DOCS, IMAGES, MODELS, RESULTS, ROOT
from scripts.common.results import Row, read_rows
from scripts.research import paper_page, slicer_versions
from scripts.research.tables import cine_tables
from scripts.simulate import report_clicks, report_simulation

matplotlib.use("Agg")
import matplotlib.pyplot as plt

#: Models by file name.
_TITLES = {
    "prato_overview_unet": "PrATo U-Net with overview",
    "prato_overview_unet_small": "PrATo U-Net with overview, small",
    "prato_overview_swin_unetr": "PrATo Swin UNETR with overview",
    "prato_swin_unetr": "PrATo Swin UNETR",
    "prato_unetr": "PrATo UNETR",
}
_DATA = "ACDC (Bernard et al., IEEE TMI 2018), short-axis cine, ED and ES of the 100 public training patients"
_LICENCE = "research, non-commercial, as ACDC's data (CC BY-NC-SA 4.0); the code is Apache-2.0"
_MODELS_PAGE = """# All models, boxes and ways of pruning

Written by `make report` from [evaluation.csv](evaluation.csv). [README](../../README.md#results) explains boxes and pruning.

"""
#: What an evaluation is of, besides its cases.
_ABOUT = ("model", "model_version", "box", "prune", "device")


def main() -> None:
    """README, model cards, the pages of docs that hold tables of results, docs/results/*.md, and their pictures."""
    _shipped_models()
    report_speed.main()
    overview_page.main()
    cine_tables.main()
    report_simulation.main()
    report_clicks.main()
    fill_page(DOCS / "batch.md", {"cost": cost_table(read_rows(RESULTS / "batch_costs.csv"))})
    paper_page.write(RESULTS / "paper", DOCS)
    slicer_versions.write_page()
    protocol_fields.write_page(DOCS / "protocol")


def _shipped_models() -> None:
    """README's table, docs/images/training.png and the model cards."""
    results = _evaluations(read_rows(RESULTS / "evaluation.csv"))
    results.sort(key=lambda result: [*_TITLES, result["model"]].index(result["model"]))
    shipped = [r for r in results if (MODELS / f"{r['model']}.safetensors").exists()]
    short = [r for r in shipped if r["model"] == DEFAULT_MODEL or (r["box"] in ("tight", "none") and r["prune"] == "plan")]
    fill_page(ROOT / "README.md", {"results": _table(short)})
    write_bytes(RESULTS / "models.md", (_MODELS_PAGE + _table(results)).encode())
    for name in _TITLES:
        path = MODELS / f"{name}.safetensors"
        if path.exists():
            write_bytes(path.with_suffix(".md"), _card(name, path, results).encode())
    curves: dict[str, list[Row]] = {}
    for row in read_rows(RESULTS / "training_curves.csv"):
        curves.setdefault(row["training"], []).append(row)
    _plot(curves)


def _evaluations(rows: list[Row]) -> list[dict[str, Any]]:
    """One for each model, box and pruning: which, and the means over its cases."""
    found: dict[tuple[Any, ...], list[Row]] = {}
    for row in rows:
        row.setdefault("kept_fraction", {})
        found.setdefault((row["model"], row["box"], row["prune"]), []).append(row)
    return [{**{name: own[0][name] for name in _ABOUT}, "summary": summary(own)} for own in found.values()]


def _table(results: list[dict[str, Any]]) -> str:
    if not results:
        return ""
    head = ["model", "box", "pruning", *(f"{name} DSC" for name in STRUCTURES), "mean DSC", "mean HD95", "tokens kept", "GFLOP per volume"]
    lines = grid(head, [[_TITLES.get(result["model"], result["model"]), *_cells(result)] for result in results])
    found = results[0]["summary"]
    note = f"ACDC, {found['patients']} validation patients, {found['cases']} volumes (split by patient: docs/results/acdc_split.json)"
    devices = ", ".join(sorted({result["device"] for result in results}))
    return lines + f"\n{note}; measured on: {devices}. HD95 in mm; GFLOP counted during the call: pruned of dense.\n"


def _cells(result: dict[str, Any]) -> list[str]:
    found = result["summary"]
    kept = list(found["kept_fraction"].values())
    prune = result["prune"] if result["prune"] in ("plan", "off") else f"{result['prune']} %"
    return [
        result["box"],
        prune,
        *(f"{found['structures'][name]['dice']:.3f}" for name in STRUCTURES),
        f"**{found['mean_dice']:.3f}**",
        f"{found['mean_hd95']:.1f}",
        f"{100 * kept[-1]:.0f} %" if kept else "100 %",
        f"{found['gflops']:.1f} of {found['gflops_dense']:.1f}",
    ]


def _card(name: str, path: Path, results: list[dict[str, Any]]) -> str:
    spec, data = read_spec(path), path.read_bytes()
    own = [r for r in results if r["model"] == name and r["model_version"] == version_of(data)]
    origin = Origin(_TITLES[name], _DATA, _LICENCE, "trained on one centre's scanners, one sequence, adults.")
    listed = "listed in `docs/results/acdc_split.json`; the official test patients were not used"
    head = ["box", "pruning", *(f"{s} DSC" for s in STRUCTURES), "mean DSC", "mean HD95 (mm)", "tokens kept", "GFLOP"]
    measured = "\n## Validation patients\n\n" + grid(head, [_cells(result) for result in own]) if own else ""
    return model_card(path.name, data, spec, origin, (split_fact(spec.training["patients"], listed),), measured)


def _plot(curves: dict[str, list[dict[str, Any]]]) -> None:
    """One panel a network: the start that both trainings share, then the pruned one by structure, and the dense one's mean."""
    networks = [name.removeprefix("prato_") for name in curves if name.startswith("prato_")]
    if not networks:
        return
    figure, panels = plt.subplots(1, len(networks), figsize=(5 * len(networks), 3.9), sharey=True, squeeze=False)
    for panel, network in zip(panels[0], networks):
        start = curves.get(f"start_{network}", [])
        if start:
            panel.plot([r["step"] for r in start], [r["dice"]["mean"] for r in start], "-", color="0.6", label="mean, before")
        before = start[-1]["step"] if start else 0
        rows = curves[f"prato_{network}"]
        steps = [before + r["step"] for r in rows]
        for structure, colour in COLOURS.items():
            panel.plot(steps, [r["dice"][structure] for r in rows], "o-", color=colour, label=structure, markersize=3)
        panel.plot(steps, [r["dice"]["mean"] for r in rows], "k-", label="mean")
        dense = curves.get(f"dense_{network}", [])
        panel.plot([before + r["step"] for r in dense], [r["dice"]["mean"] for r in dense], "k:", label="mean, trained dense")
        panel.set(title=_TITLES[f"prato_{network}"], xlabel="step", ylim=(0.7, 1))
        panel.grid(alpha=0.3)
    panels[0][0].set_ylabel("Dice, validation patients, tight box")
    legend_below(figure, columns=6)
    target = IMAGES / "training.png"
    target.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(target, dpi=110)
    plt.close(figure)


if __name__ == "__main__":
    typer.run(main)
