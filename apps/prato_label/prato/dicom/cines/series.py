"""Series taken as stacks: a cine is one series, or one series per slice, or was interrupted and goes on in another series."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace

from prato.dicom.cines.blocks import MIN_PHASES, ONE_PHASE, Block, angle_between, normal_of, split_series, tell_repeats, why_no_cine
from prato.dicom.cines.parts import join_parts
from prato.dicom.cines.single_phases import join_phases
from prato.dicom.cines.single_slices import acquisitions, join_small, lies_next_to, slices_of
from prato.dicom.cines.stacks import MIN_SLICES, LeftOut, Stack, fit, is_regular, overlap
from prato.dicom.reading.headers import Frame

#: Planes that are turned by less than this belonged to one stack; what is turned by more is another view, degrees.
_TURNED = 30.0


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
                _add(stacks, Stack({one.distance: one.frames for one in slices}, notes, _odd_ones(block, cines)))
    return [_miss(stack, few) for stack in join_small(stacks, small, left_out)], left_out


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
        sizes = " and ".join(f"{f.columns}x{f.rows} pixels of {f.spacing[1]:.3g}x{f.spacing[0]:.3g} mm" for f in (block.frame, other.frame))
        return f"its slices differ in size or direction ({sizes})"
    return None


def _add(stacks: list[Stack], stack: Stack) -> None:
    """As a stack of its own, or as the rest of one that another series began."""
    for n, other in enumerate(stacks):
        if fit(other.slices, stack.slices) and not overlap(other.slices, stack.slices):
            joined = dict(sorted({**other.slices, **stack.slices}.items()))
            if is_regular(list(joined)):
                stacks[n] = Stack(joined, other.notes + stack.notes, other.flaw or stack.flaw)
                return
    stacks.append(stack)
