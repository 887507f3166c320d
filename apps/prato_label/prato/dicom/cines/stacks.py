"""What a stack of slices is, and which slices may be of one."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from prato.dicom.cines.blocks import is_parallel, normal_of, reference_of
from prato.dicom.reading.headers import Frame

MIN_SLICES = 3
#: By how much of it the distance between slices may vary: the positions in headers are rounded.
_REGULAR = 0.05
#: A slice nearer to another than this is the same one, acquired again, mm.
SAME_MM = 0.5
#: How far pixel centres may lie beside the stack's axis, mm.
_ASIDE_MM = 0.5


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


def fit(a: Mapping[float, Sequence[Frame]], b: Mapping[float, Sequence[Frame]]) -> bool:
    """Whether the slices of both may be one stack."""
    one, other = next(iter(a.values())), next(iter(b.values()))
    return lie_alike(one[0], other[0]) and not are_apart(one, other)


def are_apart(one: Sequence[Frame], other: Sequence[Frame]) -> bool:
    """Whether two slices lie in different frames of reference, between which nothing is known."""
    references = {reference_of(one), reference_of(other)} - {""}
    return len(references) > 1


def lie_alike(a: Frame, b: Frame) -> bool:
    """Whether they may, if their frames of reference are one."""
    same = (a.kind, a.rows, a.columns) == (b.kind, b.rows, b.columns)
    return same and bool(np.allclose(a.spacing, b.spacing, rtol=1e-4)) and is_parallel(a, b) and shift_aside(a, b) <= _ASIDE_MM


def shift_aside(a: Frame, b: Frame) -> float:
    """How far the first pixel of ``b`` lies beside the line through that of ``a`` along its normal, mm."""
    step = np.subtract(b.position, a.position)
    normal = normal_of(a)
    return float(np.linalg.norm(step - (normal @ step) * normal))


def overlap(a: Iterable[float], b: Iterable[float], same_mm: float = SAME_MM) -> bool:
    """Whether one of the slices at distances ``a`` lies nearer than ``same_mm`` to one of ``b``."""
    return any(abs(x - y) < same_mm for x in a for y in b)


def gap_mm(distances: Iterable[float]) -> float:
    """Between slices at these distances, usually; 0 where there is only one."""
    gaps = np.diff(sorted(distances))
    return float(np.median(gaps)) if len(gaps) else 0.0


def is_regular(distances: Sequence[float]) -> bool:
    """Whether slices at these distances lie evenly."""
    gaps = np.diff(sorted(distances))
    return len(gaps) == 0 or bool(gaps.max() - gaps.min() <= max(_REGULAR * gap_mm(distances), 0.05))
