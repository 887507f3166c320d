"""Series that hold a part of the phases each of the same slices, such as systole and diastole, as their trigger times say."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import numpy as np

from prato.dicom.cines.blocks import Block, is_named_plain, join_blocks, why_no_cine
from prato.dicom.cines.single_phases import describe
from prato.dicom.cines.stacks import MIN_SLICES, fit, overlap
from prato.dicom.reading.headers import Frame

#: By which factor the times between phases may differ, also where one series ends and the next one begins.
_UNEVEN = 1.7
#: The phases of one heartbeat last at most so many times as long as it does.
_WHOLE = 1.1


def join_parts(series: Sequence[Sequence[Block]]) -> list[list[Block]]:
    """The blocks of each of the ``series``, those that hold parts of one cine joined, as a block of the first of their series.

    Only what follows on each other is joined: of two cines whose phases lie between each other's, one may as well be a repetition.
    """
    found = [list(blocks) for blocks in series]
    alike: dict[object, list[list[tuple[int, Block]]]] = defaultdict(list)
    for n, blocks in enumerate(found):
        for block in blocks:
            is_part = max(map(len, block.slices.values())) > 1 and not block.again and is_named_plain(block.frame)
            if len(block.slices) < MIN_SLICES or not is_part:
                continue
            groups = alike[(*describe(block), len(block.slices))]
            group = next((group for group in groups if _share_slices(group[0][1], block)), None)
            if group is None:
                groups.append([(n, block)])
            else:
                group.append((n, block))
    for group in (group for groups in alike.values() for group in groups if len(group) > 1):
        joined = join_blocks(block for _, block in group)
        if _are_one_cine([block for _, block in group]) and why_no_cine(joined) is None and not joined.again:
            for n, block in group:
                found[n] = [other for other in found[n] if other is not block]
            found[group[0][0]].append(joined)
    return found


def _share_slices(one: Block, other: Block) -> bool:
    return fit(one.slices, other.slices) and all(overlap([distance], other.slices) for distance in one.slices)


def _are_one_cine(parts: Sequence[Block]) -> bool:
    return all(_follow_each_other(own) for own in zip(*(part.slices.values() for part in parts)))


def _follow_each_other(parts: Sequence[Sequence[Frame]]) -> bool:
    """Whether the images of one slice, by series, are in one part of the heartbeat after the other, as evenly as phases are."""
    known = [sorted(frame.trigger_ms for frame in frames if frame.trigger_ms is not None) for frames in parts]
    if any(len(times) < len(frames) for times, frames in zip(known, parts)):
        return False
    known.sort()
    times = np.concatenate(known)
    gaps = np.diff(times)
    usual, rr = float(np.median(gaps)), parts[0][0].rr_ms
    is_even = gaps.min() * _UNEVEN > usual > gaps.max() / _UNEVEN  # and none is below 0, as where two overlap
    return bool(is_even and (rr is None or times[-1] - times[0] + usual <= _WHOLE * rr))
