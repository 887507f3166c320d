"""The clicks in the slice views: control points that are placed, dragged and deleted as all of Slicer's markups are. No Qt in here."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import slicer

from PratoLabelLib.clicks.click_logic import ClickLogic
from PratoLabelLib.measures.click_history import Stroke
from PratoLabelLib.scene.geometry import GeometryError, to_ijk
from PratoLabelLib.scene.placement import keeping_place_node
from PratoLabelLib.scene.segmentation import follow_transform
from PratoLabelLib.scene.segments import COLOURS
from PratoLabelLib.scene.volumes import leave_out_of_files, remove_node
from PratoLabelLib.translation import translator

_ = translator(__file__)

#: What is no structure.
_GREY = (0.8, 0.8, 0.8)
_GLYPH_SCALE = 1.5


class ClickMarkers:
    """Shows what the logic has, and tells it what is done there. A click is a point of its structure's node, a scribble a curve."""

    def __init__(self, logic: ClickLogic) -> None:
        self._logic = logic
        self._volume: slicer.vtkMRMLScalarVolumeNode | None = None  # that is clicked in
        self._points: dict[str, slicer.vtkMRMLMarkupsFiducialNode] = {}  # by structure
        self._shown: dict[Stroke, tuple[slicer.vtkMRMLMarkupsNode, str]] = {}  # a curve has no point's identifier
        self._drawn: tuple[str, slicer.vtkMRMLMarkupsCurveNode] | None = None  # a scribble that is not complete
        self._tag = 0  # of the observer of its transform
        self._is_ours = False
        logic.clicks_changed.connect(self.show)

    def node_to_place(self, structure: str, is_scribble: bool) -> slicer.vtkMRMLMarkupsNode:
        """The node that the next clicks in the views are to be points of."""
        self.finish_scribble()
        self.show()  # of the study that is open
        if is_scribble:
            self._drawn = structure, self._add_node("vtkMRMLMarkupsCurveNode", structure)
            return self._drawn[1]
        return self._points_of(structure)

    def is_ours(self, node_id: str | None) -> bool:
        """Whether a node is one of the clicks'."""
        return any(node.GetID() == node_id for node in self._nodes())

    @property
    def are_changing(self) -> bool:
        """Whether markers are being shown or removed."""
        return self._is_ours

    def finish_scribble(self) -> None:
        """The line is complete: send it, if it is one."""
        drawn, self._drawn = self._drawn, None
        if drawn is None:
            return
        structure, node = drawn
        path = self._path(node)
        with self._adopting():
            stroke = self._logic.click(structure, path) if path is not None and len(path) else None
            if stroke is None:
                remove_node(node)
            else:
                self._shown[stroke] = node, ""

    def show(self) -> None:
        """Show the clicks that the logic has, and no others."""
        if self._is_ours:
            return
        study = self._logic.current_study
        if study is None or study.volume_node is not self._volume:
            self.clear()
            if study is not None:
                self._volume = study.volume_node
                self._tag = self._volume.AddObserver(slicer.vtkMRMLTransformableNode.TransformModifiedEvent, lambda *_: self._follow())
        strokes = self._logic.strokes
        with self._changing():
            for stroke in [stroke for stroke in self._shown if stroke not in strokes or not _is_there(*self._shown[stroke])]:
                _remove(*self._shown.pop(stroke))
            for stroke in strokes:
                if stroke not in self._shown:
                    self._shown[stroke] = self._add(stroke)

    def clear(self) -> None:
        """Take all of them out of the scene."""
        with self._changing():
            nodes = self._nodes()
            self._points, self._shown, self._drawn = {}, {}, None
            for node in nodes:
                remove_node(node)
        if self._volume is not None:
            self._volume.RemoveObserver(self._tag)
            self._volume = None

    def _nodes(self) -> list[slicer.vtkMRMLMarkupsNode]:
        return [*self._points.values(), *(node for node, _ in self._shown.values()), *([self._drawn[1]] if self._drawn else [])]

    def _follow(self) -> None:
        """The image was put under another transform: the clicks stay in the voxels that they were made in."""
        with self._changing():
            for node in self._nodes() if self._volume is not None else ():
                follow_transform(node, self._volume)
        self.show()

    # From the logic to the views

    def _add(self, stroke: Stroke) -> tuple[slicer.vtkMRMLMarkupsNode, str]:
        is_scribble = len(stroke.path) > 1
        node = self._add_node("vtkMRMLMarkupsCurveNode", stroke.structure) if is_scribble else self._points_of(stroke.structure)
        to_node = np.linalg.inv(to_ijk(node.GetParentTransformNode(), self._volume))
        added = [node.AddControlPoint(*(to_node @ (*voxel, 1.0))[:3]) for voxel in stroke.path]
        return node, "" if is_scribble else node.GetNthControlPointID(added[0])

    def _points_of(self, structure: str) -> slicer.vtkMRMLMarkupsFiducialNode:
        node = self._points.get(structure)
        if node is None or node.GetScene() is None:
            node = self._points[structure] = self._add_node("vtkMRMLMarkupsFiducialNode", structure)
        return node

    def _add_node(self, kind: str, structure: str) -> slicer.vtkMRMLMarkupsNode:
        with keeping_place_node():
            node = slicer.mrmlScene.AddNewNodeByClass(kind, f"{structure} clicks")
        node.SetHideFromEditors(True)  # a prompt for now: neither a study's nor worth saving
        node.CreateDefaultDisplayNodes()
        leave_out_of_files(node)
        if self._volume is not None:
            follow_transform(node, self._volume)
        display, colour = node.GetDisplayNode(), COLOURS.get(structure, _GREY)
        display.SetColor(*colour)
        display.SetSelectedColor(*colour)
        display.SetPointLabelsVisibility(False)
        display.SetPropertiesLabelVisibility(False)
        display.SetGlyphScale(_GLYPH_SCALE)
        if kind == "vtkMRMLMarkupsCurveNode":
            node.SetCurveTypeToLinear()
        else:
            node.AddObserver(node.PointPositionDefinedEvent, lambda *_: self._on_defined(structure, node))
        node.AddObserver(node.PointEndInteractionEvent, lambda *_: self._on_moved(node))
        node.AddObserver(node.PointRemovedEvent, lambda *_: self._on_removed(node))
        return node

    # From the views to the logic

    def _on_defined(self, structure: str, node: slicer.vtkMRMLMarkupsFiducialNode) -> None:
        if self._is_ours:
            return
        known = {point for other, point in self._shown.values() if other is node}
        count, defined = node.GetNumberOfControlPoints(), node.PositionDefined
        points = [node.GetNthControlPointID(n) for n in range(count) if node.GetNthControlPointPositionStatus(n) == defined]
        for point in points:
            if point in known:
                continue
            path = self._path(node, node.GetNthControlPointIndexByID(point))
            with self._adopting():
                stroke = self._logic.click(structure, path) if path is not None else None
                if stroke is None:
                    _remove(node, point)
                else:
                    self._shown[stroke] = node, point

    def _on_moved(self, node: slicer.vtkMRMLMarkupsNode) -> None:
        for stroke, (other, point) in list(self._shown.items()):
            if self._is_ours or other is not node or not _is_there(node, point):
                continue
            path = self._path(node, node.GetNthControlPointIndexByID(point) if point else None)
            if path is None or (path.shape == stroke.path.shape and np.allclose(path, stroke.path)):
                continue
            with self._adopting():
                moved = self._logic.move_click(stroke, path)
                del self._shown[stroke]
                if moved is stroke:  # it cannot lie there
                    _remove(node, point)
                else:
                    self._shown[moved] = node, point

    def _on_removed(self, node: slicer.vtkMRMLMarkupsNode) -> None:
        if self._is_ours or (self._drawn is not None and node is self._drawn[1]):
            return
        for stroke, (other, point) in list(self._shown.items()):
            if other is not node:
                continue
            if not _is_there(node, point):
                with self._adopting():
                    _remove(*self._shown.pop(stroke))
                    self._logic.delete_click(stroke)
            elif not point:
                self._on_moved(node)  # a corner less

    def _path(self, node: slicer.vtkMRMLMarkupsNode, index: int | None = None) -> np.ndarray | None:
        """The node's points, or one of them, in continuous voxel indices (N, 3); None, and the logic says why, where there are none."""
        if self._volume is None:
            self._logic.failed.emit(_("No study is open: there is nothing to click on."))
            return None
        which = range(node.GetNumberOfControlPoints()) if index is None else [index]
        defined = [n for n in which if node.GetNthControlPointPositionStatus(n) == node.PositionDefined]
        positions = np.array([(*node.GetNthControlPointPosition(n), 1.0) for n in defined]).reshape(-1, 4)
        try:
            return (positions @ to_ijk(node.GetParentTransformNode(), self._volume).T)[:, :3]
        except GeometryError as error:
            self._logic.failed.emit(str(error))
            return None

    @contextmanager
    def _changing(self) -> Iterator[None]:
        was, self._is_ours = self._is_ours, True
        try:
            yield
        finally:
            self._is_ours = was

    @contextmanager
    def _adopting(self) -> Iterator[None]:
        """While a marker is there for which the logic has no click yet, or the other way round."""
        with self._changing():
            yield
        self.show()


def _is_there(node: slicer.vtkMRMLMarkupsNode, point: str) -> bool:
    if node.GetScene() is None:
        return False
    return node.GetNthControlPointIndexByID(point) >= 0 if point else node.GetNumberOfControlPoints() > 0


def _remove(node: slicer.vtkMRMLMarkupsNode, point: str) -> None:
    if node.GetScene() is None:
        return
    if not point:
        remove_node(node)
    elif _is_there(node, point):
        node.RemoveNthControlPoint(node.GetNthControlPointIndexByID(point))
