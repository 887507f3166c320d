"""What an experiment left for the figures: its fixed test slices with their masks and what was kept of them."""

from __future__ import annotations

import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np


@dataclass(frozen=True)
class ShownSlices:
    """Some fixed slices or images of the test set, the same for every experiment on a data set.

    Attributes:
        image: float (N, H, W). truth, mask: uint8 (N, H, W), expert's and network's.
        box: (N, 2, 2), start and stop in pixels (row, column).
        retention: (N, H, W) in 0..1, the share of stages survived; None where nothing is pruned.
        rank, weight: (N, queries), the entropy ranks and Omega; None where there is no prompt.
    """

    image: np.ndarray
    truth: np.ndarray
    mask: np.ndarray
    box: np.ndarray
    retention: np.ndarray | None
    rank: np.ndarray | None
    weight: np.ndarray | None

    def slice_dice(self, n: int) -> float:
        """Mean DSC of slice ``n`` over the structures that are in the mask or the truth; 1 where neither holds any."""
        found = []
        for value in np.union1d(np.unique(self.truth[n]), np.unique(self.mask[n])):
            if value:
                ours, theirs = self.mask[n] == value, self.truth[n] == value
                found.append(2.0 * (ours & theirs).sum() / (ours.sum() + theirs.sum()))
        return float(np.mean(found)) if found else 1.0


def read_slices(folder: Path, experiment: str) -> ShownSlices | None:
    """What ``experiment`` left below ``folder``; None if nothing.

    Raises:
        ValueError: the file is damaged, or lacks an array.
    """
    path = folder / f"{experiment}.npz"
    if not path.exists():
        return None
    try:
        with np.load(path, allow_pickle=False) as found:
            arrays = {name: found[name] for name in found.files}
        count = len(arrays["image"])
        rank, weight = (None if (values := arrays.get(name)) is None else values.reshape(count, -1) for name in ("rank", "weight"))
        box, kept = arrays["box"].reshape(count, 2, 2), arrays.get("retention")
        return ShownSlices(arrays["image"], arrays["truth"], arrays["mask"], box, kept, rank, weight)
    except (KeyError, ValueError, OSError, EOFError, zipfile.BadZipFile) as error:
        raise ValueError(f"{path} does not hold slices for the figures: {error}.") from None
