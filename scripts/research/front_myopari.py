"""myopari, a published network that needs no box, as a row of docs/results/front.csv.

    python scripts/research/front_myopari.py --python VENV/bin/python --studies out/acdc --split docs/results/acdc_split.json \\
        --out docs/results/front.csv

It is run in an environment of its own (``scripts/research/myopari_worker.py`` says of what), on the images' own grid, with its
own steps before and after the network. It may have been trained on these very patients, which are public: nothing may be decided by it.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import tempfile
from pathlib import Path
from statistics import mean

from prato.data.cases import read_label
from prato.data.nifti import read_volume
from scripts.common.arguments import HelpFormatter, positive_int, refused_in_one_sentence, table_file
from scripts.common.labelled import require_labelled_studies
from scripts.common.provenance import origin
from scripts.common.results import Row, replace_rows
from scripts.research.error_sources import dice_of


def main() -> None:
    """Parse the command line and measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=HelpFormatter)
    parser.add_argument("--python", required=True, help="Python of the environment with myopari")
    parser.add_argument("--studies", type=Path, required=True, help="studies folder with labels/final")
    parser.add_argument("--split", type=Path, required=True, help="split file: its validation patients are measured")
    parser.add_argument("--out", type=table_file, required=True, help="CSV file of scripts/research/front.py")
    parser.add_argument("--patients", type=positive_int, help="maximum number of patients")
    given = parser.parse_args()
    with refused_in_one_sentence(parser):
        files = require_labelled_studies(given.studies, given.split, given.patients)
    found = []
    with tempfile.TemporaryDirectory() as folder:
        worker = Path(__file__).with_name("myopari_worker.py")
        with refused_in_one_sentence(parser):  # there is no such program
            run = subprocess.run([given.python, str(worker), folder, *(str(each.image.resolve()) for each in files)], check=False)
        if run.returncode:
            parser.exit(2, f"{parser.prog}: myopari ended with exit code {run.returncode}, and has said why.\n")
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
    replace_rows(given.out, [row], ("training", "way", "box", "device", "threads"))
    print(json.dumps(row))


if __name__ == "__main__":
    main()
