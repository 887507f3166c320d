"""Puts a stack in order: slices along the normal, phases by time, and the grid in space; whatever does not add up is refused here."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from prato.data.orientation import LPS_TO_RAS
from prato.dicom.cines.blocks import BEAT_MS, MAX_SPAN, SAME_SLICE_MM, SHORTEST_BEAT_MS, reference_of
from prato.dicom.cines.stacks import Stack, is_regular
from prato.dicom.reading.files import DicomError
from prato.dicom.reading.headers import Frame

#: What phases may be sorted by, the best first: DICOM's name, and where the record has it.
_CRITERIA: tuple[tuple[str, Callable[[Frame], float | None]], ...] = (
    ("TriggerTime", lambda frame: frame.trigger_ms),
    ("TemporalPositionIdentifier", lambda frame: frame.temporal_index),
    ("InstanceNumber", lambda frame: frame.instance_number),
)
#: From the straight, even stack that is written, a slice may lie so far, mm; further, and space is no longer where the scanner says.
_ROUNDING_MM = 0.05
_TOLERATED_MM = 0.5
#: How long the phases of a cine span at least.
_MIN_SPAN_MS = 100.0
#: Slices of which one spans so many times what another does have their times in several units, such as s and ms.
_UNIT = 10.0
#: How much longer than usual the time between two phases is where one is missing between them.
_GAP = 1.7
#: So many phases, and more, a slice begins at another time than most.
_SHIFTED = 1.5


@dataclass(frozen=True)
class OrderedCine:
    """A cine whose images all have their place: ``frames[k][t]`` is slice k (along the right-handed normal) in phase t.

    Attributes:
        affine: 4x4, voxel (column, row, slice) -> RAS+ mm, right-handed.
        times_ms: (T,), mean over the slices, after the first phase; None where the files do not say.
        trigger_ms: (Z, T), since the R wave; None likewise. rr_ms: median over the slices; rr_source: DICOM's name, or "estimated".
        order: DICOM's name of what the phases were sorted by.
        notes: what was guessed or is odd, a sentence each, without a word of the patient.
    """

    frames: tuple[tuple[Frame, ...], ...]
    affine: np.ndarray
    times_ms: np.ndarray | None
    trigger_ms: np.ndarray | None
    rr_ms: float | None
    rr_source: str | None
    order: str
    notes: tuple[str, ...]

    @property
    def step_ms(self) -> float | None:
        """Mean time from phase to phase."""
        return None if self.times_ms is None else float(self.times_ms[-1]) / (len(self.times_ms) - 1)


def put_in_order(stack: Stack) -> OrderedCine:
    """The cine that ``stack`` is.

    Raises:
        DicomError: a flaw of the stack, slices in several frames of reference, a phase that is missing or there twice, or slices that
            do not lie evenly one above another.
    """
    notes = list(stack.notes)
    if stack.flaw:
        raise DicomError(stack.flaw)
    slices = list(stack.slices.values())
    _note_series(slices, notes)
    _check_references(slices, notes)
    _check_places(slices)
    _check_counts([len(frames) for frames in slices])
    order, key = _choose_order(slices, notes)
    rows = tuple(tuple(sorted(frames, key=lambda frame: key(frame) or 0.0)) for frames in slices)
    affine = _affine(rows, notes)
    triggers = None
    if all(frame.trigger_ms is not None for frames in rows for frame in frames) and order == "TriggerTime":
        triggers = np.array([[frame.trigger_ms for frame in frames] for frames in rows], dtype=np.float64)
    why = None if triggers is None else _why_untimed(triggers)
    if why is not None:
        notes.append(f"The trigger times tell only the order of the phases, as {why}.")
        triggers = None
    times = None if triggers is None else (triggers - triggers[:, :1]).mean(axis=0)
    if triggers is not None:
        _note_gaps(triggers, notes)
        _note_beginnings(triggers, notes)
    rr_ms, rr_source = _heartbeat(rows, times, notes)
    if rr_ms is not None and times is None:
        times = np.arange(len(rows[0])) * rr_ms / len(rows[0])
        notes.append(
            "The files give no trigger times that tell when a phase is: the phases are taken as spread evenly over the R-R interval."
        )
    if any(frame.is_lossy for frame in stack.frames):
        notes.append("The images were once compressed with loss: fine structures may be missing.")
    return OrderedCine(rows, affine, times, triggers, rr_ms, rr_source, order, tuple(notes))


def _note_series(slices: list[tuple[Frame, ...]], notes: list[str]) -> None:
    if any(len({frame.series for frame in frames}) > 1 for frames in slices):
        count = len({frame.series for frames in slices for frame in frames})
        why = "their times, or positions in time, say that they are one cine"
        notes.append(f"The phases of a slice are of several series, {count} in all: {why}.")


def _check_references(slices: list[tuple[Frame, ...]], notes: list[str]) -> None:
    count = len({reference_of(frames) for frames in slices} - {""})
    if count > 1:
        raise DicomError(f"its slices lie in {count} frames of reference, whose relative positions are unknown")
    named = {frame.frame_of_reference for frames in slices for frame in frames} - {""}
    if len(named) > 1:
        notes.append(f"The images name {len(named)} frames of reference, several for one slice: they are taken to lie in one.")


def _check_places(slices: list[tuple[Frame, ...]]) -> None:
    """Refuse two images that say to be the same one; copies were left out before."""
    for n, frames in enumerate(slices):
        own: dict[tuple[float | None, int | None, int | None], Frame] = {}
        for frame in frames:
            key = (frame.trigger_ms, frame.temporal_index, frame.instance_number)
            if key in own and key != (None, None, None):
                raise DicomError(f"two different images are phase {len(own)} of slice {n + 1} ({own[key].file.name} and {frame.file.name})")
            own[key] = frame


def _check_counts(counts: list[int]) -> None:
    usual = Counter(counts).most_common(1)[0][0]
    odd = {n: count for n, count in enumerate(counts) if count != usual}
    if len(odd) > 1:
        listed = ", ".join(map(str, counts))
        raise DicomError(f"its {len(counts)} slices have different numbers of phases ({listed}): images are missing, or there twice")
    for n, count in odd.items():
        what = (
            "a phase is missing"
            if count == usual - 1
            else "phases are missing"
            if count < usual
            else "phases are there twice, or those of the others are missing"
        )
        raise DicomError(f"slice {n + 1} of {len(counts)} has {count} phases and the others {usual}: {what}")


def _choose_order(slices: list[tuple[Frame, ...]], notes: list[str]) -> tuple[str, Callable[[Frame], float | None]]:
    for name, key in _CRITERIA:
        values = [[key(frame) for frame in frames] for frames in slices]
        if all(None not in own and len(set(own)) == len(own) for own in values):
            if name == "InstanceNumber":
                notes.append("The files do not give every phase a time of its own: the phases are in the order of their instance numbers.")
            return name, key
    raise DicomError("its images give neither trigger times nor temporal positions nor instance numbers that tell the phases apart")


def _affine(rows: tuple[tuple[Frame, ...], ...], notes: list[str]) -> np.ndarray:
    """From the first and the last slice, as the positions of all others lie on the line between them."""
    first = rows[0][0]
    along_row = np.array(first.orientation[:3]) / np.linalg.norm(first.orientation[:3])
    along_column = np.array(first.orientation[3:]) - (along_row @ first.orientation[3:]) * along_row
    skew = abs(float(np.dot(along_row, first.orientation[3:]))) / float(np.linalg.norm(first.orientation[3:]))
    if skew * first.rows * first.spacing[0] > _TOLERATED_MM:
        raise DicomError(f"rows and columns of its images are not at right angles ({np.degrees(np.arccos(skew)):.1f}°)")
    along_column /= np.linalg.norm(along_column)  # rounding, as header values are, may leave them off the right angle
    normal = np.cross(along_row, along_column)
    for n, frames in enumerate(rows):
        if max(float(np.abs(np.subtract(frame.position, frames[0].position)).max()) for frame in frames) > SAME_SLICE_MM:
            raise DicomError(f"the phases of slice {n + 1} do not all lie in one place")
    positions = np.array([frames[0].position for frames in rows])
    distances = (positions - positions[0]) @ normal
    if not is_regular(distances.tolist()):
        gaps = ", ".join(f"{gap:.1f}" for gap in np.diff(distances))
        raise DicomError(f"its slices are not evenly spaced ({gaps} mm): a slice is missing, or two stacks are mixed")
    step = float(distances[-1]) / (len(rows) - 1)
    centre = positions.mean(axis=0) - normal * step * (len(rows) - 1) / 2
    off = float(np.linalg.norm(positions - (centre + np.outer(np.arange(len(rows)) * step, normal)), axis=1).max())
    if off > _TOLERATED_MM:
        raise DicomError(f"its slices do not lie one above another (one is {off:.1f} mm aside)")
    if off > _ROUNDING_MM:
        notes.append(f"Slices lie up to {off:.2f} mm off the straight stack that is written.")
    affine = np.eye(4)
    affine[:3, 0], affine[:3, 1], affine[:3, 2] = along_row * first.spacing[1], along_column * first.spacing[0], normal * step
    affine[:3, 3] = centre
    return LPS_TO_RAS @ affine + 0.0


def _why_untimed(triggers: np.ndarray) -> str | None:
    """Why ``triggers`` (Z, T) are no times in ms, if they are not."""
    spans = triggers[:, -1] - triggers[:, 0]
    if spans.max() > _UNIT * spans.min():
        return f"those of slice {spans.argmin() + 1} span {spans.min():.3g} ms and those of slice {spans.argmax() + 1} {spans.max():.3g} ms"
    span = float(spans.mean())
    if span < _MIN_SPAN_MS:
        return f"all of them lie within {span:.3g} ms"
    return f"they span {span / 1000:.0f} s" if span > BEAT_MS else None


def _note_gaps(triggers: np.ndarray, notes: list[str]) -> None:
    """Name the slices of which a phase may be missing where the others lack one too, so that their numbers tell nothing."""
    gaps = np.diff(triggers, axis=1)
    torn = np.flatnonzero(gaps.max(axis=1) > _GAP * np.median(gaps, axis=1))
    if len(torn):
        k = int(torn[0])
        more = f" and {len(torn) - 1} more" if len(torn) > 1 else ""
        notes.append(
            f"Phases of slice {k + 1}{more} are up to {gaps[k].max():.0f} ms apart and usually {np.median(gaps[k]):.0f} ms: "
            "some may be missing, and those of other slices may be of other times."
        )


def _note_beginnings(triggers: np.ndarray, notes: list[str]) -> None:
    """Name the slices that begin at another time after the R wave than most: what has one number then shows two moments of the beat."""
    shifted = triggers[:, 0] - np.median(triggers[:, 0])
    apart = np.flatnonzero(np.abs(shifted) > _SHIFTED * np.median(np.diff(triggers, axis=1)))
    if len(apart):
        k = int(np.abs(shifted).argmax())
        more = f" and {len(apart) - 1} more" if len(apart) > 1 else ""
        when = "later" if shifted[k] > 0 else "earlier"
        notes.append(
            f"Slice {k + 1}{more} begins {abs(shifted[k]):.0f} ms {when} in the heartbeat than most: its phases show other moments."
        )


def _heartbeat(rows: tuple[tuple[Frame, ...], ...], times: np.ndarray | None, notes: list[str]) -> tuple[float | None, str | None]:
    """The R-R interval, and who says so; one that no heart has, or that the phases span many times, is left out."""
    found = [frame.rr_ms for frames in rows for frame in frames if frame.rr_ms is not None]
    rr_ms = float(np.median(found)) if found else None
    span = 0.0 if times is None else float(times[-1])
    is_possible = rr_ms is None or SHORTEST_BEAT_MS <= rr_ms <= BEAT_MS
    if rr_ms is not None and not (is_possible and span <= MAX_SPAN * rr_ms):
        or_else = ", or the phases are of several heartbeats" if is_possible else ""
        notes.append(f"The R-R interval that the files give, {rr_ms:.0f} ms, cannot be right{or_else}: it is not used.")
        rr_ms = None
    if rr_ms is not None:
        return rr_ms, "NominalInterval"
    if times is None:
        return None, None
    return span * len(times) / (len(times) - 1), "estimated"
