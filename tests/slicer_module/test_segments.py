"""Segments stay what they are, whatever a labeller does with them; or it is said before anything is sent."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

slicer = pytest.importorskip("slicer", reason="slicer-core is not installed: pip install -r tests/requirements.txt")

from PratoLabelLib.scene.segmentation import create_segmentation, export_mask, import_mask
from PratoLabelLib.scene.segments import find_problems, find_segment
from tests.slicer_harness.core import new_scene
from tests.slicer_module.fake_client import LABELS


@pytest.fixture
def heart() -> tuple[Any, Any, np.ndarray]:
    """A volume, its segmentation, and the mask in it."""
    new_scene()
    mask = np.random.default_rng(3).integers(0, 4, (6, 16, 20)).astype(np.uint8)
    volume = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "heart")
    slicer.util.updateVolumeFromArray(volume, mask.astype(np.int16))
    volume.SetSpacing(1.4, 1.4, 8.0)
    node = create_segmentation(volume, LABELS, "heart")
    import_mask(node, volume, LABELS, mask)
    return volume, node, mask


def rename(node: Any, name: str, new: str) -> str:
    segmentation = node.GetSegmentation()
    segment_id = find_segment(segmentation, name)
    segmentation.GetSegment(segment_id).SetName(new)
    return segment_id


def test_a_sound_segmentation_has_no_problems(heart: tuple[Any, Any, np.ndarray]) -> None:
    volume, node, _ = heart
    assert find_problems(node, volume, LABELS) == []


def test_renamed_segments_are_still_what_they_were(heart: tuple[Any, Any, np.ndarray]) -> None:
    volume, node, mask = heart
    for name in LABELS:
        rename(node, name, f"my {name}")
    assert np.array_equal(export_mask(node, volume, LABELS), mask)
    assert find_problems(node, volume, LABELS) == []
    import_mask(node, volume, LABELS, 3 - mask)  # the next prediction goes into the same segments
    assert node.GetSegmentation().GetNumberOfSegments() == 3
    assert np.array_equal(export_mask(node, volume, LABELS), 3 - mask)


def test_a_segment_with_the_name_of_another_structure_is_said(heart: tuple[Any, Any, np.ndarray]) -> None:
    volume, node, mask = heart
    rename(node, "RV cavity", "LV cavity")
    assert np.array_equal(export_mask(node, volume, LABELS), mask)
    assert find_problems(node, volume, LABELS) == ["The segment called LV cavity is the RV cavity, and would be sent as such: rename it."]


def test_a_removed_segment_is_said(heart: tuple[Any, Any, np.ndarray]) -> None:
    volume, node, mask = heart
    segmentation = node.GetSegmentation()
    segmentation.RemoveSegment(find_segment(segmentation, "myocardium"))
    assert find_problems(node, volume, LABELS) == ["The segment of the myocardium was removed: the label would say that there is none."]
    import_mask(node, volume, LABELS, mask)  # a prediction brings it back
    assert find_problems(node, volume, LABELS) == []


def test_a_hidden_segment_is_sent_and_said(heart: tuple[Any, Any, np.ndarray]) -> None:
    volume, node, mask = heart
    node.GetDisplayNode().SetSegmentVisibility(find_segment(node.GetSegmentation(), "LV cavity"), False)
    assert np.array_equal(export_mask(node, volume, LABELS), mask)
    assert find_problems(node, volume, LABELS) == ["LV cavity is hidden, but would still be sent."]


def test_segments_that_are_no_structure_are_said_once_they_hold_a_voxel(heart: tuple[Any, Any, np.ndarray]) -> None:
    volume, node, mask = heart
    added = node.GetSegmentation().AddEmptySegment("", "papillary")
    assert find_problems(node, volume, LABELS) == []
    slicer.util.updateSegmentBinaryLabelmapFromArray((mask == 0).astype(np.uint8), node, added, volume)
    assert find_problems(node, volume, LABELS) == ["The segment papillary is not a structure of the model, and would not be sent."]


def test_a_segment_that_was_imported_under_the_name_of_a_structure_is_said(heart: tuple[Any, Any, np.ndarray]) -> None:
    volume, node, mask = heart
    segmentation = node.GetSegmentation()
    own, imported = find_segment(segmentation, "LV cavity"), segmentation.AddEmptySegment("", "LV cavity")
    slicer.util.updateSegmentBinaryLabelmapFromArray((mask == 0).astype(np.uint8), node, imported, volume)
    said = "A second segment is called LV cavity, and would not be sent: remove the one that is wrong."
    assert find_problems(node, volume, LABELS) == [said]
    rename(node, "LV cavity", "blood")
    said = "The segment LV cavity would not be sent, because blood is the LV cavity: remove the one that is wrong."
    assert find_problems(node, volume, LABELS) == [said]
    segmentation.RemoveSegment(own)
    assert find_segment(segmentation, "LV cavity") == imported and find_problems(node, volume, LABELS) == []


def test_overlaps_and_copies_are_said(heart: tuple[Any, Any, np.ndarray]) -> None:
    volume, node, mask = heart
    segmentation = node.GetSegmentation()
    segmentation.SeparateSegmentLabelmap(find_segment(segmentation, "RV cavity"))
    both = ((mask == 1) | (mask == 3)).astype(np.uint8)
    slicer.util.updateSegmentBinaryLabelmapFromArray(both, node, find_segment(segmentation, "RV cavity"), volume)
    shared = int((mask == 3).sum())
    problems = find_problems(node, volume, LABELS)
    assert problems in ([f"RV cavity and LV cavity share {shared} voxels, which would be sent as LV cavity."], [])
    if not problems:  # this Slicer kept one voxel for one segment: then nothing is lost either
        assert (export_mask(node, volume, LABELS) == 3).sum() in (0, shared)
    copy = slicer.vtkSegment()
    copy.DeepCopy(segmentation.GetSegment(find_segment(segmentation, "myocardium")))
    assert segmentation.AddSegment(copy)
    assert "2 segments are the myocardium: only myocardium would be sent." in find_problems(node, volume, LABELS)


@pytest.mark.slow
def test_segments_of_an_earlier_version_are_known_by_their_names(heart: tuple[Any, Any, np.ndarray]) -> None:
    volume, node, mask = heart
    segmentation = node.GetSegmentation()
    for name in LABELS:
        segmentation.GetSegment(find_segment(segmentation, name)).RemoveTag("PratoLabel.structure")
    assert np.array_equal(export_mask(node, volume, LABELS), mask)
    import_mask(node, volume, LABELS, mask)
    rename(node, "RV cavity", "right")
    assert np.array_equal(export_mask(node, volume, LABELS), mask)


@pytest.mark.parametrize("move", [(0, 0, 500), (500, 0, 0), (0, 0, 24)])  # the third structure has no voxels
@pytest.mark.parametrize("is_shared", [False, True])
def test_of_segments_that_were_moved_out_of_the_image_nothing_is_left(
    heart: tuple[Any, Any, np.ndarray], move: tuple[int, int, int], is_shared: bool
) -> None:
    volume, node, _ = heart
    mask = np.zeros((6, 16, 20), np.uint8)
    mask[4:, 5:9, 5:9], mask[:2, 2:12, 2:4] = 1, 2  # what is 24 mm higher is out of the image, and the other structure within
    import_mask(node, volume, LABELS, mask)
    if is_shared:
        node.GetSegmentation().CollapseBinaryLabelmaps(False)
    transform = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLinearTransformNode", "moved")
    matrix = np.eye(4)
    matrix[:3, 3] = move
    transform.SetMatrixTransformToParent(slicer.util.vtkMatrixFromArray(matrix))
    node.SetAndObserveTransformNodeID(transform.GetID())
    found = np.zeros_like(mask)
    if move == (0, 0, 24):
        found[3:5] = np.where(mask[:2] == 2, 2, 0)
    assert np.array_equal(export_mask(node, volume, LABELS), found)
    assert not [problem for problem in find_problems(node, volume, LABELS) if "share" in problem]
