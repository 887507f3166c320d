"""Series of one or two slices each, joined with one another or with the stack that they continue; of what is there twice, the better."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from prato.dicom.blocks import Block, angle_between, is_named_plain, is_parallel, normal_of
from prato.dicom.headers import Frame
from prato.dicom.stacks import MIN_SLICES, LeftOut, Stack, are_apart, fit, is_regular, lie_alike, overlap, shift_aside

#: Where at least so many of the slices were acquired again, all was, as at rest and under stress; fewer are better breath holds.
_AGAIN = 0.5
#: A slice that is turned by less, degrees, and whose centre lies by less beside the stack's, mm, was planned with it.
_TURNED = 15.0
_BESIDE_MM = 30.0
#: Less is rounding, degrees.
_PARALLEL = 0.1


@dataclass(frozen=True)
class _Slice:
    """One slice: its distance along the normal, and its frames."""

    distance: float
    frames: tuple[Frame, ...]

    @property
    def when(self) -> tuple[float, int]:
        """What was acquired later is larger."""
        return self.frames[0].acquired_s or 0.0, self.frames[0].series_number or 0


def join_small(stacks: list[Stack], small: Iterable[Block], left_out: list[LeftOut]) -> list[Stack]:
    """The ``stacks``, and those that ``small`` blocks make; what becomes part of none is added to ``left_out``."""
    pools: list[list[_Slice]] = []
    for block in sorted(small, key=lambda block: (block.frame.acquired_s or 0.0, block.frame.series_number or 0)):
        own = [_Slice(distance, frames) for distance, frames in block.slices.items()]
        pool = next((pool for pool in pools if fit({0.0: pool[0].frames}, block.slices)), None)
        if pool is None:
            pools.append(own)
        else:
            pool += own
    rest: list[list[_Slice]] = []
    series = len(stacks)
    for pool in pools:
        for slices, notes in _acquisitions(pool, left_out):
            remaining = _continue_stacks(stacks, series, slices, left_out)
            if len(remaining) >= MIN_SLICES:
                stacks.append(Stack({one.distance: one.frames for one in remaining}, notes))
            elif remaining:
                rest.append(remaining)
    for few in rest:
        left_out += _leave(few, stacks, rest)
    return stacks


def _acquisitions(pool: list[_Slice], left_out: list[LeftOut]) -> list[tuple[list[_Slice], tuple[str, ...]]]:
    """The slices of ``pool``, which all fit, in order and each there once, with notes; what was acquired again as a whole, once more."""
    places: list[list[_Slice]] = []
    for one in sorted(pool, key=lambda one: one.distance):
        if places and overlap([places[-1][0].distance], [one.distance]):
            places[-1].append(one)
        else:
            places.append([one])
    usual = Counter(len(one.frames) for one in pool).most_common(1)[0][0]
    echo = Counter(one.frames[0].echo_ms for one in pool).most_common(1)[0][0]

    def is_usual(one: _Slice) -> tuple[bool, bool, bool]:
        return is_named_plain(one.frames[0]), len(one.frames) == usual, one.frames[0].echo_ms == echo

    again = [place for place in places if len(place) > 1]
    found: list[tuple[list[_Slice], tuple[str, ...]]] = []
    if len(again) >= max(MIN_SLICES, _AGAIN * len(places)):
        first = [min(place, key=lambda one: (*(not good for good in is_usual(one)), one.when)) for place in places]
        chosen = {id(one) for one in first}
        found.append((first, ()))
        return found + _acquisitions([one for one in pool if id(one) not in chosen], left_out)
    kept, notes = [], []
    for place in places:
        best = max(place, key=lambda one: (is_usual(one), one.when))
        kept.append(best)
        for other in place:
            if other is best:
                continue
            is_later = is_usual(best) == is_usual(other)
            label = best.frames[0].label
            left_out.append(_left([other], f"acquired again in {label}" if is_later else f"a slice that {label} has already"))
            which = "the later series" if is_later else "the series that is like those of the others"
            notes.append(f"A slice that was acquired twice is taken from {which}.")
    found.append((kept, tuple(dict.fromkeys(notes))))
    return found


def _continue_stacks(stacks: list[Stack], series: int, slices: list[_Slice], left_out: list[LeftOut]) -> list[_Slice]:
    """What of ``slices`` none of the first ``series`` of the ``stacks`` has, nor goes on with: all, where they are a stack of their own in
    all places of the other."""
    n = next((n for n, stack in enumerate(stacks[:series]) if fit(stack.slices, {0.0: slices[0].frames})), None)
    if n is None:
        return slices
    own = [one.distance for one in slices]
    if len(own) >= len(stacks[n].slices) and is_regular(own) and all(overlap([place], own) for place in stacks[n].slices):
        return slices
    remaining = []
    for one in slices:
        stack = stacks[n]
        if overlap(stack.slices, [one.distance]):
            left_out.append(_left([one], f"a slice that {stack.label} has already"))
        else:
            remaining.append(one)
    for group in (remaining, *([one] for one in remaining)):  # all at once, as one of them alone may lie beyond the next
        joined = dict(sorted({**stacks[n].slices, **{one.distance: one.frames for one in group}}.items()))
        if group and (is_regular(list(joined)) or not is_regular(list(stacks[n].slices))):
            stacks[n] = Stack(joined, stacks[n].notes, stacks[n].flaw)
            remaining = [one for one in remaining if one not in group]
    return remaining


def _leave(few: list[_Slice], stacks: list[Stack], rest: list[list[_Slice]]) -> list[LeftOut]:
    """The reasons for ``few`` slices that are no stack, and a note in the one that they seem to be a part of."""
    frames = few[0].frames
    again = next((stack for stack in stacks if fit(stack.slices, {0.0: frames}) and overlap(stack.slices, [few[0].distance])), None)
    if again is not None:
        return [_left([one], f"a slice that {again.label} has already") for one in few]
    reason = f"a cine of {len(few)} slice{'s' * (len(few) != 1)}"
    others = [next(iter(stack.slices.values())) for stack in stacks] + [other[0].frames for other in rest]
    apart = next((other[0].label for other in others if are_apart(frames, other) and lie_alike(frames[0], other[0])), None)
    n = next((n for n, stack in enumerate(stacks) if lies_next_to(frames[0], stack)), None)
    if apart is not None:
        reason += f", in another frame of reference than {apart}"
    elif n is not None:
        difference = _difference(frames[0], stacks[n].frame)
        reason += f" next to {stacks[n].label}, but {difference}"
        note = f"A slice next to the others is left out: it is {difference}."
        stacks[n] = Stack(stacks[n].slices, (*stacks[n].notes, note), stacks[n].flaw)
    else:
        reason += ", no stack"
    return [_left(few, reason)]


def lies_next_to(frame: Frame, stack: Stack) -> bool:
    """Whether ``frame`` lies where the next slice of ``stack`` would, or one within it that is missing."""
    places = list(stack.slices)
    if angle_between(frame, stack.frame) > _TURNED or are_apart([frame], [stack.frame]) or frame.kind != stack.frame.kind:
        return False
    normal = normal_of(stack.frame)
    step = _centre(frame) - _centre(stack.frame)
    distance = float(normal @ step) + places[0]
    gap = float(np.median(np.diff(places)))
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


def _difference(frame: Frame, other: Frame) -> str:
    """What keeps ``frame`` out of a stack, of which ``other`` is."""
    angle = angle_between(frame, other)
    if angle > _PARALLEL:
        return f"turned by {angle:.1f}°"
    if not is_parallel(frame, other):
        return "turned in its plane"
    sizes = [f"{one.columns}x{one.rows} pixels of {one.spacing[1]:.4g}x{one.spacing[0]:.4g} mm" for one in (frame, other)]
    return f"of {sizes[0]} instead of {sizes[1]}" if sizes[0] != sizes[1] else f"{shift_aside(frame, other):.1f} mm aside"


def _left(slices: Sequence[_Slice], reason: str) -> LeftOut:
    frames = [frame for one in slices for frame in one.frames]
    return LeftOut(frames[0].label, len({frame.file for frame in frames}), reason)
