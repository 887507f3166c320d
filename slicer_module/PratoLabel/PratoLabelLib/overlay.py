"""The token-retention map as a volume over the slices."""

from __future__ import annotations

import base64
import zlib
from collections.abc import Mapping
from typing import Any

import numpy as np
import slicer
import slicer.util

from PratoLabelLib.volume_file import ijk_to_ras

_COLOUR_TABLE = "vtkMRMLColorTableNodeFileColdToHotRainbow.txt"
_OPACITY = 0.35


def token_map(packed: Mapping[str, Any]) -> np.ndarray:
    """The reply's ``tokens`` as float32 (K, J, I) in 0..1: share of the pruning stages that the token over each voxel survived.

    Raises:
        ValueError: not what ``docs/protocol.md`` describes.
    """
    try:
        levels = np.frombuffer(zlib.decompress(base64.b64decode(packed["data"])), np.uint8).reshape(packed["shape"])
    except (KeyError, TypeError, zlib.error) as error:
        raise ValueError("The token map in the server's answer cannot be read: server and module are not of one version.") from error
    return (levels.T / np.float32(255)).astype(np.float32)


def show_tokens(kept: np.ndarray, volume_node: Any, node: Any) -> Any:
    """Lay ``kept`` (K, J, I) over the slice views, on the grid of ``volume_node``; returns its volume node.

    Args:
        node: the volume node of an earlier map, taken over; None for a new one.
    """
    if node is None or node.GetScene() is None:
        node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", f"{volume_node.GetName()} tokens kept")
    node.SetIJKToRASMatrix(slicer.util.vtkMatrixFromArray(ijk_to_ras(volume_node)))
    node.SetAndObserveTransformNodeID(volume_node.GetTransformNodeID())
    slicer.util.updateVolumeFromArray(node, kept)
    node.CreateDefaultDisplayNodes()
    display = node.GetDisplayNode()
    display.SetAndObserveColorNodeID(_COLOUR_TABLE)
    display.AutoWindowLevelOff()
    display.SetWindowLevelMinMax(0.0, 1.0)
    slicer.util.setSliceViewerLayers(foreground=node, foregroundOpacity=_OPACITY)
    return node


def hide_tokens(node: Any) -> None:
    """Take the map off the slice views and out of the scene."""
    if node is not None and node.GetScene() is not None:
        slicer.util.setSliceViewerLayers(foreground=None)
        slicer.mrmlScene.RemoveNode(node)
