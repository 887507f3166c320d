"""Stand-ins for the few widgets of 3D Slicer that the panel uses."""

from __future__ import annotations

from typing import Any

import shiboken6
import slicer
from PySide6 import QtCore, QtGui, QtWidgets

from .qt_standin import python_qt


class qMRMLWidget(python_qt(QtWidgets.QWidget)):  # type: ignore[misc]
    """The root of a panel: hands the scene to the widgets that the .ui file connects to it."""

    mrmlSceneChanged = QtCore.Signal(object)

    def setMRMLScene(self, scene: Any) -> None:
        self.mrmlSceneChanged.emit(scene)


class qMRMLNodeComboBox(python_qt(QtWidgets.QComboBox)):  # type: ignore[misc]
    """Offers the scene's nodes of ``nodeTypes``, and nothing until it has a scene."""

    currentNodeChanged = QtCore.Signal(object)
    noneDisplay = property(lambda self: self.property("noneDisplay") or "None")
    nodeTypes = property(lambda self: self.property("nodeTypes") or [], lambda self, types: self.setProperty("nodeTypes", list(types)))

    def __init__(self, parent: Any = None) -> None:
        super().__init__(parent)
        self._scene: Any = None
        self._shown: Any = None
        self.currentIndexChanged.connect(lambda _: self._announce())

    def setMRMLScene(self, scene: Any) -> None:
        self._scene = scene
        events = (scene.NodeAddedEvent, scene.NodeRemovedEvent, scene.EndCloseEvent, scene.EndImportEvent)
        tags = [scene.AddObserver(event, lambda *_: self._fill() if shiboken6.isValid(self) else None) for event in events]
        self.destroyed.connect(lambda *_: [scene.RemoveObserver(tag) for tag in tags])
        self._fill()

    def currentNode(self) -> Any:
        return self._scene.GetNodeByID(self.itemData(self.currentIndex) or "") if self._scene else None

    def setCurrentNode(self, node: Any) -> None:
        self.setCurrentIndex(max(self.findData(node.GetID() if node else ""), 0))

    def _fill(self) -> None:
        nodes = [n for kind in self.nodeTypes for n in slicer.util.getNodesByClass(kind, self._scene) if not n.GetHideFromEditors()]
        kept = self.itemData(self.currentIndex)
        self.blockSignals(True)
        self.clear()
        if self.property("noneEnabled"):
            self.addItem(self.noneDisplay, "")
        for node in nodes:
            self.addItem(node.GetName(), node.GetID())
        self.setCurrentIndex(max(self.findData(kept), 0))
        self.blockSignals(False)
        self._announce()

    def _announce(self) -> None:
        node = self.currentNode()
        if node is not self._shown:
            self._shown = node
            self.currentNodeChanged.emit(node)


class ctkCollapsibleButton(python_qt(QtWidgets.QAbstractButton)):  # type: ignore[misc]
    """A section with a header that folds it away."""

    def __init__(self, parent: Any = None) -> None:
        super().__init__(parent)
        self._header = self.fontMetrics().height() + 10
        self.setContentsMargins(0, self._header, 0, 0)
        self.setCheckable(True)
        self.setChecked(True)
        self.toggled.connect(lambda shown: [child.setVisible(shown) for child in self.children() if child.isWidgetType()])

    # the .ui loader sets what the meta object knows
    collapsed = QtCore.Property(bool, lambda self: not self.isChecked(), lambda self, folded: self.setChecked(not folded))

    def hitButton(self, position: QtCore.QPoint) -> bool:
        return position.y() < self._header

    def paintEvent(self, event: QtGui.QPaintEvent) -> None:
        painter, option = QtGui.QPainter(self), QtWidgets.QStyleOption()
        painter.fillRect(0, 0, QtWidgets.QWidget.width(self), self._header, self.palette.window().color().darker(112))
        option.rect = QtCore.QRect(6, 0, 12, self._header)
        style = QtWidgets.QStyle.PrimitiveElement
        arrow = style.PE_IndicatorArrowDown if self.isChecked() else style.PE_IndicatorArrowRight
        self.style().drawPrimitive(arrow, option, painter, self)
        painter.drawText(26, 0, 999, self._header, QtCore.Qt.AlignmentFlag.AlignVCenter, self.text)
