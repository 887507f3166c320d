"""What is wrong with the default network's masks for a labeller who clicks: how many parts, how large, and what one tells of others.

Of each validation study: the parts that are wrong and what share of the error the largest hold; the share in parts at most two voxels wide,
which lie along contours where labellers differ as well; what would be left if every contour of a structure moved in or out together, by
the best of many amounts, over the whole study or in each slice; and, if the largest parts were put right in the slices beside them too,
how many voxels there would come right and how many wrong.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer
from scipy import ndimage

from prato.data.structures import STRUCTURES
from prato.training.simulated_labeller import wrong_parts
from scripts.common.labelled import require_labelled_studies
from scripts.common.paths import ACDC_SPLIT
from scripts.common.provenance import origin
from scripts.common.refusals import checked_table, refuses_in_one_sentence
from scripts.common.results import replace_rows
from scripts.simulate.click_study import make_drafts

#: How many of the largest parts are looked at; how far contours may move, mm.
LARGEST, MOVES = 10, (-3.0, -2.0, -1.5, -1.0, -0.5, 0.0, 0.5, 1.0, 1.5, 2.0, 3.0)


@refuses_in_one_sentence
def main(
    studies: Annotated[Path, typer.Option(help="ACDC as scripts/import_acdc.py makes it.")],
    out: Annotated[Path, typer.Option(callback=checked_table, help="The CSV file to write; rows of other studies stay.")],
    patients: Annotated[int, typer.Option(min=1, help="Validation patients.")] = 8,
) -> None:
    """Write a row for each study."""
    torch.set_num_threads(1)
    files = require_labelled_studies(studies, ACDC_SPLIT, patients)
    rows = []
    for draft in make_drafts(files):
        found = _parts(draft.mask, draft.truth) | _moved(draft.mask, draft.truth, draft.image.volume.spacing[:2])
        about = {"study": draft.file.study, "patient": draft.file.patient}
        rows.append({**about, **found, **origin()})
    replace_rows(out, rows, ("study",))


def _parts(mask: np.ndarray, truth: np.ndarray) -> dict[str, Any]:
    found, thin = [], 0
    for k in range(mask.shape[2]):
        numbers, sizes = wrong_parts(mask[:, :, k], truth[:, :, k])
        for number in range(1, len(sizes)):
            part = numbers == number
            found.append((int(sizes[number]), k, part))
            bounds = ndimage.find_objects(part)[0]
            thin += int(sizes[number]) * bool(ndimage.distance_transform_edt(np.pad(part[bounds], 1)).max() <= 1)
    found.sort(key=lambda each: -each[0])
    wrong, repaired, damaged = sum(size for size, _, _ in found), 0, 0
    for _, k, part in found[:LARGEST]:
        structure = truth[:, :, k][part][0]
        for beside in {k - 1, k + 1} & {*range(mask.shape[2])}:
            changed = part & (mask[:, :, beside] != structure)
            repaired += int((truth[:, :, beside][changed] == structure).sum())
            damaged += int((truth[:, :, beside][changed] == mask[:, :, beside][changed]).sum())
    largest = [size for size, _, _ in found[:LARGEST]]
    about = {"wrong_voxels": wrong, "parts": len(found), "largest_median": float(np.median(largest)) if largest else 0.0}
    about |= {"share_of_largest": round(sum(largest) / max(wrong, 1), 3), "share_of_thin": round(thin / max(wrong, 1), 3)}
    return {**about, "beside_repaired": repaired, "beside_damaged": damaged}


def _moved(mask: np.ndarray, truth: np.ndarray, spacing: tuple[float, ...]) -> dict[str, float]:
    """The share of each structure's wrong voxels that is left when all its contours move by the best amount, mean over the structures."""
    left: dict[str, list[float]] = {"study": [], "slice": []}
    for value in STRUCTURES.values():
        wrong = np.array([_wrong(mask[:, :, k] == value, truth[:, :, k] == value, spacing) for k in range(mask.shape[2])])
        before = max(int(wrong[:, MOVES.index(0.0)].sum()), 1)
        left["study"].append(wrong.sum(0).min() / before)
        left["slice"].append(wrong.min(1).sum() / before)
    return {f"left_if_{where}_moves": round(float(np.mean(shares)), 3) for where, shares in left.items()}


def _wrong(one: np.ndarray, truth: np.ndarray, spacing: tuple[float, ...]) -> list[int]:
    """Wrong voxels of one structure in one slice after each of MOVES."""
    if not one.any():
        return [int(truth.sum())] * len(MOVES)
    outward, inward = (ndimage.distance_transform_edt(where, sampling=spacing) for where in (~one, one))
    signed = np.where(one, 0.5 * min(spacing) - inward, outward - 0.5 * min(spacing))
    return [int(((signed <= move) != truth).sum()) for move in MOVES]


if __name__ == "__main__":
    typer.run(main)
