"""What pruning saves in the app: the network's time on images that are new to it, pruned and not, models and boxes taking turns.

python scripts/bench/pruning_time.py --studies out/acdc --split docs/results/acdc_split.json --out docs/results/pruning_time.csv
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import torch
import typer
from tqdm import tqdm

from prato.evaluation.box_conditions import BoxCondition
from prato.evaluation.evaluate import evaluate_case
from prato.inference.predictor import Predictor
from prato.models.registry import DEFAULT_MODEL
from scripts.common.labelled import require_labelled_studies
from scripts.common.model_files import locator_file, model_file
from scripts.common.provenance import origin
from scripts.common.refusals import checked_table, refuses_in_one_sentence
from scripts.common.results import replace_rows

#: Which boxes with which pruning.
WAYS = [(box, "") for box in BoxCondition] + [(BoxCondition.tight, "off"), (BoxCondition.none, "off")]


#: They take turns, on so many studies at most, evenly chosen.
_MODELS, _MOST = ("prato_swin_unetr", "prato_overview_swin_unetr", DEFAULT_MODEL, "prato_overview_unet_small"), 8


@refuses_in_one_sentence
def main(
    studies: Annotated[Path, typer.Option(help="Studies folder with labels/final.")],
    out: Annotated[Path, typer.Option(callback=checked_table, help="The CSV file to write.")],
    split: Annotated[Path | None, typer.Option(help="Split file: only its validation patients are measured.")] = None,
    threads: Annotated[int, typer.Option(min=1, help="CPU threads.")] = 1,
) -> None:
    """Write one row per study, model, box and pruning: milliseconds of locating and of the network, GFLOP and Dice."""
    torch.set_num_threads(threads)
    files = require_labelled_studies(studies, split)
    files = files[:: max(1, len(files) // _MOST)][:_MOST]
    predictors = {name: Predictor.from_files(model_file(name), locator_file(), "cpu") for name in _MODELS}
    ways = [(name, box, prune) for box, prune in WAYS for name in _MODELS]
    made = {"threads": threads, **origin()}
    rows = []
    for name, box, prune in ways:  # whatever is made at the first call
        evaluate_case(predictors[name], files[0], box, prune or None, 0)
    for number, file in enumerate(tqdm(files, unit="study")):
        for name, box, prune in ways[number % len(ways) :] + ways[: number % len(ways)]:
            found = evaluate_case(predictors[name], file, box, prune or None, 0)
            if found is not None:
                took = found["latency_ms"]
                row = {"model": name, "model_version": predictors[name].version, "box": box.value, "prune": prune or "plan"}
                row |= {"study": file.study, "locate_ms": round(took["locate"], 1), "network_ms": round(took["network"], 1)}
                rows.append({**row, "gflops": found["gflops"], "mean_dice": round(found["mean_dice"], 4), **made})
    replace_rows(out, rows, ("model", "box", "prune", "threads", "device"))


if __name__ == "__main__":
    typer.run(main)
