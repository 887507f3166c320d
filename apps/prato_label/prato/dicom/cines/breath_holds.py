"""Images of one slice that were acquired in several breath holds, told apart by times that begin again."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise

from prato.dicom.reading.headers import Frame

#: Between two breath holds lies more, s.
_APART_S = 3.0
#: Where at least so many of the slices were acquired again, all was, as at rest and under stress; fewer are better breath holds.
AGAIN = 0.5

_Frames = tuple[Frame, ...]


def tell_apart(slices: Mapping[float, _Frames], phases: int | None) -> dict[float, tuple[_Frames, ...]]:
    """By slice, the images of each breath hold, in the order in which they were acquired; one, where nothing says that there were more.

    What all slices have twice may be two images of each moment, as of several kinds, so that it counts as acquired again only where the
    files say when, or where other series of the stack have as many ``phases`` as one of them.
    """
    found = {distance: _breath_holds(frames) for distance, frames in slices.items()}
    again = [holds for holds in found.values() if len(holds) > 1]
    usual = Counter(map(len, slices.values())).most_common(1)[0][0]
    if phases is not None or len(again) < AGAIN * len(slices):
        is_told = all((phases or usual) in map(len, holds) for holds in again)
    else:
        is_told = all(_are_apart(one, other) for holds in again for one, other in pairwise(holds))
    return found if is_told else {distance: (frames,) for distance, frames in slices.items()}


def _breath_holds(frames: _Frames) -> tuple[_Frames, ...]:
    """``frames`` of one slice, taken apart where the heartbeat begins again, or, counted backwards, ends again."""
    times = _times(frames)
    if times is None:
        return (frames,)
    ordered = sorted(zip(frames, times), key=lambda one: (one[0].acquired_s or 0.0, one[0].series_number or 0, one[0].instance_number or 0))
    ways = []
    for sign in (1, -1):
        starts = [0, *(n for n, (one, other) in enumerate(pairwise(ordered), 1) if sign * one[1] >= sign * other[1]), len(ordered)]
        ways.append([ordered[start:end] for start, end in pairwise(starts)])
    holds = min(ways, key=len)
    # a single image is no breath hold; and a cine that is counted from the middle of the heartbeat has no moment twice
    if len(holds) == 1 or min(map(len, holds)) == 1 or not all(_overlap(one, other) for one, other in pairwise(holds)):
        return (frames,)
    return tuple(tuple(frame for frame, _ in hold) for hold in holds)


def _times(frames: Iterable[Frame]) -> list[float] | None:
    """Of the first kind that tells images apart."""
    for values in ([frame.trigger_ms for frame in frames], [frame.temporal_index for frame in frames]):
        known = [float(value) for value in values if value is not None]
        if len(known) == len(values) and len(set(known)) > 1:
            return known
    return None


def _overlap(one: Sequence[tuple[Frame, float]], other: Sequence[tuple[Frame, float]]) -> bool:
    a, b = ([time for _, time in hold] for hold in (one, other))
    return min(a) <= max(b) and min(b) <= max(a)


def _are_apart(one: _Frames, other: _Frames) -> bool:
    times = [[frame.acquired_s for frame in frames if frame.acquired_s is not None] for frames in (one, other)]
    return len(times[0]) == len(one) and len(times[1]) == len(other) and max(times[0]) + _APART_S < min(times[1])
