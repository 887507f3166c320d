"""The segments of an open study, and who changes them: the panel, or anybody else."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import slicer
import slicer.util
import vtk

from PratoLabelLib.scene.segmentation import check_writable, follow_transform, import_changes
from PratoLabelLib.scene.study_nodes import is_of_study
from PratoLabelLib.scene.volumes import ijk_to_ras, matrix_to_array

#: So far (in mm) two grids of one image may be apart, by rounding in a file of it.
_SAME_GRID = 1e-5


class WatchedSegments:
    """Observes a segmentation, and tells what is written here from what is done in the Segment Editor.

    It lies under the transform of the image, whichever that is put under: its voxels are those of the image. The image itself stays on the
    grid that the server has, and of the voxels: where its transform is hardened, it is put under it again, which looks the same.

    Attributes:
        study, server, segmentation_node, volume_node, labels: of the study.
    """

    study: str
    server: str
    segmentation_node: slicer.vtkMRMLSegmentationNode
    volume_node: slicer.vtkMRMLScalarVolumeNode
    labels: dict[str, int]
    _segmentation: slicer.vtkSegmentation | None = None
    _observers: Sequence[int] = ()
    _node_observer: int
    _before_write: Callable[[Collection[int], bool], None]
    _is_writing: bool
    _image_tags: Sequence[int] = ()
    _grid: np.ndarray
    _shape: tuple[int, ...]
    _image: vtk.vtkImageData  # as it was before what is happening now
    _is_hardened = False  # its transform is about to be taken away
    _on_kept: Callable[[], None]

    @property
    def shown_phase(self) -> int:
        """The phase whose segments are shown: 0 of a study of one phase."""
        return 0

    def check_writable(self, phase: int) -> None:
        """Do nothing where masks can be written into the segments of a phase.

        Raises:
            MaskError: they cannot; the message says why.
        """
        check_writable(self.segmentation_node)

    def edit_phase(self, phase: int, mask: np.ndarray, was: np.ndarray) -> None:
        """Change the segments of the phase that is shown from ``was`` to ``mask`` (K, J, I), as a brush does; undo brings them back.

        Raises:
            MaskError: see :meth:`check_writable`; nothing has changed then.
        """
        if np.array_equal(mask, was):
            return
        self.check_writable(phase)
        self._before_write([phase], True)
        with self._writing():
            import_changes(self.segmentation_node, self.volume_node, self.labels, mask, was)
        self._on_segments_changed()

    def settle(self) -> None:
        """Called soon after whatever is done to the nodes: what is known of them from events alone can be looked at."""
        self._image = self.volume_node.GetImageData()

    def _watch(self) -> None:
        self._grid, self._shape = ijk_to_ras(self.volume_node), self.volume_node.GetImageData().GetDimensions()
        event = slicer.vtkMRMLSegmentationNode.SegmentationChangedEvent
        self._node_observer = self.segmentation_node.AddObserver(event, lambda *_: self._follow_segmentation())
        self._observe(self.segmentation_node.GetSegmentation())

    def _unwatch(self) -> None:
        self.segmentation_node.RemoveObserver(self._node_observer)
        self._observe(None)

    def _follow_segmentation(self) -> None:
        """The node may have got other segments altogether."""
        segmentation = self.segmentation_node.GetSegmentation()
        if segmentation is not self._segmentation:
            self._observe(segmentation)
            self._on_segments_changed()

    def _observe(self, segmentation: slicer.vtkSegmentation | None) -> None:
        if self._segmentation is not None:
            for observer in self._observers:
                self._segmentation.RemoveObserver(observer)
        names = ("SourceRepresentationModified", "SegmentAdded", "SegmentRemoved")
        self._observers = []
        if segmentation is not None:
            events = [getattr(segmentation, name) for name in names]
            self._observers = [segmentation.AddObserver(event, lambda *_: self._on_segments_changed()) for event in events]
            # of some undos the only event; and one of segments that are renamed, or rearranged as they are written to a file with the scene
            self._observers.append(segmentation.AddObserver(segmentation.SegmentModified, lambda *_: self._on_segments_changed(False)))
        self._segmentation, self._image = segmentation, self.volume_node.GetImageData()
        for tag in self._image_tags:
            self.volume_node.RemoveObserver(tag)
        self._image_tags = []
        if segmentation is not None:
            moved, image = slicer.vtkMRMLTransformableNode.TransformModifiedEvent, self.volume_node
            self._image_tags = [
                image.AddObserver(moved, lambda *_: self._follow_transform()),
                image.AddObserver(vtk.vtkCommand.ModifiedEvent, lambda *_: self._keep_grid()),
            ]
            self._follow_transform()

    def _follow_transform(self) -> None:
        left, image = self.segmentation_node.GetParentTransformNode(), self.volume_node
        if _is_bent(left) and image.GetParentTransformNode() is None and image.GetImageData() is not self._image:  # it was resampled
            self._is_hardened = True
            image.SetIJKToRASMatrix(slicer.util.vtkMatrixFromArray(self._grid))
            image.SetAndObserveImageData(self._image)
            self._on_kept()
        if self._is_hardened:
            self._is_hardened = False
            follow_transform(self.volume_node, self.segmentation_node)
        else:
            follow_transform(self.segmentation_node, self.volume_node)
        if _is_bent(left) or _is_bent(image.GetParentTransformNode()):  # else a box stays where it is seen
            for roi in slicer.util.getNodesByClass("vtkMRMLMarkupsROINode"):
                if roi.GetParentTransformNode() is left and is_of_study(roi, self.study, self.server):
                    follow_transform(roi, image)

    def _keep_grid(self) -> None:
        grid, image, parent = ijk_to_ras(self.volume_node), self.volume_node.GetImageData(), self.volume_node.GetParentTransformNode()
        is_resampled = image is None or image.GetDimensions() != self._shape or _is_bent(parent)
        if is_resampled or np.allclose(grid, self._grid, atol=_SAME_GRID):
            return
        if parent is not None:
            to_world = vtk.vtkMatrix4x4()
            parent.GetMatrixTransformToWorld(to_world)
            self._is_hardened = bool(np.allclose(grid, matrix_to_array(to_world) @ self._grid))
        self.volume_node.SetIJKToRASMatrix(slicer.util.vtkMatrixFromArray(self._grid))
        self._on_kept()

    @contextmanager
    def _writing(self) -> Iterator[None]:
        self._is_writing = True
        try:
            yield
        finally:
            self._is_writing = False

    def _on_segments_changed(self, is_certain: bool = True) -> None:
        """Segments have changed. Nobody may look at them yet: half way through an undo, segments have no voxels, and Slicer would crash.

        Args:
            is_certain: False where their voxels may be the same.
        """
        raise NotImplementedError


def _is_bent(parent: slicer.vtkMRMLTransformNode | None) -> bool:
    """Whether what lies under the transform node ``parent`` is moved otherwise than by a matrix."""
    return parent is not None and not parent.IsTransformToWorldLinear()
