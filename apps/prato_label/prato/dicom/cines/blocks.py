"""A series taken apart: the images that lie in parallel planes of one size are a block, with the images of each slice together."""

from __future__ import annotations

import re
import statistics
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np

from prato.dicom.cines.breath_holds import tell_apart
from prato.dicom.reading.headers import Frame

#: A cine has more phases than a series of echoes or inversion times; the coarsest cines that are read have 8.
MIN_PHASES = 6
#: Why a series of one image of each slice is no cine.
ONE_PHASE = "one phase"
#: Planes are parallel when no direction cosine differs by more; across an image that is less than a tenth of a pixel.
_PARALLEL = 1e-3
#: Positions along the normal that are one slice, mm.
SAME_SLICE_MM = 0.1
#: The longest that one heartbeat lasts, ms.
BEAT_MS = 3000.0
_USUAL_BEAT_MS = 800.0
#: A shorter R-R interval is no heart's, ms; and the phases of a heartbeat span at most so many times what is said of it.
SHORTEST_BEAT_MS = 200.0
MAX_SPAN = 1.5
#: Phases that span less may be of one heartbeat of a slow heart, whatever is said of it: R-R intervals are typed in, and misread, too; ms.
_SLOW_BEAT_MS = 2000.0
#: Of a heartbeat: times after the R wave that span less may be one, now a little later, now a little earlier.
_ONE_TIME = 0.5
#: Times that span less, ms, are in seconds. And phases lie no further apart than so many times the usual gap.
_SECONDS = 3.0
_UNEVEN = 2.0
#: Images of one slice that were acquired further apart than this, s, are not phases of one heartbeat.
_PHASE_S = 0.25
#: Descriptions of what may lie where the cine lies, and is none.
_OTHER = re.compile(
    r"tag(?!e)|perf(?!orm)|flow|veloc|(?<![a-z])(t1|t2|(pc|ti)(?![a-z]))|scout|venc|lge|first.?pass|delayed|molli|rvot|aort|atri(?!x)",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Block:
    """Parallel images of one series, one kind and one size.

    Attributes:
        slices: the frames by distance along ``normal`` (mm, ascending). again: likewise those of slices that were acquired again, in order.
    """

    slices: dict[float, tuple[Frame, ...]]
    again: tuple[tuple[float, tuple[Frame, ...]], ...] = ()

    @property
    def frame(self) -> Frame:
        """Any one of the frames, for what all have in common."""
        return next(iter(self.slices.values()))[0]

    @property
    def normal(self) -> np.ndarray:
        """The unit vector (LPS) along which right-handed slices are counted."""
        return normal_of(self.frame)

    @property
    def acquisitions(self) -> list[tuple[float, tuple[Frame, ...]]]:
        """Each slice, also those that were acquired again."""
        return [*self.slices.items(), *self.again]

    @property
    def frames(self) -> list[Frame]:
        """All of them."""
        return [frame for _, frames in self.acquisitions for frame in frames]

    @property
    def files(self) -> int:
        """How many files its images are in."""
        return len({frame.file for frame in self.frames})


def normal_of(frame: Frame) -> np.ndarray:
    """The unit normal (LPS) of the plane of ``frame``: row direction x column direction."""
    normal = np.cross(frame.orientation[:3], frame.orientation[3:])
    return normal / max(float(np.linalg.norm(normal)), 1e-9)


def angle_between(a: Frame, b: Frame) -> float:
    """Between the planes of two frames, degrees, 0 to 90."""
    return float(np.degrees(np.arccos(np.clip(abs(float(normal_of(a) @ normal_of(b))), 0, 1))))


def is_parallel(a: Frame, b: Frame) -> bool:
    """Whether rows and columns of two frames run the same way."""
    return float(np.abs(np.subtract(a.orientation, b.orientation)).max()) <= _PARALLEL


def is_named_plain(frame: Frame) -> bool:
    """Whether its series is not described as something else than a plain cine."""
    return _OTHER.search(frame.description) is None


def other_name_of(frame: Frame) -> str | None:
    """What names something else than a plain cine, if anything does: its description, protocol, sequence or type."""
    return next((name for name in (frame.description, *frame.technique) if _OTHER.search(name)), None)


def reference_of(frames: Iterable[Frame]) -> str:
    """The frame of reference of one slice; nothing where its phases name several, which programs that make images anonymous make up."""
    found = {frame.frame_of_reference for frame in frames} - {""}
    return found.pop() if len(found) == 1 else ""


def split_series(frames: Iterable[Frame]) -> list[Block]:
    """The blocks of one series, that of most slices first."""
    planes: list[list[Frame]] = []
    for frame in frames:
        for plane in planes:
            first = plane[0]
            same = (first.kind, first.rows, first.columns) == (frame.kind, frame.rows, frame.columns)
            if same and np.allclose(first.spacing, frame.spacing, rtol=1e-4) and is_parallel(first, frame):
                plane.append(frame)
                break
        else:
            planes.append([frame])
    return sorted((_block(plane) for plane in planes), key=lambda block: -len(block.slices))


def join_blocks(blocks: Iterable[Block]) -> Block:
    """All images of ``blocks``, of several series, which lie in parallel planes, in the same order whatever that of ``blocks``."""
    frames = [frame for block in blocks for frame in block.frames]
    return _block(with_times(sorted(frames, key=lambda frame: (frame.series_number or 0, frame.series, frame.instance_number or 0))))


def _block(plane: list[Frame]) -> Block:
    normal = normal_of(plane[0])
    slices: dict[float, list[Frame]] = {}
    last = None
    for distance, _, frame in sorted((float(normal @ frame.position), n, frame) for n, frame in enumerate(plane)):
        if last is None or distance - last > SAME_SLICE_MM:
            last = distance
            slices[last] = []
        slices[last].append(frame)
    return tell_repeats(Block({distance: tuple(found) for distance, found in slices.items()}))


def tell_repeats(block: Block, phases: int | None = None) -> Block:
    """``block`` with slices that were acquired again told apart, as far as it, or the number of ``phases`` of other series, says so."""
    told = tell_apart(block.slices, phases)
    again = tuple((distance, frames) for distance, holds in told.items() for frames in holds[1:])
    return Block({distance: holds[0] for distance, holds in told.items()}, again or block.again)


def why_no_cine(block: Block) -> str | None:
    """The reason for which ``block`` holds no phases of one heartbeat; None where it does."""
    counts = [len(frames) for frames in block.slices.values()]
    count = statistics.median_high(counts)
    if block.frame.kind != "magnitude":
        return "phase or velocity maps" if block.frame.kind == "phase" else "real or imaginary parts"
    if max(counts) < MIN_PHASES:
        return ONE_PHASE if max(counts) == 1 else f"{max(counts)} images of each slice, not a cine"
    if len(block.slices) > 1 and _has_one_time_a_slice(block.slices.values()):
        return "all images of a slice at one time after the R wave"
    frames = next(frames for frames in block.slices.values() if len(frames) >= min(count, max(counts)))
    for what, values in (("echo times", [f.echo_ms for f in frames]), ("inversion times", [f.inversion_ms for f in frames])):
        if len(set(values)) > 1:
            return f"images of several {what}"
    acquisitions = Counter(frame.acquisition_number for frame in frames)
    if len(acquisitions) > 1 and min(acquisitions.values()) >= MIN_PHASES and not _have_times(frames):
        return f"images of {len(acquisitions)} acquisitions without times that tell which of them are phases"
    return _why_not_one_beat(frames)


def _have_times(frames: Sequence[Frame]) -> bool:
    """Whether times, or positions in time, tell ``frames`` of one slice apart: times after the R wave some, and the others all."""
    others = ([frame.temporal_index for frame in frames], [frame.acquired_s for frame in frames])
    return len({frame.trigger_ms for frame in frames}) > 1 or any(len({*own} - {None}) == len(own) for own in others)


def _has_one_time_a_slice(slices: Iterable[Sequence[Frame]]) -> bool:
    """Whether the times after the R wave tell slices apart and not images, and nothing else says that these are phases."""
    times = [{frame.trigger_ms if frame.acquired_s is None else None for frame in frames} for frames in slices]
    return all(len(own) == 1 and None not in own for own in times) and len(set.union(*times)) == len(times)


def _why_not_one_beat(frames: Sequence[Frame]) -> str | None:
    """The reason for which images of one slice were not all acquired within the same part of each heartbeat, if any."""
    triggers = [frame.trigger_ms for frame in frames if frame.trigger_ms is not None]
    acquired = sorted((frame.acquired_s, frame.trigger_ms or 0.0) for frame in frames if frame.acquired_s is not None)
    seconds = [time for time, _ in acquired]
    lasted_ms = 1000 * (seconds[-1] - seconds[0]) if len(acquired) == len(frames) else 0.0
    slow = _long(lasted_ms) if lasted_ms and statistics.median(np.diff(seconds)) > _PHASE_S else None
    if slow is None and len(set(seconds)) == len(frames) and _is_in_real_time(acquired, frames):
        return _long(lasted_ms)
    if len(set(triggers)) <= 1:
        return slow
    span = max(triggers) - min(triggers)
    if span > max(_longest_ms(frames), _SLOW_BEAT_MS) and not _is_in_microseconds(span, frames[0].rr_ms):
        return _long(span)
    repeated = set(Counter(triggers).values())
    if len(set(triggers)) >= MIN_PHASES and len(triggers) == len(frames) and min(repeated) > 1 and len(repeated) == 1:
        instances = [(frame.trigger_ms, frame.instance_number) for frame in frames]
        if len(set(instances)) == len(instances):  # else two are in one place, which is told where the cine is refused
            return f"{min(repeated)} different images for each time"
    # one image of each heartbeat, at nearly the same time after the R wave, now a little later, now a little earlier
    if not span < _ONE_TIME * beat_of(frames):
        return None
    if len(acquired) == len(frames):
        return slow if sum(before > after for (_, before), (_, after) in pairwise(acquired)) > 1 else None
    return f"images within {span:.0f} ms of many heartbeats" if span > _SECONDS and _is_jitter(frames) else None


def _long(span_ms: float) -> str:
    return f"images over {span_ms / 1000:.{int(span_ms < 10_000)}f} s, more than one heartbeat"


def _is_in_real_time(acquired: Sequence[tuple[float, float]], frames: Sequence[Frame]) -> bool:
    """Whether ``frames``, with the times when they were ``acquired`` (s) and those after the R wave (ms), are of several heartbeats: where
    both go on alike, and the latter begin again. Where each has a heartbeat of its own they do not, however many these are."""
    seconds, triggers = zip(*acquired)
    lasted_ms = 1000 * (seconds[-1] - seconds[0])
    if len(set(triggers)) <= 1:
        return lasted_ms > max(_longest_ms(frames), _SLOW_BEAT_MS)
    steps = 1000 * np.diff(seconds)
    alike = np.abs(np.diff(triggers) - steps) < 0.5 * steps
    beats = sum(before > after for before, after in pairwise([*triggers, triggers[0]]))
    return bool(lasted_ms > _longest_ms(frames) and beats > 1 and alike.mean() > 0.5)


def _longest_ms(frames: Sequence[Frame]) -> float:
    """What the phases of one heartbeat span at most: if it is said how long that is, and hearts beat so, some more."""
    found = [frame.rr_ms for frame in frames if frame.rr_ms is not None and frame.rr_ms >= SHORTEST_BEAT_MS]
    return min(BEAT_MS, MAX_SPAN * statistics.median(found)) if found else BEAT_MS


def _is_jitter(frames: Sequence[Frame]) -> bool:
    """Whether the times after the R wave of ``frames``, as they are counted, go up and down, and are not evenly spread, as phases are."""
    counted = sorted((frame.temporal_index or 0, frame.instance_number or 0, frame.trigger_ms or 0.0) for frame in frames)
    steps = np.diff([time for _, _, time in counted])
    gaps = np.diff(sorted(time for _, _, time in counted))
    return bool(min((steps > 0).sum(), (steps < 0).sum()) > 1 and gaps.max() > _UNEVEN * np.median(gaps))


def beat_of(frames: Sequence[Frame]) -> float:
    """How long a heartbeat lasts, ms: as the first of ``frames`` says, or usually."""
    return frames[0].rr_ms or _USUAL_BEAT_MS


def _is_in_microseconds(span: float, rr_ms: float | None) -> bool:
    """Whether phases so far apart are those of one heartbeat, whose times are not in milliseconds, as DICOM says."""
    return rr_ms is not None and 0.5 * rr_ms < span / 1000 < 1.1 * rr_ms


def with_times(frames: list[Frame]) -> list[Frame]:
    """``frames`` of one cine with the times, and the numbers of their phases, in the first of their ways that tells some apart: programs
    fill in a 0, or a 1, where they do not know."""
    delay, index = _telling(frame.delays_ms for frame in frames), _telling(frame.phase_indices for frame in frames)
    return [
        replace(
            frame,
            trigger_ms=frame.trigger_ms if frame.delays_ms[delay] is None else frame.delays_ms[delay],
            temporal_index=frame.temporal_index if frame.phase_indices[index] is None else frame.phase_indices[index],
        )
        for frame in frames
    ]


def _telling(values: Iterable[tuple[float | None, ...]]) -> int:
    """The first of the ways of which each frame has a value that has several, or the first of all."""
    return next((n for n, way in enumerate(zip(*values)) if len({*way} - {None}) > 1), 0)
