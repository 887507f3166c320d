"""Images that a series has twice under other UIDs, as where it was sent, or made anonymous, twice: told by their pixels."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence

from prato.dicom.cines.blocks import MIN_PHASES
from prato.dicom.reading.headers import Frame
from prato.dicom.reading.pixels import hash_pixels


def drop_copies(frames: Iterable[Frame]) -> tuple[list[Frame], int]:
    """The ``frames`` of one series without those that are copies of others, and how many these are.

    Images of one place and time are compared; where nothing says at what time they are, those with one instance number, and those of
    slices that may have every image equally often: single ones that look alike there may be two phases.
    """
    found = sorted(frames, key=lambda frame: (frame.instance_number or 0, frame.sop_instance, frame.file.name, frame.number))
    places: dict[object, list[Frame]] = defaultdict(list)
    for frame in found:
        where = frame.kind, frame.rows, frame.columns, *(round(value, 3) for value in (*frame.position, *frame.orientation))
        places[where].append(frame)
    copies: set[Frame] = set()
    untimed = []
    for own in (own for own in places.values() if len(own) > MIN_PHASES):
        if len({(frame.trigger_ms, frame.temporal_index) for frame in own}) > 1:
            copies |= _twins(own, [(frame.trigger_ms, frame.temporal_index, *_kind(frame)) for frame in own])
        else:
            is_numbered = all(frame.instance_number is not None for frame in own)
            twins = _twins(own, [(frame.instance_number if is_numbered else frame, *_kind(frame)) for frame in own])
            copies |= twins
            untimed.append([frame for frame in own if frame not in twins])
    copies |= _all_again(untimed)
    return [frame for frame in found if frame not in copies], len(copies)


def _kind(frame: Frame) -> tuple[float | None, ...]:
    return frame.echo_ms, frame.inversion_ms


def _twins(frames: Sequence[Frame], keys: Sequence[object]) -> set[Frame]:
    """Copies of earlier ones of ``frames``, among those of one key. Where the first that may be copies are none, the others, such as those
    of an acquisition that was made again, are not read."""
    alike: dict[object, list[Frame]] = defaultdict(list)
    for frame, key in zip(frames, keys):
        alike[key].append(frame)
    copies: set[Frame] = set()
    for own in alike.values():
        same = _by_pixels(own) if len(own) > 1 else [own]
        if len(same) == len(own) > 1:
            break
        copies |= _later(same)
    return copies


def _all_again(slices: Sequence[Sequence[Frame]]) -> set[Frame]:
    """Copies in ``slices``, if each of their images is there as often as all others, as where the whole series is there again."""
    copies: set[Frame] = set()
    for frames in slices:
        when = Counter((frame.acquired_s, *_kind(frame)) for frame in frames)
        same = _by_pixels(frames) if len(frames) >= 2 * MIN_PHASES and min(when.values()) > 1 else []
        times = {len(own) for own in same}
        if len(same) < MIN_PHASES or len(times) > 1 or times == {1}:
            return set()
        copies |= _later(same)
    return copies


def _by_pixels(frames: Sequence[Frame]) -> list[list[Frame]]:
    same: dict[bytes, list[Frame]] = defaultdict(list)
    for frame, digest in zip(frames, hash_pixels(frames)):
        same[digest].append(frame)
    return list(same.values())


def _later(same: Iterable[Sequence[Frame]]) -> set[Frame]:
    return {frame for own in same for frame in own[1:]}
