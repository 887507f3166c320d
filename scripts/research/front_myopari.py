"""myopari, a published network that needs no box, as a row of docs/results/front.csv.

    python scripts/research/front_myopari.py --python VENV/bin/python --studies out/acdc --split docs/results/acdc_split.json \\
        --out docs/results/front.csv

It is run in an environment of its own (``scripts/research/myopari_worker.py`` says of what), on the images' own grid, with its
own steps before and after the network. It may have been trained on these very patients, which are public: nothing may be decided by it.
"""

from __future__ import annotations

import json
import subprocess
import tempfile
from pathlib import Path
from statistics import mean
from typing import Annotated

import typer

from prato.data.cases import read_label
from prato.data.nifti import read_volume
from scripts.common.labelled import require_labelled_studies
from scripts.common.provenance import origin
from scripts.common.refusals import checked_table, refuses_in_one_sentence
from scripts.common.results import Row, replace_rows
from scripts.research.error_sources import dice_of


@refuses_in_one_sentence
def main(
    python: Annotated[str, typer.Option(help="Python of the environment with myopari.")],
    studies: Annotated[Path, typer.Option(help="Studies folder with labels/final.")],
    split: Annotated[Path, typer.Option(help="Split file: its validation patients are measured.")],
    out: Annotated[Path, typer.Option(callback=checked_table, help="The CSV file of scripts/research/front.py.")],
    patients: Annotated[int | None, typer.Option(min=1, help="Maximum number of patients.")] = None,
) -> None:
    """Measure myopari's Dice and time."""
    files = require_labelled_studies(studies, split, patients)
    found = []
    with tempfile.TemporaryDirectory() as folder:
        worker = Path(__file__).with_name("myopari_worker.py")
        run = subprocess.run([python, str(worker), folder, *(str(each.image.resolve()) for each in files)], check=False)
        if run.returncode:
            raise ValueError(f"myopari ended with exit code {run.returncode}, and has said why.")
        for each in files:
            volume = read_volume(each.image)
            mask = read_volume(Path(folder) / each.image.resolve().name).array
            found.append(dice_of(mask, read_label(each.label, volume)))
        about = json.loads((Path(folder) / "times.json").read_text(encoding="utf-8"))
    structures = {name: round(mean(each[name] for each in found), 4) for name in found[0]}
    row: Row = {"training": "myopari", "network": f"myopari {about['version']}", "way": "whole slices", "box": "none"}
    row["volumes"] = len(files)
    row |= {"ms": {"all": round(about["ms"], 2)}, "share": 1.0, "dice": {**structures, "mean": round(mean(structures.values()), 4)}}
    row |= {"threads": 1, **origin()}
    replace_rows(out, [row], ("training", "way", "box", "device", "threads"))
    typer.echo(json.dumps(row))


if __name__ == "__main__":
    typer.run(main)
