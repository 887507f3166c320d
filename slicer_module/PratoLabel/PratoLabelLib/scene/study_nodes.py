"""Which nodes of the scene belong to which study of which server."""

from __future__ import annotations

import slicer
import slicer.util

#: Node attribute: which study of the server a volume or segmentation node shows.
STUDY_ATTRIBUTE = "PratoLabel.study"
#: Node attribute: the address of the server whose study that is; the same name is another study elsewhere.
SERVER_ATTRIBUTE = "PratoLabel.server"


def find_node(class_name: str, study: str, server: str) -> slicer.vtkMRMLNode | None:
    """The node of the class in the scene that shows ``study`` of ``server``; None if there is none."""
    return next((node for node in slicer.util.getNodesByClass(class_name) if is_of_study(node, study, server)), None)


def is_of_study(node: slicer.vtkMRMLNode, study: str, server: str) -> bool:
    """Whether the node belongs to ``study`` of ``server``."""
    # scenes of an earlier version of this module do not say whose
    return node.GetAttribute(STUDY_ATTRIBUTE) == study and node.GetAttribute(SERVER_ATTRIBUTE) in (None, server)


def mark_node(node: slicer.vtkMRMLNode, study: str, server: str) -> None:
    """Let the node belong to ``study`` of ``server``."""
    node.SetAttribute(STUDY_ATTRIBUTE, study)
    node.SetAttribute(SERVER_ATTRIBUTE, server)
