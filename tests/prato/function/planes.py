"""Slices of hearts with so many pixels of each structure."""

import numpy as np

from prato.data.structures import STRUCTURES


def plane_of(lv: int, rv: int, myocardium: int = 1000, edge: int = 100) -> np.ndarray:
    """uint8 (edge, edge): the LV cavity in the middle, the myocardium round it, and the RV cavity round both."""
    flat = np.zeros(edge * edge, np.uint8)
    inside_out = np.argsort(np.hypot(*np.mgrid[-edge // 2 : edge - edge // 2, -edge // 2 : edge - edge // 2]), axis=None, kind="stable")
    flat[inside_out[:lv]] = STRUCTURES["LV cavity"]
    flat[inside_out[lv : lv + myocardium]] = STRUCTURES["myocardium"]
    flat[inside_out[lv + myocardium : lv + myocardium + rv]] = STRUCTURES["RV cavity"]
    return flat.reshape(edge, edge)
