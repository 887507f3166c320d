"""Series of one image of each slice, which some programs make of a cine: one for each phase, or even for each image."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable

import numpy as np

from prato.dicom.cines.blocks import MIN_PHASES, ONE_PHASE, Block, beat_of, is_named_plain, join_blocks, why_no_cine
from prato.dicom.cines.stacks import LeftOut, lie_alike

#: What series are put together must tell when in the heartbeat they are, over so much of it: other images are all of one time.
_SPAN = 0.5
#: Between two phases lies at most so many times as much as usually, where one is missing between them, too.
_UNEVEN = 3.0
_LEFT_OUT = "one phase each of the same slices, and {}: if they are one cine, export it as one series"


def join_phases(single: Iterable[Block], left_out: list[LeftOut]) -> list[Block]:
    """Cines of which each of ``single`` holds a phase, or a part of one, as their times say; what is none is added to ``left_out``.

    Stacks of other images, too, are there many times: measured at several inversion times or in many heartbeats. Only those that are
    described alike are put together, and only where each has a time of its own in the heartbeat, in the same order in all slices; or is
    counted as a phase, where the images of each slice were acquired at once.
    """
    blocks = list(single)
    # what one image alone names was made up for it, by a program that makes images anonymous
    images = Counter(frame.frame_of_reference for block in blocks for frame in block.frames)
    alike: dict[tuple[object, ...], list[list[Block]]] = defaultdict(list)
    for block in blocks:
        named = {frame.frame_of_reference for frame in block.frames if images[frame.frame_of_reference] > 1} - {""}
        groups = alike[(*describe(block), *sorted(named))]
        group = next((group for group in groups if lie_alike(group[0].frame, block.frame)), None)
        if group is None:
            groups.append([block])
        else:
            group.append(block)
    cines = []
    for group in (group for groups in alike.values() for group in groups):
        joined = join_blocks(group)
        if max(map(len, joined.slices.values())) < MIN_PHASES:
            left_out += [LeftOut(block.frame.label, block.files, ONE_PHASE) for block in group]
            continue
        reason = why_no_cine(joined) or _why_not_timed(joined)
        if reason is None:
            cines.append(joined)
        else:
            label = f"{joined.frame.label} and {len(group) - 1} more series"
            left_out.append(LeftOut(label, joined.files, reason))
    return cines


def describe(block: Block) -> tuple[object, ...]:
    """What series of one cine have in common; their descriptions may count them."""
    frame = block.frame
    return frame.kind, re.sub(r"[\W\d_]+", "", frame.description).casefold(), frame.echo_ms, frame.inversion_ms


def _why_not_timed(block: Block) -> str | None:
    """The reason for which the images of ``block``, each of another series, may be no cine, if any."""
    if not is_named_plain(block.frame):
        return _LEFT_OUT.format("named as no plain cine")
    if not _has_trigger_times(block) and _was_acquired_slice_by_slice(block):
        counted = [[frame.temporal_index for frame in frames] for frames in block.slices.values()]
        if all(None not in own and len(set(own)) == len(own) for own in counted):
            return None
    for frames in block.slices.values():
        times = sorted(frame.trigger_ms for frame in frames if frame.trigger_ms is not None)
        if len(times) < len(frames) or len(set(times)) < len(times):
            return _LEFT_OUT.format("not each with a trigger time of its own")
        gaps = np.diff(times)
        if times[-1] - times[0] < _SPAN * beat_of(frames):
            return _LEFT_OUT.format(f"all within {times[-1] - times[0]:.3g} ms of the heartbeat")
        if gaps.max() > _UNEVEN * np.median(gaps):
            return _LEFT_OUT.format(f"up to {gaps.max():.0f} ms apart and usually {np.median(gaps):.0f} ms")
    if not _are_in_one_order(block):
        return _LEFT_OUT.format("not in the same order in all slices")
    return None


def _has_trigger_times(block: Block) -> bool:
    """Whether they are there, and not filled in."""
    return len({frame.trigger_ms for frame in block.frames}) > 1


def _was_acquired_slice_by_slice(block: Block) -> bool:
    """Whether the files say of each slice that all of its images were acquired at once, and not one in each of many heartbeats."""
    times = [{frame.acquired_s for frame in frames} for frames in block.slices.values()]
    return all(None not in own and len(own) == 1 for own in times) and len(set.union(*times)) == len(times)


def _are_in_one_order(block: Block) -> bool:
    """Whether series that have several slices follow each other in all of them alike."""
    times: dict[str, list[float]] = defaultdict(list)
    for frame in block.frames:
        times[frame.series].append(frame.trigger_ms or 0.0)
    if max(map(len, times.values())) == 1:
        return True
    order = sorted(times, key=lambda series: float(np.median(times[series])))
    rank = {series: n for n, series in enumerate(order)}
    for frames in block.slices.values():
        ranks = [rank[frame.series] for frame in sorted(frames, key=lambda frame: frame.trigger_ms or 0.0)]
        if ranks != sorted(ranks):
            return False
    return True
