"""The generated hearts in Slicer's Sample Data module: registered as the module starts, and loaded without a network.

``SLICER_SOURCE`` names a source tree of 3D Slicer: its own SampleData.py then downloads them into a real scene.
"""

from __future__ import annotations

import os
import sys
import urllib.request
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest

slicer = pytest.importorskip("slicer", reason="slicer-core is not installed: pip install -r tests/requirements.txt")
pytest.importorskip("PySide6", reason="PySide6 is not installed: pip install -r tests/requirements.txt")

from PratoLabelLib import sample_data
from tests.slicer_harness import qt_standin
from tests.slicer_harness.core import new_scene
from tests.slicer_module.panel_driver import MODULE


@pytest.fixture
def app(tmp_path: Path) -> Any:
    """Slicer's application."""
    new_scene()
    qt_standin.install(MODULE, tmp_path)
    return slicer.app


class Sources:
    """What a Sample Data module was given, in place of the real one."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.given: list[dict[str, Any]] = []
        module = ModuleType("SampleData")
        module.SampleDataLogic = SimpleNamespace(registerCustomSampleDataSource=lambda **source: self.given.append(source))  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, "SampleData", module)


def test_the_hearts_are_registered_once_slicer_has_started(app: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    import PratoLabel

    sources = Sources(monkeypatch)
    PratoLabel.PratoLabel(SimpleNamespace(path=str(MODULE)))
    assert sources.given == []  # the module Sample Data may not be there yet
    [(signal, slot)] = app.starting
    assert signal == "startupCompleted()"
    slot()
    [source] = sources.given
    assert (source["category"], source["nodeNames"]) == ("PrATo Label", ["phantom001_ED", "phantom001_ES"])
    assert len(source["uris"]) == len(source["fileNames"]) == len(source["nodeNames"]) == len(source["checksums"]) == 2
    assert Path(source["thumbnailFileName"]).is_file()


def test_the_hearts_come_with_the_module(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    sources = Sources(monkeypatch)
    sample_data.register_sample_data()
    for uri, name in zip(sources.given[0]["uris"], sources.given[0]["fileNames"]):
        assert uri.startswith("file:///")
        urllib.request.urlretrieve(uri, tmp_path / name)  # as SampleDataLogic.downloadFile does
        assert (tmp_path / name).stat().st_size < 2**20


def load_sample_data_module(folder: Path) -> ModuleType:
    """Slicer's own SampleData.py, with a cache in ``folder``."""
    tree = os.environ.get("SLICER_SOURCE", "")
    path = Path(tree) / "Modules" / "Scripted" / "SampleData" / "SampleData.py"
    if not tree or not path.is_file():
        pytest.skip("SLICER_SOURCE names no source tree of 3D Slicer: its own Sample Data module does not run")
    cache = slicer.vtkCacheManager()
    cache.SetRemoteCacheDirectory(str(folder))
    slicer.mrmlScene.SetCacheManager(cache)
    slicer.app.testingEnabled = lambda: False  # no sources from the network
    manager = slicer.app.coreIOManager()
    manager.fileType = lambda name: "VolumeFile"
    slicer.app.coreIOManager = lambda: manager
    module = ModuleType("SampleData")
    module.__file__ = str(path)
    exec(compile(path.read_text(encoding="utf-8"), str(path), "exec"), module.__dict__)
    return module


@pytest.mark.slow
def test_slicers_own_module_loads_them(app: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    module = load_sample_data_module(tmp_path)
    monkeypatch.setitem(sys.modules, "SampleData", module)
    sample_data.register_sample_data()
    sample_data.register_sample_data()
    assert len(slicer.modules.sampleDataSources["PrATo Label"]) == 1
    nodes = module.SampleDataLogic().downloadSamples(sample_data.SAMPLE)
    assert [node.GetName() for node in nodes] == ["phantom001_ED", "phantom001_ES"]
    for node in nodes:
        assert node.IsA("vtkMRMLScalarVolumeNode") and slicer.util.arrayFromVolume(node).std() > 10
    stale = tmp_path / "PratoLabel-phantom001_ED.nii.gz"
    stale.write_bytes(b"of an earlier version")
    again = module.SampleDataLogic().downloadSamples(sample_data.SAMPLE)
    assert np.array_equal(slicer.util.arrayFromVolume(again[0]), slicer.util.arrayFromVolume(nodes[0]))
