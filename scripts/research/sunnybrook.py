"""Hearts from another scanner, drawn by other experts: the app's masks beside the contours of the Sunnybrook scans (DICOM).

    python scripts/research/sunnybrook.py --sunnybrook SUNNYBROOK --out docs/results/sunnybrook.csv

The phases with contours are segmented without a box: as the scan is imported, and with an affine that names no plane, so that networks see
the slices as they are stored. The experts drew the cavity of the left ventricle in end-diastole and end-systole, and the epicardium in
end-diastole. Volumes are of all slices; Dice is of those that the experts drew.
"""

from __future__ import annotations

import json
import re
import tempfile
from pathlib import Path
from typing import Annotated

import numpy as np
import pydicom
import typer
from matplotlib.path import Path as Outline
from tqdm import tqdm

from prato.data.cine import Cine, read_cine
from prato.data.nifti import Volume
from prato.data.structures import STRUCTURES
from prato.dicom.importer import import_dicom
from prato.inference.predictor import Predictor
from prato.models.registry import DEFAULT_MODEL
from scripts.common.model_files import locator_file, model_file
from scripts.common.provenance import origin
from scripts.common.refusals import checked_table, refuses_in_one_sentence
from scripts.common.results import Row, replace_rows
from scripts.research.smooth_in_time import sunnybrook_phases

#: Folders of the experts' contours: of the cavity, and of the epicardium.
_DRAWN = ("i-contours", "o-contours")


def read_contours(scan: Path, cine: Cine, uids: list[list[str]], kind: str) -> np.ndarray:
    """bool (X, Y, Z, T), the voxels whose centres lie within the contours of one ``kind``.

    Args:
        uids: the SOP instance UIDs of ``cine``, by slice and phase. kind: of ``_DRAWN``.
    """
    shape = (*cine.grid().array.shape[:3], len(cine))
    place = {uid: (k, t) for k, row in enumerate(uids) for t, uid in enumerate(row)}
    centres = np.stack(np.meshgrid(np.arange(shape[0]), np.arange(shape[1]), indexing="ij"), -1).reshape(-1, 2)
    inside = np.zeros(shape, bool)
    for path in (scan.parent / "contours" / scan.name / kind).glob("*.txt"):
        (number,) = re.findall(r"IM-0001-(\d+)-", path.name)
        header = pydicom.dcmread(scan / f"{int(number)}.dcm", specific_tags=["SOPInstanceUID"])
        inside[(..., *place[str(header.SOPInstanceUID)])] = Outline(np.loadtxt(path)).contains_points(centres).reshape(shape[:2])
    return inside


def measure_scan(predictor: Predictor, scan: Path, ed: int, es: int) -> list[Row]:
    """A row for each way of seeing the cine in the folder ``scan``."""
    with tempfile.TemporaryDirectory() as target:
        (found,) = import_dicom(scan, target).imported
        cine = read_cine(Path(target) / f"{found.study}.nii.gz")
        uids = json.loads((Path(target) / f"{found.study}.json").read_text())["dicom"]["sop_instance_uids"]
        cavity, epicardium = (read_contours(scan, cine, uids, kind) for kind in _DRAWN)
        return [
            {"scan": scan.name, "seen": seen, **_compare(predictor, cine, is_placed, (ed, es), cavity, epicardium)}
            for seen, is_placed in (("by its affine", True), ("as stored", False))
        ]


def _compare(predictor: Predictor, cine: Cine, is_placed: bool, phases: tuple[int, int], cavity: np.ndarray, epicardium: np.ndarray) -> Row:
    ml = float(np.prod(cine.grid().spacing)) / 1000
    dice, app, expert = {}, [], []
    for name, t in zip(("ed", "es"), phases):
        phase = cine.phase(t)
        predictor.set_image(phase if is_placed else Volume(phase.array, np.diag([*phase.spacing, 1.0])))
        mask = predictor.predict().mask
        own = mask == STRUCTURES["LV cavity"]
        app.append(float(own.sum()) * ml)
        expert.append(float(cavity[..., t].sum()) * ml)
        dice[f"cavity_{name}"] = _dice(own, cavity[..., t])
        if epicardium[..., t].any():
            dice[f"left_ventricle_{name}"] = _dice(own | (mask == STRUCTURES["myocardium"]), epicardium[..., t])
    return {"dice": dice, "app": _function(*app), "expert": _function(*expert)}


def _dice(own: np.ndarray, drawn: np.ndarray) -> float:
    seen = own[..., drawn.any((0, 1))]
    return round(2 * float((own & drawn).sum() / (seen.sum() + drawn.sum())), 4)


def _function(edv: float, esv: float) -> dict[str, float]:
    return {"edv_ml": round(edv, 1), "esv_ml": round(esv, 1), "ef": round(100 * (1 - esv / edv), 1)}


@refuses_in_one_sentence
def main(
    sunnybrook: Annotated[Path, typer.Option(help="Folder of the Sunnybrook scans SCD… and their contours.")],
    out: Annotated[Path, typer.Option(callback=checked_table, help="The CSV file to write; rows of other models and scans stay.")],
    model: Annotated[list[str], typer.Option(help="Shipped models, by name.")] = [DEFAULT_MODEL],  # noqa: B006
) -> None:
    """Measure the Dice and the volumes of each scan."""
    scans = sunnybrook_phases(sunnybrook)
    predictors = {name: Predictor.from_files(model_file(name), locator_file()) for name in model}
    for name, predictor in predictors.items():
        made = {"model": name, "model_version": predictor.version, **origin()}
        for scan, known in tqdm(scans.items(), unit="scan"):
            rows = [made | row for row in measure_scan(predictor, sunnybrook / scan, *known)]
            replace_rows(out, rows, ("model", "scan"))


if __name__ == "__main__":
    typer.run(main)
