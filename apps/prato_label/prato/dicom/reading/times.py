"""When in the heartbeat an image is, in all the ways in which headers say so."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from datetime import datetime

from pydicom.datadict import tag_for_keyword
from pydicom.dataset import Dataset

#: What is as good as the time since the R wave; and dimensions of an object's frames that count phases, the best first.
_DELAYS = ("TriggerTime", "NominalCardiacTriggerDelayTime", "ActualCardiacTriggerDelayTime")
_TIME_DIMENSIONS = (*_DELAYS, "NominalPercentageOfCardiacPhase", "TemporalPositionIndex", "TemporalPositionIdentifier")
_MAX_FRAMES = 10**6


def numbers_of(level: Dataset, name: str, count: int) -> tuple[float, ...] | None:
    """The ``count`` finite numbers that ``level`` has under that name; None where it has anything else."""
    value = level.get(name)
    values = [value] if count == 1 else value
    try:
        found = tuple(float(v) for v in values) if value not in (None, "") and len(values) == count else None
    except (TypeError, ValueError):
        return None
    return found if found is not None and all(map(math.isfinite, found)) else None


def number_of(level: Dataset, name: str) -> float | None:
    """The one finite number that ``level`` has under that name, if any."""
    found = numbers_of(level, name, 1)
    return None if found is None else found[0]


def delays_of(levels: Sequence[Dataset]) -> tuple[float | None, ...]:
    """Since the R wave, ms, in each of the ways in which the innermost level that says so may do it, the best first."""
    for level in levels:
        share, interval = number_of(level, "NominalPercentageOfCardiacPhase"), number_of(level, "RRIntervalTimeNominal")
        delays = *(number_of(level, name) for name in _DELAYS), share / 100 * interval if share is not None and interval else None
        if any(delay is not None for delay in delays):
            return delays
    return (None,) * (len(_DELAYS) + 1)


def phase_index(levels: Sequence[Dataset]) -> int | None:
    """Which phase a frame is, where time is one of the dimensions by which its object counts the frames."""
    pointers = [item.get("DimensionIndexPointer") for item in levels[-1].get("DimensionIndexSequence") or ()]
    values = numbers_of(levels[0], "DimensionIndexValues", len(pointers)) if len(pointers) > 1 else None
    tags = (tag_for_keyword(name) for name in _TIME_DIMENSIONS)
    return None if values is None else next((int(values[pointers.index(tag)]) for tag in tags if tag in pointers), None)


def count_frame(ds: Dataset, number: int) -> int:
    """What the instance number is to other images: the frames of objects that follow each other, counted on."""
    return int(number_of(ds, "InstanceNumber") or 0) * _MAX_FRAMES + int(number_of(ds, "ConcatenationFrameOffsetNumber") or 0) + number + 1


def read_moment(text: str) -> float | None:
    """Seconds since a day that is always the same, of ``text``, DICOM's YYYYMMDDHHMMSS.ffffff&ZZXX. Since its own midnight where the date,
    which may be eight blanks, cannot be read; None where the time cannot be."""
    time = re.split(r"[+-]", text[8:])[0]
    try:
        seconds = int(time[:2]) * 3600 + int(time[2:4]) * 60 + float(time[4:] or 0)
    except ValueError:
        return None
    try:
        return datetime.strptime(text[:8], "%Y%m%d").toordinal() * 86400 + seconds
    except ValueError:
        return seconds
