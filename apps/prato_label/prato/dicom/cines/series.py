"""Series taken as stacks: a cine is one series, or one series per slice, or was interrupted and goes on in another series."""

from __future__ import annotations

import statistics
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from itertools import combinations
from typing import TypeVar

from prato.dicom.cines.blocks import (
    MIN_PHASES,
    ONE_PHASE,
    Block,
    angle_between,
    normal_of,
    split_series,
    tell_repeats,
    why_no_cine,
    with_times,
)
from prato.dicom.cines.next_to import lies_next_to
from prato.dicom.cines.parts import join_parts
from prato.dicom.cines.single_phases import join_phases
from prato.dicom.cines.single_slices import acquisitions, join_small, slices_of
from prato.dicom.cines.stacks import MIN_SLICES, LeftOut, Stack, fit, is_regular, overlap
from prato.dicom.reading.headers import Frame
from prato.dicom.reading.times import DAY_S

_Key = TypeVar("_Key")
#: Planes that are turned by less than this belonged to one stack; what is turned by more is another view, degrees.
_TURNED = 30.0


def by_series(frames: Iterable[Frame]) -> dict[tuple[str, str, int | None, str], list[Frame]]:
    """Frames by study, series, and its number and description, which tell series apart that were given one UID when they were made
    anonymous. Where no number has a cine, or one of the descriptions has none, they count the images of one.

    Images that do not say on which day they were acquired count as of that day of the others of their examination that brings them nearest.
    """
    by_uid: dict[tuple[str, str], list[Frame]] = defaultdict(list)
    for own in _group(frames, lambda frame: frame.study).values():
        for frame in _with_days(own):
            by_uid[frame.study, frame.series].append(frame)
    series: dict[tuple[str, str, int | None, str], list[Frame]] = {}
    for uids, own in by_uid.items():
        numbers = _group(own, lambda frame: frame.series_number)
        is_one = None in numbers or max(map(_most_images, numbers.values())) < MIN_PHASES
        for number, numbered in ({own[0].series_number: own} if is_one else numbers).items():
            described = _group(numbered, lambda frame: frame.description)
            is_one = min(map(_most_images, described.values())) < MIN_PHASES
            for text, part in ({numbered[0].description: numbered} if is_one else described).items():
                series[(*uids, number, text)] = with_times(part)
    return series


def _with_days(frames: list[Frame]) -> list[Frame]:
    dated = [frame.acquired_s for frame in frames if frame.acquired_s is not None and frame.acquired_s >= DAY_S]
    if not dated:
        return frames
    days, usual = {moment // DAY_S for moment in dated}, statistics.median(dated)

    def with_day(frame: Frame) -> Frame:
        if frame.acquired_s is None or frame.acquired_s >= DAY_S:
            return frame
        return replace(frame, acquired_s=min((day * DAY_S + frame.acquired_s for day in days), key=lambda moment: abs(moment - usual)))

    return [with_day(frame) for frame in frames]


def _group(frames: Iterable[Frame], key: Callable[[Frame], _Key]) -> dict[_Key, list[Frame]]:
    found: dict[_Key, list[Frame]] = defaultdict(list)
    for frame in frames:
        found[key(frame)].append(frame)
    return found


def _most_images(frames: Iterable[Frame]) -> int:
    """Of one slice."""
    return max(Counter(frame.position for frame in frames).values())


def find_stacks(series: Sequence[Iterable[Frame]]) -> tuple[list[Stack], list[LeftOut]]:
    """The stacks with several phases among the ``series`` of one study, and what is left out."""
    stacks: list[Stack] = []
    left_out: list[LeftOut] = []
    small: list[Block] = []
    single: list[Block] = []
    few: list[Block] = []
    found: list[list[Block]] = []
    split = join_parts([split_series(frames) for frames in series])
    every = [block for blocks in split for block in blocks]
    for blocks in split:
        cines = []
        for block in (_told_by_others(block, every) for block in blocks):
            reason = why_no_cine(block)
            if reason is None:
                cines.append(block)
            elif reason == ONE_PHASE:
                single.append(block)
            else:
                left_out.append(LeftOut(block.frame.label, block.files, reason))
                few.append(block)
        found.append(cines)
    for cines in (*found, *([block] for block in join_phases(single, left_out))):
        if sum(len(block.slices) for block in cines) >= MIN_SLICES > max((len(block.slices) for block in cines), default=MIN_SLICES):
            largest = max(angle_between(cines[0].frame, block.frame) for block in cines)
            reason = f"its slices are not parallel (up to {largest:.0f}° apart)" if largest > 0.05 else "its slices differ in size"
            left_out.append(LeftOut(cines[0].frame.label, sum(block.files for block in cines), reason))
            continue
        for block in cines:
            if len(block.slices) < MIN_SLICES:
                small.append(block)
                continue
            for slices, notes in acquisitions(slices_of(block), left_out):
                stacks.append(Stack({one.distance: one.frames for one in slices}, notes, _odd_ones(block, cines)))
    return [_miss(stack, few) for stack in _join(join_small(_join(stacks), small, left_out))], left_out


def _told_by_others(block: Block, every: Iterable[Block]) -> Block:
    """``block`` with its slices, if these are too few to tell, told apart from their repetitions by what others have of theirs."""
    images = max(map(len, block.slices.values()))
    if len(block.slices) >= MIN_SLICES or images < 2 * MIN_PHASES:
        return block
    alike = [other for other in every if other is not block and fit(other.slices, block.slices)]
    counts = Counter(len(frames) for other in alike for frames in other.slices.values())
    usual, slices = counts.most_common(1)[0] if counts else (images, 0)
    return tell_repeats(block, usual) if slices > 1 and usual < images else block


def _miss(stack: Stack, few: Iterable[Block]) -> Stack:
    """``stack`` with a note for each slice next to it that has too few images, as of a series that did not arrive as a whole."""
    notes = stack.notes
    for block in few:
        count = max(map(len, block.slices.values()))
        if len(block.slices) < MIN_SLICES and count < MIN_PHASES and fit(stack.slices, block.slices) and lies_next_to(block.frame, stack):
            notes += (f"A slice next to the others is left out: it has {count} images, too few for a cine.",)
    return replace(stack, notes=notes)


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
        sizes = " and ".join(f"{f.columns}x{f.rows} pixels of {f.spacing[1]:.6g}x{f.spacing[0]:.6g} mm" for f in (block.frame, other.frame))
        return f"its slices differ in size or direction ({sizes})"
    return None


def _join(stacks: Sequence[Stack]) -> list[Stack]:
    """``stacks`` with those as one that lie evenly together, in whichever order they were acquired: two by two, which may make what a third
    one goes on with, then all that have no slice in common, as of three that lie between each other no two are even."""
    found: list[Stack] = []
    for stack in stacks:
        n = next((n for n, other in enumerate(found) if len(_joined([other, stack])) == 1), len(found))
        found[n : n + 1] = _joined([*found[n : n + 1], stack])
    if len(found) < len(stacks):
        return _join(found)
    groups: list[list[Stack]] = []
    for stack in found:
        group = next((group for group in groups if all(_are_beside(other, stack) for other in group)), None)
        if group is None:
            groups.append([stack])
        else:
            group.append(stack)
    return [one for group in groups for one in _joined(group)]


def _are_beside(one: Stack, other: Stack) -> bool:
    """Whether the slices of both may be one stack, and none is there twice."""
    return fit(one.slices, other.slices) and not overlap(one.slices, other.slices)


def _joined(parts: Sequence[Stack]) -> Sequence[Stack]:
    """The one stack that ``parts`` are together, or, if they are none, these."""
    slices = dict(sorted((one for part in parts for one in part.slices.items()), key=lambda one: one[0]))
    if not all(_are_beside(one, other) for one, other in combinations(parts, 2)) or not is_regular(list(slices)):
        return parts
    return [Stack(slices, tuple(note for part in parts for note in part.notes), next((part.flaw for part in parts if part.flaw), None))]
