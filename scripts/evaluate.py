"""Measure a model on labelled studies, through the predictor that the server answers with."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from rich.table import Table
from tqdm import tqdm

from prato.data.structures import STRUCTURES
from prato.data.studies.folder import find_labelled_studies
from prato.data.studies.splits import load_split
from prato.data.wording import counted
from prato.evaluation.box_conditions import BoxCondition
from prato.evaluation.evaluate import evaluate_cases, summary
from prato.inference.predictor import Predictor
from prato.labelling.trusted import find_trusted_phases
from prato.models.registry import DEFAULT_MODEL
from prato.pruning.plan import PRUNE_CHOICES
from prato.runtime.devices import default_device, device_name
from scripts.common.model_files import locator_file, model_file, model_name
from scripts.common.provenance import origin
from scripts.common.refusals import checked_table, refuses_in_one_sentence
from scripts.common.results import replace_rows
from scripts.common.tables import print_table


@refuses_in_one_sentence
def main(
    studies: Annotated[Path, typer.Option(help="Studies folder with labels/final.")],
    out: Annotated[
        Path,
        typer.Option(callback=checked_table, help="The CSV file to write; rows of other models (by name), boxes and seeds in it stay."),
    ],
    model: Annotated[str, typer.Option(help="A shipped model's name or a model file.")] = DEFAULT_MODEL,
    box: Annotated[BoxCondition, typer.Option(help="How accurately the box is drawn.")] = BoxCondition.tight,
    prune: Annotated[str, typer.Option(help="off, 25, 50 or 75; by default the model's own plan. Not for a model without one.")] = "",
    split: Annotated[Path | None, typer.Option(help="Split file: only its validation patients are measured.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the boxes.")] = 0,
    device: Annotated[str, typer.Option(help="cpu, cuda or cuda:N; by default cuda where there is one.")] = "",
    threads: Annotated[int, typer.Option(min=0, help="CPU threads; 0 leaves it to torch.")] = 0,
) -> None:
    """Measure DSC, IoU and HD95 (mm) by structure, kept tokens, GFLOP and latency, case by case and on average."""
    if threads:
        torch.set_num_threads(threads)
    if prune and prune not in PRUNE_CHOICES:
        raise ValueError(f"--prune must be one of {', '.join(PRUNE_CHOICES)}, not {prune}.")
    path = model_file(model)
    where = device or default_device()
    predictor = Predictor.from_files(path, locator_file(), where)
    if prune and predictor.plan is None:
        raise ValueError(f"--prune is not for {model}: it was trained without pruning and has no plan, so leave --prune out.")
    patients = None if split is None else set(load_split(split).validation)
    labelled = find_trusted_phases(find_labelled_studies(studies))[0]
    if not labelled:
        raise ValueError(f"{studies} has no labelled studies to measure: labels belong in its folder labels/final.")
    files = [file for file in labelled if patients is None or file.patient in patients]
    if not files:
        raise ValueError(f"{studies} has no labelled study of the validation patients of {split}: give the split of this folder.")
    with tqdm(total=len(files), unit="study", mininterval=1.0) as bar:
        rows = evaluate_cases(predictor, files, box, prune or None, seed, lambda row: bar.update())
    if not rows:
        raise ValueError(f"Every label in {studies} is empty or cannot be used: there is nothing to measure against.")
    about = {
        "model": model_name(path),
        "model_version": predictor.version,
        "box": box.value,
        "prune": prune or ("plan" if predictor.plan else "off"),
    }
    made = {"threads": torch.get_num_threads(), "seed": seed, **origin(device_name(where))}
    replace_rows(out, [{**about, **_readable(row), **made} for row in rows], ("model", "box", "prune", "seed"))
    _show(about, summary(rows))


def _readable(row: dict[str, Any]) -> dict[str, Any]:
    """A case for the table: the box in voxels is its ``roi``, numbers are rounded, and no warnings are no cell."""
    kept = {name: value for name, value in row.items() if name not in ("box", "warnings")}
    return {**_rounded(kept), "roi": row["box"], **({"warnings": row["warnings"]} if row["warnings"] else {})}


def _rounded(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _rounded(each) for name, each in value.items()}
    return round(value, 6) if isinstance(value, float) else value


def _show(about: dict[str, Any], found: dict[str, Any]) -> None:
    where = f"{about['box']} box, {counted(found['cases'], 'study', 'studies')} of {counted(found['patients'], 'patient')}"
    table = Table(title=f"{about['model']} {about['model_version']}, {where}")
    for column in ("structure", "DSC", "IoU", "HD95 (mm)"):
        table.add_column(column)
    for name, scores in found["structures"].items():
        table.add_row(name, *(f"{scores[m]:.3f}" for m in ("dice", "iou")), f"{scores['hd95']:.1f}")
    table.add_row("mean", f"{found['mean_dice']:.3f}", f"{found['mean_iou']:.3f}", f"{found['mean_hd95']:.1f}")
    print_table(table)
    for name in STRUCTURES:
        undrawn = found["cases"] - found["structures"].get(name, {"cases": 0})["cases"]
        if undrawn:
            typer.echo(f"The {name} is missing in {undrawn} of {counted(found['cases'], 'label')}, and not scored there.", err=True)
    kept = ", ".join(f"{stage} {share:.2f}" for stage, share in found["kept_fraction"].items()) or "all"
    total = sum(found["latency_ms"].values())
    typer.echo(f"tokens kept: {kept}; {found['gflops']:.1f} of {found['gflops_dense']:.1f} GFLOP; {total:.0f} ms per volume")


if __name__ == "__main__":
    typer.run(main)
