"""Doubts about a label, given the image that it belongs to now: the image may have been replaced since the label was stored."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from prato.data.cine import CineHead, read_cine_head
from prato.data.labels.anatomy import describe_lack, judge_anatomy
from prato.data.labels.check import match_grid
from prato.data.labels.names import MisplacedLabelError
from prato.data.nifti import Volume, VolumeError
from prato.data.stack import slice_axis
from prato.labelling.phases import phase_count, phase_of
from prato.labelling.reader import VersionReader
from prato.labelling.records import LabelVersionError, Version

#: How every sentence about one phase begins.
_OF_A_PHASE = re.compile(r"Phase \d+: ")


@dataclass(frozen=True)
class LabelDoubts:
    """``warnings``: a sentence each. ``fits``: whether the label lies on its image's grid, with as many phases."""

    warnings: tuple[str, ...] = ()
    fits: bool = True


def doubt_label(label: VersionReader, version: Version, image: CineHead) -> LabelDoubts:
    """Doubts about ``version``, the current one of ``label``, with ``image``; for one that cannot be used, the reason.

    A label that the app has stored was checked then, and only its header is read.
    """
    try:
        grid = image.grid()
        if version.origin == "found":
            return LabelDoubts(anatomy_warnings(label.read_mask(version.version, grid)))
        match_grid(f"The label for {label.study}", read_cine_head(label.current_path()).grid(), grid)
    except MisplacedLabelError as error:
        return LabelDoubts((str(error),), fits=False)
    except (VolumeError, LabelVersionError) as error:
        return LabelDoubts((str(error),))
    return LabelDoubts(version.warnings)


def anatomy_warnings(label: Volume) -> tuple[str, ...]:
    """What the structures and where they lie say against ``label``, uint8 (X, Y, Z) or (X, Y, Z, T): a sentence a phase, or nothing."""
    count, axis = phase_count(label.array), slice_axis(label.array.shape[:3], label.spacing)
    found = [doubt_phase(phase_of(label.array, number), axis, number if count > 1 else None) for number in range(count)]
    return tuple(doubt for doubt in found if doubt is not None)


def doubt_phase(mask: np.ndarray, axis: int, number: int | None) -> str | None:
    """The sentence against a ``mask``, uint8 (X, Y, Z), whose structures lie as they cannot, or that lacks one; None for any other.

    Args:
        axis: lies across the slices.
        number: of the cine's phase that it is; None for a volume.
    """
    anatomy = judge_anatomy(mask, axis)
    sentence = anatomy.sentence if anatomy.verdict == "contradicted" else describe_lack(mask, axis)
    if not sentence:
        return None
    if number is None:
        return f"{sentence[0].upper()}{sentence[1:-1]}; training leaves the label out until it is corrected."
    return f"{_begin(number)}{sentence[:-1]}; training leaves the phase out until it is corrected."


def about_phases(warnings: Iterable[str], numbers: Iterable[int]) -> list[str]:
    """Those of ``warnings``, the sentences against a label, that are about one of its phases ``numbers`` or about all of it."""
    begins = tuple(map(_begin, numbers))
    return [warning for warning in warnings if warning.startswith(begins) or not _OF_A_PHASE.match(warning)]


def _begin(number: int) -> str:
    """How a sentence about phase ``number`` begins."""
    return f"Phase {number}: "
