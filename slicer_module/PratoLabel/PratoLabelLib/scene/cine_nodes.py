"""The nodes of a cine: a sequence of its images, one of its segmentations, and the browser that shows a phase of both.

Slicer's Sequences logic makes the proxy nodes, which the views and the Segment Editor show, and copies the phase into them that the browser
selects. A proxy takes over the attributes of what it shows, so every phase has them; those of the images stand with their sequence as
well, as 3D Slicer before 5.10 saves no others. The segmentations are edited in place
(``SetSaveChanges``): a proxy shares its ``vtkSegmentation`` with the phase that it shows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import slicer
import slicer.util
import vtk
from vtk.util.numpy_support import numpy_to_vtk

from PratoLabelLib.measures.nifti_frames import Frames
from PratoLabelLib.scene.cine_files import read_masks
from PratoLabelLib.scene.segmentation import MaskError, export_mask, renewed_surfaces
from PratoLabelLib.scene.segments import add_segments, find_segment
from PratoLabelLib.scene.study_nodes import EDITED_ATTRIBUTE, find_node, is_of_study, mark_node, mark_phase
from PratoLabelLib.scene.volumes import copy_marks, has_reversed_slices, ijk_to_ras, is_loaded_here, load_volume, remove_node
from PratoLabelLib.translation import translator

_ = translator(__file__)

PLAYBACK_FPS = 20.0
#: Said where the scene has a cine of other phases than the server.
OTHER_PHASES = _("{study} has {count} phases, and not as many in this scene: remove its nodes here, and open it again.")


class CineNodes:
    """The three nodes, which are in the scene, and their proxies.

    Attributes:
        images, segmentations: the sequences; the browser synchronises them.
    """

    def __init__(
        self, images: slicer.vtkMRMLSequenceNode, segmentations: slicer.vtkMRMLSequenceNode, browser: slicer.vtkMRMLSequenceBrowserNode
    ) -> None:
        self.images, self.segmentations, self.browser = images, segmentations, browser

    @property
    def volume_node(self) -> slicer.vtkMRMLScalarVolumeNode:
        """The image of the phase that is shown."""
        return self.browser.GetProxyNode(self.images)

    @property
    def segmentation_node(self) -> slicer.vtkMRMLSegmentationNode:
        """The segmentation of the phase that is shown."""
        return self.browser.GetProxyNode(self.segmentations)

    @property
    def count(self) -> int:
        """How many phases there are."""
        return int(self.images.GetNumberOfDataNodes())

    def has_phases(self, count: int) -> bool:
        """Whether there are so many of both: where an item was deleted in Slicer's module Sequences, all later ones have other numbers."""
        return all(sequence.GetNumberOfDataNodes() == count for sequence in (self.images, self.segmentations))

    @property
    def phase(self) -> int:
        """The phase that is shown, from 0."""
        return max(int(self.browser.GetSelectedItemNumber()), 0)

    def show(self, phase: int) -> None:
        """Show a phase in the views."""
        self.browser.SetSelectedItemNumber(min(max(phase, 0), self.count - 1))

    @property
    def is_playing(self) -> bool:
        """Whether Slicer shows one phase after the other."""
        return bool(self.browser.GetPlaybackActive())

    def lead(self) -> None:
        """Let the browser count the images again, where another sequence that is shown along with them was made its master."""
        if self.browser.GetMasterSequenceNode() is not self.images:
            self.browser.SetAndObserveMasterSequenceNodeID(self.images.GetID())

    def play(self, is_on: bool) -> None:
        """Let Slicer show one phase after the other, or stop that."""
        self.browser.SetPlaybackActive(is_on)

    def describe(self, phase: int) -> str:
        """The phase's number and, where it is known, its time."""
        value, unit = self.images.GetNthIndexValue(phase), self.images.GetIndexUnit()
        if not unit:
            return _("phase {phase}").format(phase=phase)
        return _("phase {phase}, {time:.0f} {unit}").format(phase=phase, time=float(value), unit=unit)

    def image(self, phase: int) -> slicer.vtkMRMLScalarVolumeNode:
        """The image of a phase: its proxy, where it is shown; else in no scene."""
        return self.volume_node if phase == self.phase else self.images.GetNthDataNode(phase)

    def segmentation(self, phase: int) -> slicer.vtkMRMLSegmentationNode:
        """The segmentation of a phase: its proxy, where it is shown; else in no scene."""
        return self.segmentation_node if phase == self.phase else self.segmentations.GetNthDataNode(phase)

    def mask(self, phase: int, labels: Mapping[str, int]) -> np.ndarray:
        """The segments of a phase: uint8 (K, J, I), values of ``labels``."""
        return export_mask(self.segmentation(phase), self.image(phase), labels)

    def write_mask(self, phase: int, labels: Mapping[str, int], mask: np.ndarray) -> None:
        """Give the segments of a phase that is not shown the voxels of ``mask``; no display follows it."""
        write_segments(self.segmentation(phase), self.image(phase), labels, mask)

    def nodes(self) -> list[slicer.vtkMRMLNode]:
        """All of them, the browser first: without it, nothing makes proxies anew."""
        found = [self.browser, self.volume_node, self.segmentation_node, self.images, self.segmentations]
        return [node for node in found if node is not None and node.GetScene() is not None]

    def remove(self) -> None:
        """Take them out of the scene."""
        for node in self.nodes():
            remove_node(node)


def find_cine(study: str, server: str) -> CineNodes | None:
    """The cine that the scene holds of the study; None where there is none, or a node of it was deleted."""
    browser = find_node("vtkMRMLSequenceBrowserNode", study, server)
    sequences = vtk.vtkCollection()
    if browser is None:
        return None
    browser.GetSynchronizedSequenceNodes(sequences, True)
    found = map(sequences.GetItemAsObject, range(sequences.GetNumberOfItems()))
    # others may be shown along with them: another view of the heart, for one
    by_class = {node.GetDataNodeClassName(): node for node in found if is_of_study(node, study, server)}
    images, segmentations = by_class.get("vtkMRMLScalarVolumeNode"), by_class.get("vtkMRMLSegmentationNode")
    if images is None or segmentations is None:
        return None
    cine = CineNodes(images, segmentations, browser)
    if cine.volume_node is None or cine.segmentation_node is None:
        return None
    cine.lead()
    if is_loaded_here(images):  # else the scene was saved by an earlier version of this module
        for image in (*map(images.GetNthDataNode, range(images.GetNumberOfDataNodes())), cine.volume_node):
            mark_phase(image, study, server)
            copy_marks(images, image)
    return cine


def load_cine(
    frames: Frames, study: str, server: str, times_ms: Sequence[float] | None, labels: Mapping[str, int], mask: Frames | None
) -> CineNodes | None:
    """A new cine in the scene, in place of what is left of one; None where the image cannot be read, with nothing changed.

    Segmentations with edits that were not sent are taken over from what is left: their draft may be on another computer.

    Args:
        frames: of the image. mask: of its label; None for empty segmentations.
        times_ms: of each phase; None where they are not known.

    Raises:
        MaskError: the label does not fit, or the segmentations with edits; nothing has changed then.
    """
    template, count = load_volume(frames.first, study), len(frames.arrays)
    if template is None:
        return None
    try:
        left, edited = _find_remains(study, server)
        if edited is not None and edited.GetNumberOfDataNodes() != count:
            raise MaskError(OTHER_PHASES.format(study=study, count=count))
        masks = None if mask is None or edited is not None else read_masks(mask, template, labels)
        if masks is not None and len(masks) != count:
            raise MaskError(
                _("The label of {study} has {labelled} phases and its image {phases}: open the study again.").format(
                    study=study, labelled=len(masks), phases=count
                )
            )
        for node in left:
            remove_node(node)
        segmentations = edited or _make_segmentations(template, study, server, times_ms, count, labels, masks)
        return _make_cine(template, frames.arrays, segmentations, study, server)
    finally:
        remove_node(template)


def _find_remains(study: str, server: str) -> tuple[list[slicer.vtkMRMLNode], slicer.vtkMRMLSequenceNode | None]:
    """What is left of a cine that has lost a node or a file; apart from it, its segmentations, where they have edits that were not sent."""
    kinds = ("vtkMRMLSequenceBrowserNode", "vtkMRMLSequenceNode", "vtkMRMLScalarVolumeNode", "vtkMRMLSegmentationNode")
    left = [node for kind in kinds for node in slicer.util.getNodesByClass(kind) if is_of_study(node, study, server)]
    sequences = [node for node in left if node.IsA("vtkMRMLSequenceNode") and node.GetAttribute(EDITED_ATTRIBUTE) is not None]
    edited = next((node for node in sequences if node.GetDataNodeClassName() == "vtkMRMLSegmentationNode"), None)
    return [node for node in left if node is not edited], edited


def _make_segmentations(
    template: slicer.vtkMRMLScalarVolumeNode,
    study: str,
    server: str,
    times_ms: Sequence[float] | None,
    count: int,
    labels: Mapping[str, int],
    masks: np.ndarray | None,
) -> slicer.vtkMRMLSequenceNode:
    segments = slicer.vtkMRMLSegmentationNode()
    add_segments(segments, labels)
    segmentations = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSequenceNode", f"{study} heart")
    has_times = times_ms is not None and len(times_ms) == count
    for phase in range(count):
        segmentation = slicer.vtkMRMLSegmentationNode()
        segmentation.GetSegmentation().DeepCopy(segments.GetSegmentation())  # a segment has one identifier in all phases
        segmentation.SetReferenceImageGeometryParameterFromVolumeNode(template)
        mark_phase(segmentation, study, server)
        if masks is not None and masks[phase].any():
            write_segments(segmentation, template, labels, masks[phase])
        value = f"{times_ms[phase]:g}" if times_ms is not None and has_times else str(phase)
        segmentations.SetDataNodeAtValue(segmentation, value)
    segmentations.SetIndexName("time" if has_times else "phase")
    segmentations.SetIndexUnit("ms" if has_times else "")
    return segmentations


def _make_cine(
    template: slicer.vtkMRMLScalarVolumeNode, arrays: np.ndarray, segmentations: slicer.vtkMRMLSequenceNode, study: str, server: str
) -> CineNodes:
    images = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSequenceNode", study)
    images.SetIndexName(segmentations.GetIndexName())
    images.SetIndexUnit(segmentations.GetIndexUnit())
    mark_phase(template, study, server)
    voxels = slicer.util.arrayFromVolume(template)
    for phase, array in enumerate(arrays):
        voxels[:] = array[::-1] if has_reversed_slices(template) else array
        template.GetImageData().Modified()
        images.SetDataNodeAtValue(template, segmentations.GetNthIndexValue(phase))
    browser = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSequenceBrowserNode", f"{study} browser")
    for sequence in (images, segmentations):
        sequence.SetIndexTypeFromString("numeric")
        browser.AddSynchronizedSequenceNode(sequence)
        browser.SetOverwriteProxyName(sequence, False)
    browser.SetSaveChanges(segmentations, True)
    browser.SetPlaybackRateFps(PLAYBACK_FPS)
    browser.SetSelectedItemNumber(0)
    for node in (images, segmentations, browser):
        mark_node(node, study, server)
    copy_marks(template, images)
    cine = CineNodes(images, segmentations, browser)
    _keep_window(cine.volume_node)
    return cine


def write_segments(
    segmentation_node: slicer.vtkMRMLSegmentationNode, volume_node: slicer.vtkMRMLVolumeNode, labels: Mapping[str, int], mask: np.ndarray
) -> None:
    """Give the segments of ``labels`` the voxels of ``mask``, as one labelmap that they share; the nodes may be in no scene."""
    add_segments(segmentation_node, labels)
    labelmap = slicer.vtkOrientedImageData()
    labelmap.SetDimensions(mask.shape[::-1])
    labelmap.SetImageToWorldMatrix(slicer.util.vtkMatrixFromArray(ijk_to_ras(volume_node)))
    labelmap.GetPointData().SetScalars(numpy_to_vtk(np.ascontiguousarray(mask, np.uint8).ravel(), deep=True))
    binary = slicer.vtkSegmentationConverter.GetSegmentationBinaryLabelmapRepresentationName()
    segmentation = segmentation_node.GetSegmentation()
    with renewed_surfaces(segmentation):
        for name, value in labels.items():
            segment = segmentation.GetSegment(find_segment(segmentation, name))
            segment.SetLabelValue(value)
            segment.AddRepresentation(binary, labelmap)


def _keep_window(volume_node: slicer.vtkMRMLScalarVolumeNode) -> None:
    """Show all phases in the grey values of the first: the picture must not flicker."""
    volume_node.CreateDefaultDisplayNodes()
    display = volume_node.GetDisplayNode()
    if display is not None:
        display.AutoWindowLevelOff()
