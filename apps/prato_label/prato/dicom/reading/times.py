"""When in the heartbeat an image is, in all the ways in which headers say so."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence

from pydicom.datadict import tag_for_keyword
from pydicom.dataset import Dataset
from pydicom.valuerep import DA

#: What is as good as the time since the R wave; and dimensions of an object's frames that count phases, the best first.
_DELAYS = ("TriggerTime", "NominalCardiacTriggerDelayTime", "ActualCardiacTriggerDelayTime")
_TIME_DIMENSIONS = (*_DELAYS, "NominalPercentageOfCardiacPhase", "TemporalPositionIndex", "TemporalPositionIdentifier")
_MAX_FRAMES = 10**6
DAY_S = 86400.0
#: pydicom's TM, which must end there, would turn the 60th second of a minute into the 59th, and refuse more than six decimals.
_TIME = re.compile(r"(\d\d):?(\d\d)?:?(\d\d(?:\.\d*)?)?", re.ASCII)


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


def read_moment(date: str, time: str) -> float | None:
    """Seconds since a day that is always the same, of DICOM's DA and TM, or those of ACR-NEMA, with dots and colons.

    What follows the time, such as the time zone in a DT, is not read. Less than ``DAY_S``, since midnight, where the date cannot be read;
    None where the time cannot be.
    """
    found = _TIME.match(time)
    if found is None:
        return None
    hours, minutes, seconds = (float(part or 0) for part in found.groups())
    try:
        day = DA(date)
    except ValueError:
        day = None
    return (day.toordinal() * DAY_S if day else 0.0) + 3600 * hours + 60 * minutes + seconds
