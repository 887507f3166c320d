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


class qSlicerSegmentEditorEffectFactory:
    """Knows the effects of the Segment Editor: those that come after an editor was made are in it once that is told to look again."""

    _instance: qSlicerSegmentEditorEffectFactory | None = None

    def __init__(self) -> None:
        self.names: list[str] = []
        self.connections: list[Any] = []

    @classmethod
    def instance(cls) -> qSlicerSegmentEditorEffectFactory:
        cls._instance = cls._instance or cls()
        return cls._instance

    def connect(self, signature: str, slot: Any) -> None:
        assert signature == "effectRegistered(QString)"
        self.connections.append(slot)

    def disconnect(self, signature: str, slot: Any) -> None:
        self.connections.remove(slot)

    def register(self, name: str) -> None:
        self.names.append(name)
        for slot in [*self.connections]:
            slot(name)


class qMRMLSegmentEditorWidget(python_qt(QtWidgets.QWidget)):  # type: ignore[misc]
    """The Segment Editor's segments, and its real undo history; its effects are not here."""

    calls = history = effect_names = None  # the test's own

    def __init__(self, parent: Any = None) -> None:
        super().__init__(parent)
        self.calls: list[str] = []  # what was installed and removed, in order
        self.history = slicer.vtkSegmentationHistory()
        self.updateEffectList()
        self._nodes: dict[str, Any] = {}
        self._scene: Any = None
        self._list = QtWidgets.QListWidget()
        self._list.setMaximumHeight(70)
        buttons = QtWidgets.QHBoxLayout()
        for name, action in (("Undo", self.undo), ("Redo", self.redo)):
            button = QtWidgets.QPushButton(name)
            button.clicked.connect(action)
            buttons.addWidget(button)
        layout = QtWidgets.QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(QtWidgets.QLabel("(Slicer's Segment Editor: effects, segments, undo)"))
        layout.addWidget(self._list)
        layout.addLayout(buttons)

    def setMRMLScene(self, scene: Any) -> None:
        self._scene = scene

    def setMRMLSegmentEditorNode(self, node: Any) -> None:
        self._nodes["editor"] = node

    def mrmlSegmentEditorNode(self) -> Any:
        return self._nodes.get("editor")

    def setSegmentationNode(self, node: Any) -> None:
        if node is self._nodes.get("segmentation"):
            return
        self.setActiveEffect(None)
        self._nodes["segmentation"] = node
        self.updateWidgetFromMRML()

    def segmentationNode(self) -> Any:
        return self._nodes.get("segmentation")

    def setSourceVolumeNode(self, node: Any) -> None:
        self._nodes["source"] = node

    def sourceVolumeNode(self) -> Any:
        return self._nodes.get("source")

    def setCurrentSegmentID(self, segment: str) -> None:
        self._nodes["segment"] = segment

    def currentSegmentID(self) -> str:
        return self._nodes.get("segment", "")

    def updateWidgetFromMRML(self) -> None:
        self._list.clear()
        node = self.segmentationNode()
        self.history.SetSegmentation(node.GetSegmentation() if node is not None else None)  # drops its states if it is another one
        if node is not None:
            segmentation = node.GetSegmentation()
            for n in range(segmentation.GetNumberOfSegments()):
                segment = segmentation.GetNthSegment(n)
                item = QtWidgets.QListWidgetItem(segment.GetName(), self._list)
                item.setBackground(QtGui.QColor.fromRgbF(*segment.GetColor()))

    def saveStateForUndo(self) -> None:
        if self.segmentationNode() is not None:
            self.history.SaveState()

    def undo(self) -> None:
        self.history.RestorePreviousState()

    def redo(self) -> None:
        self.history.RestoreNextState()

    def setMaximumNumberOfUndoStates(self, count: int) -> None:
        self.history.SetMaximumNumberOfStates(count)

    def updateEffectList(self) -> None:
        self.effect_names = [*qSlicerSegmentEditorEffectFactory.instance().names]

    def setEffectNameOrder(self, names: list[str]) -> None:
        self.setProperty("effects", names)

    def setEffectButtonStyle(self, style: Any) -> None: ...

    def setActiveEffect(self, effect: Any) -> None:
        self._nodes["effect"] = effect

    def activeEffect(self) -> Any:
        return self._nodes.get("effect")

    def setupViewObservations(self) -> None:
        self.calls.append("observe views")

    def removeViewObservations(self) -> None:
        self.calls.append("leave views")

    def installKeyboardShortcuts(self, parent: Any = None) -> None:
        self.calls.append("install keys")

    def uninstallKeyboardShortcuts(self) -> None:
        self.calls.append("remove keys")


for _name in ("segmentationNodeSelectorVisible", "sourceVolumeNodeSelectorVisible", "switchToSegmentationsButtonVisible"):
    setattr(qMRMLSegmentEditorWidget, _name, True)
qMRMLSegmentEditorWidget.unorderedEffectsVisible = True
