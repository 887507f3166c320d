"""Guesses end-systole from the images of a cine, before anything is segmented."""

from __future__ import annotations

import numpy as np

from prato.dicom.cines.order import OrderedCine

#: The shares of the R-R interval between which the ventricles are emptiest.
_SYSTOLE = (0.2, 0.6)
#: The share of the pixels in which the heart moves: those that change most.
_MOVING = 0.03


def guess_end_systole(array: np.ndarray, cine: OrderedCine) -> int:
    """The phase of ``array`` (X, Y, Z, T), from 0, that looks least like the first one where the images change most.

    Only phases at 20 to 60 % of the heartbeat count; a ``cine`` without times is taken as one whole heartbeat.
    """
    count = array.shape[3]
    share = np.arange(count) / count if cine.times_ms is None or not cine.rr_ms else cine.times_ms / cine.rr_ms
    possible = np.flatnonzero((share >= _SYSTOLE[0]) & (share <= _SYSTOLE[1]))
    if len(possible) == 0:
        return count // 3
    spread = np.stack([array[:, :, k].astype(np.float32).std(axis=2) for k in range(array.shape[2])], axis=2)
    moving = spread >= np.quantile(spread, 1 - _MOVING)
    values = array[moving].astype(np.float32)  # (N, T)
    values -= values.mean(axis=0)
    likeness = (values * values[:, :1]).sum(axis=0) / np.maximum(np.linalg.norm(values, axis=0) * np.linalg.norm(values[:, 0]), 1e-6)
    return int(possible[np.argmin(likeness[possible])])
