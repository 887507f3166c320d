"""Masks and segmentation nodes of the real MRML core: nothing gets lost between them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nibabel as nib
import nrrd
import numpy as np
import pytest

slicer = pytest.importorskip("slicer", reason="slicer-core is not installed: pip install -r tests/requirements.txt")

from prato.data import structures
from PratoLabelLib.scene.cine_nodes import write_segments
from PratoLabelLib.scene.segmentation import (
    MaskError,
    create_segmentation,
    export_mask,
    import_changes,
    import_mask,
    merge_masks,
    read_mask,
    write_mask,
)
from PratoLabelLib.scene.segments import COLOURS, find_problems
from tests.app.live import oblique, write_study
from tests.slicer_harness.core import new_scene

LABELS = {"RV cavity": 1, "myocardium": 2, "LV cavity": 3}
SHAPE = (40, 36, 5)


@pytest.fixture
def scene() -> Any:
    return new_scene()


@pytest.fixture
def heart(scene: Any, tmp_path: Path) -> Any:
    """An oblique study, read by Slicer's own reader."""
    return slicer.util.loadVolume(write_study(tmp_path / "heart.nii.gz", SHAPE), {"name": "heart"})


def some_mask(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 4, SHAPE[::-1]).astype(np.uint8)


def nifti(path: Path, mask: np.ndarray, affine: np.ndarray | None = None) -> Path:
    nib.save(nib.Nifti1Image(mask.T, oblique((4.0, 4.0, 9.0)) if affine is None else affine), path)
    return path


def test_into_the_node_and_out_again_bit_for_bit(heart: Any) -> None:
    node = create_segmentation(heart, LABELS, "mask")
    for seed in range(3):  # the second time the segments hold something already
        import_mask(node, heart, LABELS, some_mask(seed))
        assert np.array_equal(export_mask(node, heart, LABELS), some_mask(seed))
    segmentation = node.GetSegmentation()
    names = [segmentation.GetNthSegment(n).GetName() for n in range(segmentation.GetNumberOfSegments())]
    assert names == ["RV cavity", "myocardium", "LV cavity"]
    for n, name in enumerate(names):
        assert segmentation.GetNthSegment(n).GetColor() == pytest.approx(COLOURS[name])
    assert COLOURS == structures.COLOURS  # a structure has one colour in Slicer, on the server's pages and in reports


def own_layers(node: Any, volume: Any, mask: np.ndarray) -> None:
    import_mask(node, volume, LABELS, mask)


def one_layer(node: Any, volume: Any, mask: np.ndarray) -> None:
    """As the phases of a cine have them."""
    write_segments(node, volume, LABELS, mask)


def one_layer_of_other_numbers(node: Any, volume: Any, mask: np.ndarray) -> None:
    """As a file may have them that another program wrote: the segments' own numbers are not the structures'."""
    numbers = {"RV cavity": 3, "myocardium": 7, "LV cavity": 1}
    renumbered = np.zeros_like(mask)
    for name, number in numbers.items():
        renumbered[mask == LABELS[name]] = number
    write_segments(node, volume, numbers, renumbered)


def collapsed(node: Any, volume: Any, mask: np.ndarray) -> None:
    """As a scene that was saved and loaded has them."""
    import_mask(node, volume, LABELS, mask)
    node.GetSegmentation().CollapseBinaryLabelmaps(False)


@pytest.mark.parametrize("fill", [own_layers, one_layer, one_layer_of_other_numbers, collapsed])
@pytest.mark.parametrize("seed", range(6))
def test_a_change_of_some_voxels_is_that_change_whatever_layers_the_segments_share(heart: Any, fill: Any, seed: int) -> None:
    rng = np.random.default_rng(seed)
    node, mask = create_segmentation(heart, LABELS, "mask"), some_mask(seed)
    fill(node, heart, mask)
    scar = node.GetSegmentation().AddEmptySegment("scar", "scar")
    drawn = (some_mask(9) == 1).astype(np.uint8)
    slicer.util.updateSegmentBinaryLabelmapFromArray(drawn, node, scar, heart)
    for share in (1e-3, 0.05, 0.9):
        changed = np.where(rng.random(mask.shape) < share, rng.integers(0, 4, mask.shape), mask).astype(np.uint8)
        import_changes(node, heart, LABELS, changed, mask)
        assert np.array_equal(export_mask(node, heart, LABELS), changed)
        mask = changed
    assert np.array_equal(slicer.util.arrayFromSegmentBinaryLabelmap(node, scar, heart), drawn)


def test_identifiers_and_other_segments_stay(heart: Any) -> None:
    node = create_segmentation(heart, LABELS, "mask")
    scar = node.GetSegmentation().AddEmptySegment("scar", "scar")
    drawn = (some_mask(9) == 1).astype(np.uint8)
    slicer.util.updateSegmentBinaryLabelmapFromArray(drawn, node, scar, heart)
    before = list(node.GetSegmentation().GetSegmentIDs())
    import_mask(node, heart, LABELS, some_mask(1))
    assert list(node.GetSegmentation().GetSegmentIDs()) == before
    assert np.array_equal(export_mask(node, heart, LABELS), some_mask(1))


def test_surfaces_are_read_without_a_trace(heart: Any) -> None:
    node, mask = create_segmentation(heart, LABELS, "mask"), np.zeros_like(some_mask())
    for value in LABELS.values():
        mask[1:4, 8:20, 8 * value : 8 * value + 6] = value
    import_mask(node, heart, LABELS, mask)
    surface = slicer.vtkSegmentationConverter.GetSegmentationClosedSurfaceRepresentationName()
    node.GetSegmentation().CreateRepresentation(surface)
    node.GetSegmentation().SetSourceRepresentationName(surface)
    node.GetSegmentation().RemoveRepresentation(slicer.vtkSegmentationConverter.GetSegmentationBinaryLabelmapRepresentationName())
    count = slicer.mrmlScene.GetNumberOfNodes()
    for _ in range(3):
        assert set(np.unique(export_mask(node, heart, LABELS))) == {0, 1, 2, 3}
    assert slicer.mrmlScene.GetNumberOfNodes() == count


@pytest.mark.parametrize("suffix", [".nii.gz", ".nrrd"])
def test_a_file_of_the_server_is_read_as_it_is(heart: Any, tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"mask{suffix}"
    if suffix == ".nrrd":
        lps = np.diag([-1.0, -1.0, 1.0, 1.0]) @ oblique((4.0, 4.0, 9.0))
        header = {"space": "left-posterior-superior", "space directions": lps[:3, :3].T, "space origin": lps[:3, 3]}
        nrrd.write(str(path), some_mask().T, {**header, "kinds": ["domain"] * 3, "encoding": "raw"})
    else:
        nifti(path, some_mask())
    nodes = slicer.mrmlScene.GetNumberOfNodes()
    assert np.array_equal(read_mask(path, heart, LABELS), some_mask())
    assert slicer.mrmlScene.GetNumberOfNodes() == nodes


def test_what_is_written_lies_on_the_images_own_grid(heart: Any, tmp_path: Path) -> None:
    transform = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLinearTransformNode")
    transform.GetMatrixTransformToParent()
    heart.SetAndObserveTransformNodeID(transform.GetID())
    write_mask(tmp_path / "out.nii.gz", some_mask(), heart)
    stored = nib.load(tmp_path / "out.nii.gz")
    assert np.array_equal(np.asarray(stored.dataobj).T, some_mask())
    assert np.allclose(stored.affine, oblique((4.0, 4.0, 9.0)), atol=1e-4)


def test_a_moved_volume_changes_no_count(heart: Any) -> None:
    transform = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLinearTransformNode")
    matrix = slicer.util.vtkMatrixFromArray(np.array([[0, -1, 0, 12.5], [1, 0, 0, -3], [0, 0, 1, 4.25], [0, 0, 0, 1.0]]))
    transform.SetMatrixTransformToParent(matrix)
    heart.SetAndObserveTransformNodeID(transform.GetID())
    node = create_segmentation(heart, LABELS, "mask")
    import_mask(node, heart, LABELS, some_mask())
    assert np.array_equal(export_mask(node, heart, LABELS), some_mask())


def test_masks_that_do_not_fit_are_refused(heart: Any, tmp_path: Path) -> None:
    shifted = oblique((4.0, 4.0, 9.0))
    shifted[0, 3] += 3.0
    bad = {
        "has 40x36x4 voxels and heart has 40x36x5": nifti(tmp_path / "short.nii.gz", some_mask()[:4]),
        "is not in the same place as heart": nifti(tmp_path / "moved.nii.gz", some_mask(), shifted),
        "holds the value 7, which names no structure": nifti(tmp_path / "strange.nii.gz", np.full(SHAPE[::-1], 7, np.uint8)),
        "for heart cannot be read": tmp_path / "absent.nii.gz",
    }
    (tmp_path / "torn.nrrd").write_bytes(b"NRRD0005\ntype: uint8\n")
    for words, path in [*bad.items(), ("for heart cannot be read", tmp_path / "torn.nrrd")]:
        with pytest.raises(MaskError, match=words):
            read_mask(path, heart, LABELS)


def test_a_mask_may_lie_a_rounding_error_beside_its_volume(heart: Any, tmp_path: Path) -> None:
    place = oblique((4.0, 4.0, 9.0))
    place[0, 3] += 0.3  # mm, of voxels whose smallest edge is 4 mm
    assert np.array_equal(read_mask(nifti(tmp_path / "near.nii.gz", some_mask(), place), heart, LABELS), some_mask())
    place[0, 3] += 0.2
    with pytest.raises(MaskError, match="is not in the same place"):
        read_mask(nifti(tmp_path / "beside.nii.gz", some_mask(), place), heart, LABELS)


def test_a_prediction_counts_inside_the_boxes_alone() -> None:
    current, predicted = some_mask(1), some_mask(2)
    result = merge_masks(current, predicted, [(3, 10, 4, 9, 1, 3), (20, 30, 0, 36, 4, 5)], [])
    inside = np.zeros(current.shape, bool)
    inside[1:3, 4:9, 3:10] = inside[4:5, :, 20:30] = True
    assert np.array_equal(result[inside], predicted[inside])
    assert np.array_equal(result[~inside], current[~inside])


def test_a_locked_structure_neither_gains_nor_loses() -> None:
    current, predicted = some_mask(1), some_mask(2)
    result = merge_masks(current, predicted, [(0, 40, 0, 36, 0, 5)], [LABELS["myocardium"]])
    assert np.array_equal(result == 2, current == 2)
    free = (current != 2) & (predicted != 2)
    assert np.array_equal(result[free], predicted[free])


@pytest.mark.slow
def test_reading_the_segments_leaves_the_scene_alone() -> None:
    new_scene()
    volume = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "heart")
    mask = np.random.default_rng(5).integers(0, 4, (5, 9, 8)).astype(np.uint8)
    slicer.util.updateVolumeFromArray(volume, mask.astype(np.int16))
    volume.SetSpacing(1.4, 1.4, 8.0)
    labels = {"RV cavity": 1, "myocardium": 2, "LV cavity": 3}
    node = create_segmentation(volume, labels, "heart segments")
    import_mask(node, volume, labels, mask)
    events: list[str] = []
    observed = (slicer.mrmlScene, node, node.GetSegmentation(), volume)
    tags = [(thing, thing.AddObserver("AnyEvent", lambda caller, event: events.append(event))) for thing in observed]
    assert np.array_equal(export_mask(node, volume, labels), mask)
    assert np.array_equal(export_mask(node, volume, {"LV cavity": 7}), np.where(mask == 3, 7, 0))
    assert find_problems(node, volume, labels) == []
    for thing, tag in tags:
        thing.RemoveObserver(tag)
    assert events == []
