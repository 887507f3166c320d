"""DICOM SEG with what viewers and converters leave out, or write in their own way."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from pydicom.dataset import Dataset
from pydicom.uid import RLELossless

from tests.prato.dicom.labels.label_folders import SCAN, SHAPE, Folders, cine_of
from tests.prato.dicom.labels.segs import NAMES, VALUES, make_seg, set_frames, to_label_map
from tests.prato.dicom.labels.test_export_dicom import draw

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")  # pydicom, of UIDs that break a rule
NUMBERS = draw(4, SHAPE)


def compressed_by_ohif() -> Dataset:
    """dcmjs calls masks fractions, which alone may be compressed, and writes 1 of 255."""
    seg = make_seg(SCAN, NUMBERS, segmentation_type="FRACTIONAL", max_fractional_value=1)
    seg.MaximumFractionalValue = 255
    seg.compress(RLELossless)
    return seg


def without_references_to_series() -> Dataset:
    seg = make_seg(SCAN, NUMBERS)
    del seg.ReferencedSeriesSequence
    return seg


def without_positions() -> Dataset:
    """As cornerstone's label maps."""
    seg = to_label_map(make_seg(SCAN, NUMBERS, omit_empty_frames=False), NUMBERS, SCAN, 0, 8)
    for group in seg.PerFrameFunctionalGroupsSequence:
        del group.PlanePositionSequence, group.FrameContentSequence
    del seg.SharedFunctionalGroupsSequence
    return seg


def with_empty_frames() -> Dataset:
    return make_seg(SCAN, NUMBERS, omit_empty_frames=False)


def with_frames_of_no_segment() -> Dataset:
    """A frame in which nothing is drawn, of a segment that was deleted."""
    seg = make_seg(SCAN, NUMBERS, omit_empty_frames=False)
    seg.PerFrameFunctionalGroupsSequence[0].SegmentIdentificationSequence[0].ReferencedSegmentNumber = 9
    pixels = seg.pixel_array
    pixels[0] = 0
    set_frames(seg, pixels, seg.PerFrameFunctionalGroupsSequence)
    return seg


def without_codes() -> Dataset:
    seg = make_seg(SCAN, NUMBERS)
    for segment in seg.SegmentSequence:
        del segment.SegmentedPropertyTypeCodeSequence, segment.SegmentedPropertyCategoryCodeSequence, segment.SegmentAlgorithmType
    return seg


def with_numbers_of_frames() -> Dataset:
    seg = make_seg(SCAN, NUMBERS)
    for n, group in enumerate(seg.PerFrameFunctionalGroupsSequence):
        group.DerivationImageSequence[0].SourceImageSequence[0].ReferencedFrameNumber = n + 1
    return seg


@pytest.mark.parametrize(
    "seg",
    [compressed_by_ohif, without_references_to_series, without_positions, with_empty_frames, without_codes, with_numbers_of_frames],
)
def test_what_other_programs_write_is_read(folders: Folders, seg: Callable[[], Dataset]) -> None:
    folders.put(seg())
    folders.take()
    assert np.array_equal(folders.label(), cine_of(p0=VALUES[NUMBERS]))


def test_an_empty_frame_of_a_segment_that_was_deleted_is_nothing(folders: Folders) -> None:
    folders.put(with_frames_of_no_segment())
    folders.take()
    assert folders.states() == {0: "corrected"}


def test_segments_that_are_only_numbered_are_named_by_whoever_imports_them(folders: Folders, tmp_path: Path) -> None:
    folders.put(make_seg(SCAN, NUMBERS, names={n: f"Segment {n}" for n in NAMES}))
    assert "names the segment 'Segment 1'" in folders.take(1)[1] and "--names can say which of them it is" in folders.take(1)[1]
    (tmp_path / "names.json").write_text(json.dumps({f"Segment {n}": name for n, name in NAMES.items()}))
    folders.take(0, None, "--names", str(tmp_path / "names.json"))
    assert np.array_equal(folders.label(), cine_of(p0=VALUES[NUMBERS]))


def without_frames_described(seg: Dataset) -> None:
    del seg.PerFrameFunctionalGroupsSequence


def without_segment_numbers(seg: Dataset) -> None:
    for group in seg.PerFrameFunctionalGroupsSequence:
        del group.SegmentIdentificationSequence


def with_a_wrong_type(seg: Dataset) -> None:
    seg.SegmentSequence[0].SegmentNumber = None


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (without_frames_described, "It has 9 frames and describes 0: some are missing, export it again."),
        (without_segment_numbers, "It does not say of which segment its frames are: export it again."),
        (with_a_wrong_type, "It has a segment without a number: export it again."),
    ],
)
def test_what_is_missing_is_said(folders: Folders, change: Callable[[Dataset], None], sentence: str) -> None:
    seg = make_seg(SCAN, draw(1, SHAPE))
    change(seg)
    folders.put(seg)
    assert sentence in folders.take(1)[1]
