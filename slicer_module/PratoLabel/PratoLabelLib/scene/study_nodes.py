"""Which nodes of the scene belong to which study of which server."""

from __future__ import annotations

from collections.abc import Collection

import slicer
import slicer.util

from PratoLabelLib.scene.volumes import find_browsers, is_loaded_here, remove_node

#: Node attribute: which study of the server a volume or segmentation node shows.
STUDY_ATTRIBUTE = "PratoLabel.study"
#: Node attribute: the address of the server whose study that is; the same name is another study elsewhere.
SERVER_ATTRIBUTE = "PratoLabel.server"
#: Node attribute: the node refers to itself, so that a copy of it, which has its attributes, can be told from it.
_ORIGINAL_ATTRIBUTE = "PratoLabel.original"
#: Node reference: to itself. Slicer follows it where a scene is imported into another one, and a node gets another ID.
_ITSELF = "pratoLabelItself"
#: Node attribute: the phases with edits that were not sent, of a study of one the number 1; there is none where there are none.
EDITED_ATTRIBUTE = "PratoLabel.edited"


def find_node(class_name: str, study: str, server: str) -> slicer.vtkMRMLNode | None:
    """The node of the class in the scene that shows ``study`` of ``server``; None if there is none.

    A volume without an image does not: its file was not found when the scene was loaded.
    """
    found = (node for node in slicer.util.getNodesByClass(class_name) if is_of_study(node, study, server))
    return next((node for node in found if not node.IsA("vtkMRMLVolumeNode") or node.GetImageData() is not None), None)


def is_of_study(node: slicer.vtkMRMLNode, study: str, server: str) -> bool:
    """Whether the node belongs to ``study`` of ``server``.

    A copy, such as Slicer's modules make of an image to filter or to crop it, and of segments that somebody wants to keep, does not.
    """
    # scenes of an earlier version of this module do not say whose
    return node.GetAttribute(STUDY_ATTRIBUTE) == study and node.GetAttribute(SERVER_ATTRIBUTE) in (None, server) and not _is_copy(node)


def _is_copy(node: slicer.vtkMRMLNode) -> bool:
    is_told = node.GetAttribute(_ORIGINAL_ATTRIBUTE) is not None  # else it is a box, or of an earlier version of this module
    if not is_told or node.GetNodeReferenceID(_ITSELF) == node.GetID():
        return False
    # else it is a proxy; of a copied sequence, though, it is that copy's
    return all(browser.GetAttribute(STUDY_ATTRIBUTE) is None or _is_copy(browser) for browser in find_browsers(node))


def mark_node(node: slicer.vtkMRMLNode, study: str, server: str) -> None:
    """Let the node, which is in the scene, belong to ``study`` of ``server``; of a box, copies belong to it too."""
    if node.IsA("vtkMRMLMarkupsNode"):
        node.SetAttribute(STUDY_ATTRIBUTE, study)
        node.SetAttribute(SERVER_ATTRIBUTE, server)
    else:
        mark_phase(node, study, server)
        node.SetNodeReferenceID(_ITSELF, node.GetID())


def mark_phase(node: slicer.vtkMRMLNode, study: str, server: str) -> None:
    """Let the node, which is or becomes an item of a sequence, belong to ``study`` of ``server``, and its proxies with it."""
    node.SetAttribute(STUDY_ATTRIBUTE, study)
    node.SetAttribute(SERVER_ATTRIBUTE, server)
    node.SetAttribute(_ORIGINAL_ATTRIBUTE, "1")


def read_phases(node: slicer.vtkMRMLNode, attribute: str) -> set[int]:
    """The phases in an attribute of the node; none where it has no such attribute."""
    return {int(phase) for phase in (node.GetAttribute(attribute) or "").split()}


def write_phases(node: slicer.vtkMRMLNode, attribute: str, phases: Collection[int]) -> None:
    """Keep phases in an attribute of the node; without any, it has no such attribute."""
    node.SetAttribute(attribute, " ".join(map(str, sorted(phases))) or None)


def remove_study(study: str, server: str, segmentation_node: slicer.vtkMRMLSegmentationNode) -> None:
    """Take the nodes of a study out of the scene; a volume of the labeller's own stays.

    Where another node of the study is edited, which came with another scene, all but ``segmentation_node`` may belong to it, and stays.
    """
    nodes = [node for node in slicer.util.getNodesByClass("vtkMRMLNode") if is_of_study(node, study, server)]
    are_others_edited = any(node.GetAttribute(EDITED_ATTRIBUTE) is not None for node in nodes if node is not segmentation_node)
    for node in [segmentation_node] if are_others_edited else nodes:
        if node.GetScene() is not None and (not node.IsA("vtkMRMLVolumeNode") or is_loaded_here(node)):
            remove_node(node)
