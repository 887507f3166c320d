"""Blocks joined into stacks: a cine is one series, or one series per slice, or was interrupted and goes on in another series."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from prato.dicom.blocks import MIN_PHASES, ONE_PHASE, Block, angle_between, is_parallel, normal_of, reference_of, split_series, why_no_cine
from prato.dicom.headers import Frame

MIN_SLICES = 3
#: By how much of it the distance between slices may vary: the positions in headers are rounded.
_REGULAR = 0.05
#: A slice nearer to another than this is the same one, acquired again, mm.
_SAME_MM = 0.5
#: How far pixel centres may lie beside the stack's axis, mm.
_ASIDE_MM = 0.5
#: Planes that are turned by less than this belonged to one stack; what is turned by more is another view, degrees.
_TURNED = 30.0


@dataclass(frozen=True)
class Stack:
    """Slices that lie one above another, by their distance (mm, ascending) along the normal of ``frame``; ``flaw`` is what is wrong."""

    slices: dict[float, tuple[Frame, ...]]
    notes: tuple[str, ...] = ()
    flaw: str | None = None

    @property
    def frame(self) -> Frame:
        """Any one of the frames, for what all have in common."""
        return next(iter(self.slices.values()))[0]

    @property
    def label(self) -> str:
        """What messages call it."""
        found = {frame.series: frame.label for frames in self.slices.values() for frame in frames}
        labels = list(found.values())
        return labels[0] if len(labels) == 1 else f"{labels[0]} and {len(labels) - 1} more series"

    @property
    def frames(self) -> list[Frame]:
        """All of them."""
        return [frame for frames in self.slices.values() for frame in frames]


@dataclass(frozen=True)
class LeftOut:
    """Images that became no part of a cine: their series, in how many files they are, and why."""

    label: str
    files: int
    reason: str

    def __str__(self) -> str:
        return f"{self.label}, {self.files} file{'s' * (self.files != 1)}: {self.reason}"


def find_stacks(series: Sequence[Iterable[Frame]]) -> tuple[list[Stack], list[LeftOut]]:
    """The stacks with several phases among the ``series`` of one study, and what is left out."""
    stacks: list[Stack] = []
    left_out: list[LeftOut] = []
    small: list[Block] = []
    single: list[Block] = []
    for frames in series:
        blocks = split_series(frames)
        cines = []
        for block in blocks:
            reason = why_no_cine(block)
            if reason is None:
                cines.append(block)
            elif reason == ONE_PHASE:
                single.append(block)
            else:
                left_out.append(LeftOut(block.frame.label, block.files, reason))
        if sum(len(block.slices) for block in cines) >= MIN_SLICES > max((len(block.slices) for block in cines), default=MIN_SLICES):
            largest = max(angle_between(cines[0].frame, block.frame) for block in cines)
            reason = f"its slices are not parallel (up to {largest:.0f}° apart)" if largest > 0.05 else "its slices differ in size"
            left_out.append(LeftOut(cines[0].frame.label, sum(block.files for block in cines), reason))
            continue
        for block in cines:
            if len(block.slices) < MIN_SLICES:
                small.append(block)
            else:
                _add(stacks, Stack(dict(block.slices), flaw=_odd_ones(block, cines)))
    left_out += _leave_single(single)
    return _join_small(stacks, small, left_out), left_out


def _leave_single(single: Iterable[Block]) -> list[LeftOut]:
    """Series of one phase. Many of the same slices may be one cine, or a measurement repeated over many heartbeats: nobody guesses."""
    alike: list[list[Block]] = []
    for block in single:
        group = next((group for group in alike if _show_same_slices(group[0], block)), None)
        if group is None:
            alike.append([block])
        else:
            group.append(block)
    left_out = []
    for group in alike:
        count = len({block.frame.series for block in group})
        if count < MIN_PHASES or len(group[0].slices) < MIN_SLICES:
            left_out += [LeftOut(block.frame.label, block.files, ONE_PHASE) for block in group]
            continue
        label, files = f"{group[0].frame.label} and {count - 1} more series", sum(block.files for block in group)
        left_out.append(LeftOut(label, files, "one phase each of the same slices: if they are one cine, export it as one series"))
    return left_out


def _show_same_slices(a: Block, b: Block) -> bool:
    same = len(a.slices) == len(b.slices) and np.allclose(list(a.slices), list(b.slices), rtol=0, atol=_SAME_MM)
    return bool(same) and _fit(a.slices, b.slices)


def _odd_ones(block: Block, others: Iterable[Block]) -> str | None:
    """What of the same series should have been slices of ``block``, and cannot be."""
    low, high = min(block.slices), max(block.slices)
    gap = (high - low) / (len(block.slices) - 1)
    for other in others:
        angle = angle_between(block.frame, other.frame)
        distance = float(normal_of(block.frame) @ other.frame.position)
        if other is block or len(other.slices) >= MIN_SLICES or angle > _TURNED or not low - 1.5 * gap < distance < high + 1.5 * gap:
            continue
        if angle > 0.05:
            return f"its slices are not parallel ({len(other.slices)} of them turned by {angle:.1f}°)"
        sizes = " and ".join(f"{f.columns}x{f.rows} pixels of {f.spacing[1]:.3g}x{f.spacing[0]:.3g} mm" for f in (block.frame, other.frame))
        return f"its slices differ in size or direction ({sizes})"
    return None


def _add(stacks: list[Stack], stack: Stack) -> None:
    """As a stack of its own, or as the rest of one that another series began."""
    for n, other in enumerate(stacks):
        if _fit(other.slices, stack.slices) and not _overlap(other.slices, stack.slices):
            joined = dict(sorted({**other.slices, **stack.slices}.items()))
            if is_regular(list(joined)):
                stacks[n] = Stack(joined, other.notes + stack.notes, other.flaw or stack.flaw)
                return
    stacks.append(stack)


def _join_small(stacks: list[Stack], small: list[Block], left_out: list[LeftOut]) -> list[Stack]:
    """Series of one or two slices each: joined with one another, or left out where their slice is there already."""
    pools: list[dict[float, tuple[Frame, ...]]] = []
    notes: dict[int, list[str]] = {}
    for block in sorted(small, key=_when):
        stack = next((stack for stack in stacks if _fit(stack.slices, block.slices)), None)
        if stack is not None:
            if _overlap(stack.slices, block.slices):
                left_out.append(LeftOut(block.frame.label, block.files, f"a slice that {stack.label} has already"))
                continue
            joined = dict(sorted({**stack.slices, **block.slices}.items()))
            if is_regular(list(joined)) or not is_regular(list(stack.slices)):
                stacks[stacks.index(stack)] = Stack(joined, stack.notes, stack.flaw)
                continue
        n = next((n for n, pool in enumerate(pools) if _fit(pool, block.slices)), len(pools))
        if n == len(pools):
            pools.append({})
        for distance in [old for old in pools[n] if _overlap([old], block.slices)]:
            before = pools[n].pop(distance)
            left_out.append(LeftOut(before[0].label, len({f.file for f in before}), f"acquired again in {block.frame.label}"))
            notes.setdefault(n, []).append("a slice that was acquired twice is taken from the later series")
        pools[n].update(block.slices)
    for n, pool in enumerate(pools):
        if len(pool) >= MIN_SLICES:
            stacks.append(Stack(dict(sorted(pool.items())), tuple(dict.fromkeys(notes.get(n, ())))))
        else:
            frames = next(iter(pool.values()))
            count = f"{len(pool)} slice{'s' * (len(pool) != 1)}"
            files = len({frame.file for found in pool.values() for frame in found})
            others = [next(iter(slices.values())) for slices in (*(stack.slices for stack in stacks), *pools)]
            like = (other[0].label for other in others if _are_apart(frames, other) and _lie_alike(frames[0], other[0]))
            apart = next((f", in another frame of reference than {label}" for label in like), ", no stack")
            left_out.append(LeftOut(frames[0].label, files, f"a cine of {count}{apart}"))
    return stacks


def _when(block: Block) -> tuple[float, int]:
    return block.frame.acquired_s or 0.0, block.frame.series_number or 0


def _fit(a: Mapping[float, Sequence[Frame]], b: Mapping[float, Sequence[Frame]]) -> bool:
    """Whether the slices of both may be one stack."""
    one, other = next(iter(a.values())), next(iter(b.values()))
    return _lie_alike(one[0], other[0]) and not _are_apart(one, other)


def _are_apart(one: Sequence[Frame], other: Sequence[Frame]) -> bool:
    """Whether two slices lie in different frames of reference, between which nothing is known."""
    references = {reference_of(one), reference_of(other)} - {""}
    return len(references) > 1


def _lie_alike(a: Frame, b: Frame) -> bool:
    """Whether they may, if their frames of reference are one."""
    same = (a.kind, a.rows, a.columns) == (b.kind, b.rows, b.columns)
    return same and bool(np.allclose(a.spacing, b.spacing, rtol=1e-4)) and is_parallel(a, b) and shift_aside(a, b) <= _ASIDE_MM


def shift_aside(a: Frame, b: Frame) -> float:
    """How far the first pixel of ``b`` lies beside the line through that of ``a`` along its normal, mm."""
    step = np.subtract(b.position, a.position)
    normal = normal_of(a)
    return float(np.linalg.norm(step - (normal @ step) * normal))


def _overlap(a: Iterable[float], b: Iterable[float]) -> bool:
    return any(abs(x - y) < _SAME_MM for x in a for y in b)


def is_regular(distances: Sequence[float]) -> bool:
    """Whether slices at these distances lie evenly."""
    gaps = np.diff(sorted(distances))
    return len(gaps) == 0 or bool(gaps.max() - gaps.min() <= max(_REGULAR * float(np.median(gaps)), 0.05))
