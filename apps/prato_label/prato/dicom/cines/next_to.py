"""Slices that lie where a stack goes on, and what keeps them out of it."""

from __future__ import annotations

import numpy as np

from prato.dicom.cines.blocks import angle_between, is_parallel, normal_of
from prato.dicom.cines.stacks import Stack, are_apart, gap_mm, shift_aside
from prato.dicom.reading.headers import Frame

#: A slice that is turned by less, degrees, and whose centre lies by less beside the stack's, mm, was planned with it.
_TURNED = 15.0
_BESIDE_MM = 30.0
#: Less is rounding, degrees.
_PARALLEL = 0.1


def lies_next_to(frame: Frame, stack: Stack) -> bool:
    """Whether ``frame`` lies where the next slice of ``stack`` would, or one within it that is missing."""
    places = list(stack.slices)
    if angle_between(frame, stack.frame) > _TURNED or are_apart([frame], [stack.frame]) or frame.kind != stack.frame.kind:
        return False
    normal = normal_of(stack.frame)
    step = _centre(frame) - _centre(stack.frame)
    distance = float(normal @ step) + places[0]
    gap = gap_mm(places)
    aside = float(np.linalg.norm(step - (normal @ step) * normal))
    nearest = min(abs(distance - place) for place in places)
    return aside < _BESIDE_MM and 0.5 * gap < nearest < 1.5 * gap


def _centre(frame: Frame) -> np.ndarray:
    along = np.reshape(frame.orientation, (2, 3))
    return (
        np.array(frame.position)
        + along[0] * frame.spacing[1] * (frame.columns - 1) / 2
        + along[1] * frame.spacing[0] * (frame.rows - 1) / 2
    )


def difference_from(frame: Frame, other: Frame) -> str:
    """What keeps ``frame`` out of a stack, of which ``other`` is."""
    angle = angle_between(frame, other)
    if angle > _PARALLEL:
        return f"turned by {angle:.1f}°"
    if not is_parallel(frame, other):
        return "turned in its plane"
    sizes = [f"{one.columns}x{one.rows} pixels of {one.spacing[1]:.6g}x{one.spacing[0]:.6g} mm" for one in (frame, other)]
    return f"of {sizes[0]} instead of {sizes[1]}" if sizes[0] != sizes[1] else f"{shift_aside(frame, other):.1f} mm aside"
