"""scripts/research/sunnybrook.py: what of an expert's contours the app's masks are held against."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from prato.data.cine import read_cine, write_cine
from prato.data.nifti import Volume
from prato.data.structures import STRUCTURES
from scripts.research.sunnybrook import _compare

ED, ES = 1, 0  # in the order of the cine, end-systole comes first
LYING = np.diag([-10.0, -10.0, 10.0, 1.0])  # a voxel is 1 ml


def square(side: int, *slices: int) -> np.ndarray:
    drawn = np.zeros((8, 8, 3), bool)
    for k in slices:
        drawn[1 : 1 + side, 1 : 1 + side, k] = True
    return drawn


class Predictor:
    """Finds in a phase what ``masks`` has for it."""

    def __init__(self, *masks: np.ndarray) -> None:
        self.masks, self.seen = masks, []

    def set_image(self, image: Volume) -> None:
        self.number = int(image.array.flat[0])
        self.seen.append(image.affine)

    def predict(self) -> Any:
        return SimpleNamespace(mask=self.masks[self.number])


def test_slices_that_the_expert_drew_are_compared_and_all_that_either_drew_is_measured(tmp_path: Path) -> None:
    write_cine(tmp_path / "a.nii.gz", np.broadcast_to(np.arange(2, dtype=np.int16), (8, 8, 3, 2)).copy(), LYING, 100)
    at_ed = np.where(square(6, 0, 1, 2), STRUCTURES["myocardium"], 0)
    at_ed[square(4, 0, 1, 2)] = STRUCTURES["LV cavity"]
    predictor = Predictor(np.where(square(2, 1), STRUCTURES["LV cavity"], 0), at_ed)
    cavity, epicardium = np.zeros((2, 8, 8, 3, 2), bool)
    cavity[..., ED], cavity[..., ES] = square(4, 1, 2), square(4, 1)
    epicardium[..., ED] = square(6, 1)
    for is_placed, affine in ((True, LYING), (False, np.diag([10.0, 10.0, 10.0, 1.0]))):
        predictor.seen.clear()
        assert _compare(predictor, read_cine(tmp_path / "a.nii.gz"), is_placed, (ED, ES), cavity, epicardium) == {
            "dice": {"cavity_ed": 1.0, "cavity_es": 0.4, "left_ventricle_ed": 1.0},  # 2 * 4 / (4 + 16)
            "app": {"edv_ml": 48.0, "esv_ml": 4.0, "ef": 91.7},
            "expert": {"edv_ml": 32.0, "esv_ml": 16.0, "ef": 50.0},
        }
        assert all(np.array_equal(seen, affine) for seen in predictor.seen) and len(predictor.seen) == 2
