"""Masks of all phases of a cine, between files and the order of its volume node."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import slicer

from PratoLabelLib.measures.nifti_frames import Frames, join_frames
from PratoLabelLib.scene.segmentation import MaskError, read_mask, write_mask
from PratoLabelLib.scene.volumes import has_reversed_slices, is_left_handed, read_volume
from PratoLabelLib.translation import translator

_ = translator(__file__)


def read_masks(frames: Frames, volume_node: slicer.vtkMRMLScalarVolumeNode, labels: Mapping[str, int]) -> np.ndarray:
    """The masks of a file, uint8 (T, K, J, I), in the order of the volume node.

    Raises:
        MaskError: they are on another grid, or contain values that ``labels`` does not name.
    """
    read_mask(frames.first, volume_node, labels)  # checks the grid
    node, masks = slicer.vtkMRMLLabelMapVolumeNode(), frames.arrays
    read_volume(node, frames.first)
    if is_left_handed(node) != is_left_handed(volume_node):
        masks = masks[:, ::-1]
    counts = sum(np.bincount(mask.astype(np.uint8).ravel(), minlength=256) for mask in masks)
    unknown = set(np.flatnonzero(counts).tolist()) - {0, *labels.values()}
    if unknown:
        raise MaskError(
            _("The mask holds the value {value}, which names no structure: server and module are of different versions.").format(
                value=min(unknown)
            )
        )
    return masks.astype(np.uint8, copy=False)


def write_masks(path: Path, masks: Mapping[int, np.ndarray], count: int, volume_node: slicer.vtkMRMLScalarVolumeNode) -> Callable[[], None]:
    """Write masks (K, J, I), by phase, to the file ``path`` of ``count`` phases; returns what is left to do in the worker.

    Raises:
        MaskError: a file cannot be written.
    """
    all_masks = np.zeros((count, *volume_node.GetImageData().GetDimensions()[::-1]), np.uint8)
    for phase, mask in masks.items():
        all_masks[phase] = mask
    first = path.with_name(f"{path.name.split('.nii')[0]}_first.nii")
    write_mask(first, all_masks[0], volume_node)
    in_file_order = all_masks[:, ::-1] if has_reversed_slices(volume_node) else all_masks

    def finish() -> None:
        join_frames(first, in_file_order, path)
        first.unlink()

    return finish
