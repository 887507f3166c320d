"""Which stacks are the short-axis cines: by where they lie and how many slices they have; descriptions only break ties."""

from __future__ import annotations

import numpy as np

from prato.dicom.cines.blocks import is_named_plain, normal_of, other_name_of
from prato.dicom.cines.stacks import LeftOut, Stack

#: From the base of the left ventricle to its apex in most people, LPS: to the left, to the front, downwards.
_LONG_AXIS = np.array([0.66, -0.62, -0.42]) / np.linalg.norm([0.66, -0.62, -0.42])
#: The slices of a short-axis stack lie across that axis, within the spread of people and of planning, degrees.
_MAX_ANGLE = 45.0
#: How far a stack of many more slices may be turned; beyond lie the long axes, which contain that axis.
_UNUSUAL_ANGLE = 60.0
#: A stack of less than this share of the slices of another covers a part of the heart: three slices with tags, or for flow.
_PART = 0.5


def angle_to_long_axis(stack: Stack) -> float:
    """Between the normal of ``stack`` and the usual long axis of the left ventricle, degrees, 0 to 90."""
    return float(np.degrees(np.arccos(np.clip(abs(float(normal_of(stack.frame) @ _LONG_AXIS)), 0, 1))))


def choose_short_axis(stacks: list[Stack]) -> tuple[list[Stack], list[LeftOut], list[str]]:
    """From the cines of one study: those across the heart, the others with the reason, and what was guessed (a sentence each)."""
    chosen: list[Stack] = []
    left_out: list[LeftOut] = []
    warnings: list[str] = []
    across = [stack for stack in stacks if angle_to_long_axis(stack) <= _MAX_ANGLE]
    unusual = [stack for stack in stacks if angle_to_long_axis(stack) <= _UNUSUAL_ANGLE] if across else stacks
    most = max((len(stack.slices) for stack in unusual), default=0)
    if max((len(stack.slices) for stack in across), default=0) < _PART * most:
        across = [stack for stack in unusual if len(stack.slices) == most]
        for stack in across:
            angle = angle_to_long_axis(stack)
            warnings.append(
                f"{stack.label} is turned by {angle:.0f}° from the usual short axis: it is taken, as no other cine has as many slices."
            )
    for stack in stacks:
        if stack not in across:
            left_out.append(_leave(stack, f"a cine, but no short axis (turned by {angle_to_long_axis(stack):.0f}° from the usual one)"))
    most = max((len(stack.slices) for stack in across), default=0)
    for stack in across:
        if len(stack.slices) < _PART * most:
            left_out.append(_leave(stack, f"a cine of {len(stack.slices)} slices beside one of {most}"))
        else:
            chosen.append(stack)
    plain = [stack for stack in chosen if is_named_plain(stack.frame)]
    if len(chosen) > 1 and 0 < len(plain) < len(chosen):
        for stack in chosen:
            if stack not in plain:
                left_out.append(_leave(stack, "named as no plain cine, beside one that is"))
        chosen = plain
    for stack in chosen:
        other = other_name_of(stack.frame)
        if other is not None:
            warnings.append(f'{stack.label} may be no plain cine, as its header names "{other}": look at it before you label it.')
    return chosen, left_out, warnings


def _leave(stack: Stack, reason: str) -> LeftOut:
    return LeftOut(stack.label, len({frame.file for frame in stack.frames}), reason)
