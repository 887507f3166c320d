"""A real MRML scene with the real module logics, set up as the desktop application sets it up.

Real: every node, logic, file reader and writer (PyPI's slicer-core). Stand-in, for want of the desktop: ``slicer.app`` with its
input/output manager, and ``slicer.modules`` as a lookup of the logics.
"""

from __future__ import annotations

import os
import tempfile
from functools import partial
from operator import getitem
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import slicer

from . import slicer_source

slicer_source.load_util()

#: Where Slicer's settings would be, for each scene elsewhere.
_settings = tempfile.TemporaryDirectory(prefix="slicer_settings_")


def new_scene() -> Any:
    """A fresh ``slicer.mrmlScene`` with its logics; what an earlier call made is left to its owners."""
    scene = slicer.vtkMRMLScene()
    application_logic = slicer.vtkSlicerApplicationLogic()
    application_logic.SetMRMLScene(scene)
    logics: dict[str, Any] = {}
    for module, name in (
        ("Colors", "vtkSlicerColorLogic"),
        ("SubjectHierarchy", "vtkSlicerSubjectHierarchyModuleLogic"),
        ("Volumes", "vtkSlicerVolumesLogic"),
        ("Markups", "vtkSlicerMarkupsLogic"),
        ("Segmentations", "vtkSlicerSegmentationsModuleLogic"),
        ("CropVolume", "vtkSlicerCropVolumeLogic"),
        ("Sequences", "vtkSlicerSequencesLogic"),
    ):
        logic = getattr(slicer, name)()
        logic.SetMRMLApplicationLogic(application_logic)
        logic.SetMRMLScene(scene)
        application_logic.SetModuleLogic(module, logic)
        logics[module] = logic
    application_logic.SetColorLogic(logics["Colors"])
    _cache_files(scene)
    slicer.mrmlScene = scene
    starting: list[tuple[str, Any]] = []
    slicer.app = SimpleNamespace(
        connect=lambda signal, slot: starting.append((signal, slot)),
        starting=starting,  # what waits for Slicer's start to be over
        applicationLogic=lambda: application_logic,
        mrmlScene=lambda: scene,
        coreIOManager=_IOManager,
        temporaryPath=os.path.join(_settings.name, "temporary"),
        layoutManager=lambda: None,  # as under --no-main-window
        translate=lambda context, text: text,  # to English
        logics=logics,
        slicerUserSettingsFilePath=str(Path(_settings.name) / f"{id(scene):x}" / "Slicer.ini"),
    )
    slicer.modules = SimpleNamespace(**{name.lower(): SimpleNamespace(logic=partial(getitem, logics, name)) for name in logics})
    slicer.modules.sequences.showSequenceBrowser = partial(setattr, slicer.modules.sequences, "browser")  # which the toolbar shows
    return scene


def _cache_files(scene: Any) -> None:
    """Where bundles are unpacked, as those in which sequences lie within a saved scene."""
    folder = Path(_settings.name) / "cache" / f"{id(scene):x}"
    folder.mkdir(parents=True, exist_ok=True)
    cache, manager = slicer.vtkCacheManager(), slicer.vtkDataIOManager()
    cache.SetRemoteCacheDirectory(str(folder))
    cache.SetMRMLScene(scene)
    manager.SetCacheManager(cache)
    scene.SetCacheManager(cache)
    scene.SetDataIOManager(manager)


class _IOManager:
    """Stand-in of the desktop's: volumes are read by the Volumes module's real logic."""

    def loadNodes(self, kind: str, properties: dict[str, Any], loaded: Any, messages: Any = None) -> bool:
        if kind != "VolumeFile":
            raise NotImplementedError(f"The test harness reads volumes alone, not {kind}.")
        node = slicer.app.logics["Volumes"].AddArchetypeVolume(properties["fileName"], properties.get("name") or "volume")
        if node is not None:
            loaded.AddItem(node)
        return node is not None
