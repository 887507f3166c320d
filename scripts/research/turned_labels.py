"""How often a label that was mirrored or turned is warned of, and one that was not: experts' labels beside a model's proposals.

python scripts/research/turned_labels.py --studies out/acdc --out docs/results/turned_labels.csv
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from prato.data.cases import read_label
from prato.data.labels.turned import agreements, find_turn, turns
from prato.data.nifti import read_volume
from prato.data.stack import slice_axis
from prato.inference.predictor import Predictor
from prato.models.registry import DEFAULT_MODEL
from scripts.common.arguments import HelpFormatter, positive_int, refused_in_one_sentence, table_file
from scripts.common.labelled import require_labelled_studies
from scripts.common.model_files import locator_file, model_file, model_name
from scripts.common.provenance import origin
from scripts.common.results import Row, replace_rows
from scripts.research.corruptions import corrupt
from scripts.research.doubtful_masks import FAULTS


def measure(label: np.ndarray, proposal: np.ndarray, axis: int) -> Row:
    """Of an expert's ``label``: its DSC with ``proposal``, the best of all ways to turn it, whether it is warned of; and of its turned
    copies how many there are, how many are warned of, and the highest DSC that one has."""
    copies = [turned for _, turned in turns(label, axis)]
    (_, as_it_is), *others = agreements(label, proposal, axis)
    return {
        "dice": as_it_is,
        "dice_turned": max(score for _, score in others),
        "warned": find_turn(label, proposal, axis) is not None,
        "copies": len(copies),
        "found": sum(find_turn(turned, proposal, axis) is not None for turned in copies),
    }


def summarise(found: list[Row]) -> Row:
    """Of labels with what :func:`measure` says: counts, the least DSC, and by how much the best turned one is behind, at least."""
    return {
        "labels": len(found),
        "warned": sum(row["warned"] for row in found),
        "turned_labels": sum(row["copies"] for row in found),
        "turned_warned": sum(row["found"] for row in found),
        "least_dice": round(min(row["dice"] for row in found), 4),
        "least_lead": round(min(row["dice"] - row["dice_turned"] for row in found), 4),
    }


def main() -> None:
    """Parse the command line and measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=HelpFormatter)
    parser.add_argument("--studies", type=Path, required=True, help="studies folder with labels/final")
    parser.add_argument("--out", type=table_file, required=True, help="CSV file; rows of other models and faults stay")
    parser.add_argument("--model", default=DEFAULT_MODEL, help="a shipped model, or a model file: its masks are the proposals")
    parser.add_argument("--split", type=Path, help="split file: only its validation patients are measured")
    parser.add_argument("--fault", nargs="*", choices=list(FAULTS), default=["clean"], help="what spoils the images first")
    parser.add_argument("--patients", type=positive_int, help="maximum number of patients")
    parser.add_argument("--threads", type=positive_int, default=1, help="CPU threads")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    with refused_in_one_sentence(parser):
        files = require_labelled_studies(given.studies, given.split, given.patients)
        path = model_file(given.model)
        predictor = Predictor.from_files(path, locator_file())
    found: dict[str, list[Row]] = {fault: [] for fault in given.fault}
    for each in tqdm(files, unit="study", mininterval=5):
        volume = read_volume(each.image)
        label = read_label(each.label, volume)
        for fault, rows in found.items():
            image, moved = corrupt(fault, volume, label, each.study, FAULTS)
            predictor.set_image(image)
            rows.append(measure(moved, predictor.predict().mask, slice_axis(moved.shape, image.spacing)))
    about = {"model": model_name(path), "model_version": predictor.version}
    made = {"threads": given.threads, **origin()}
    measured = [{**about, "fault": fault, **summarise(rows), **made} for fault, rows in found.items()]
    replace_rows(given.out, measured, ("model", "fault"))


if __name__ == "__main__":
    main()
