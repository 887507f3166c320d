"""MONAI is imported without mlflow and torchvision, and with what is postponed until it is used; nothing else than that is different."""

from __future__ import annotations

import subprocess
import sys
from importlib.abc import Loader
from pathlib import Path
from types import ModuleType

import pytest

from prato.runtime.monai_import import _LightLoader

MONAI = "import sys, monai; names = {*sys.modules};"
#: In a process that has imported MONAI lightly: what was not executed, then each use of it, also by threads at the same moment.
POSTPONED = """
import sys
import prato
import monai, monai.engines
from importlib.util import find_spec
from monai.networks.nets import UNETR
assert not {"mlflow", "torchvision", "torchvision.models"} & {*sys.modules} and find_spec("mlflow") and find_spec("torchvision")
from monai.data.utils import DataFrame
from monai.data.ultrasound_confidence_map import hilbert
from monai.metrics.panoptic_quality import linear_sum_assignment
from monai.apps.utils import BeautifulSoup
from monai.visualize.img2tensorboard import Summary, SummaryWriter
from monai.data.image_reader import has_itk, itk
from nibabel.nifti1 import DicomDataset
from prato.runtime.monai_import import POSTPONED, _PostponedModule
assert has_itk
try:
    import ignite.handlers
except AttributeError:  # ignite 0.4.11 under Python 3.11.0 to 3.11.3: MONAI goes without
    POSTPONED.pop("torch.distributed.optim")
for name in POSTPONED:
    assert type(sys.modules[name]) is _PostponedModule, name
inside = "scipy.optimize._lsap", "scipy.signal.windows", "bs4.dammit", "tensorboard.compat.proto.histogram_pb2"
for name in ("sympy", "pandas.core", "skimage.morphology.binary", "itk.support", "pydicom.dataset", *inside):
    assert name not in sys.modules, name

import pandas, threading
assert type(pandas) is _PostponedModule
found, start = [], threading.Barrier(8)
def look():
    start.wait()
    found.append(pandas.Series([1]).sum())
threads = [threading.Thread(target=look) for _ in range(8)]
[thread.start() for thread in threads]
[thread.join() for thread in threads]
assert found == [1] * 8, found

import pydicom.dataset, pydicom.filewriter, scipy.signal.windows
assert pydicom.dataset.Dataset is pydicom.filewriter.Dataset is pydicom.Dataset  # each module is executed once
assert pydicom.dataset.__spec__.origin == pydicom.dataset.__file__ and "Loaded" not in repr(pydicom.dataset.__spec__)
from pandas.api.types import is_float
from scipy.signal import savgol_coeffs
import matplotlib.pyplot as plt
assert isinstance(pandas.DataFrame([1]), DataFrame) and not isinstance(1, DataFrame) and DataFrame([1, 2]).shape == (2, 1)
assert isinstance(pydicom.Dataset(), DicomDataset)
assert DataFrame.from_dict({"a": [1]}).shape == (1, 1)
assert hilbert([1.0, 2.0]).dtype == complex
assert linear_sum_assignment([[1, 0], [0, 1]])[1].tolist() == [1, 0] and BeautifulSoup("<b>a</b>", "html.parser").b.string == "a"
assert Summary().value is not None
assert plt.figure().axes == [] and itk.Image and itk.Version.GetITKMajorVersion() >= 5
from skimage import measure, morphology
from skimage.morphology import disk
assert measure.label(disk(2)).max() == 1 and morphology.disk(1).sum() == 5
from torch.distributed.optim import ZeroRedundancyOptimizer
import torch.distributed.optim.zero_redundancy_optimizer as zero
assert ZeroRedundancyOptimizer is zero.ZeroRedundancyOptimizer
if "torch.distributed.optim" in POSTPONED:
    from ignite.handlers import checkpoint
    assert not isinstance(1, checkpoint.ZeroRedundancyOptimizer)
for name in ("pandas", "itk", "pydicom", "scipy.signal", "matplotlib.pyplot", "torch.distributed.optim"):
    assert type(sys.modules[name]) is not _PostponedModule and "Postponing" not in repr(sys.modules[name].__spec__), name
"""


def errors_of(code: str, *before: Path) -> str:
    """What a process that runs ``code`` says of it; its assertions are about its own modules, which it looks for ``before`` all others."""
    env = {"PYTHONPATH": ":".join([*map(str, before), *sys.path]), "MPLBACKEND": "agg"}
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=False)
    return done.stderr if done.returncode else ""


def test_what_is_hidden_is_not_there_and_what_is_postponed_is_executed_by_its_first_use() -> None:
    assert errors_of(POSTPONED) == ""


@pytest.mark.slow
def test_who_imports_monai_first_finds_it_whole(tmp_path: Path) -> None:
    """With a small module in place of mlflow, which takes as long to import as all the rest."""
    (tmp_path / "mlflow.py").touch()
    whole = "assert 'mlflow' in names and 'pandas.core' in names and 'scipy.signal.windows' in names"
    assert errors_of(f"{MONAI} import prato; from monai.handlers import MLFlowHandler; {whole}", tmp_path) == ""


def test_mlflow_that_somebody_has_imported_is_not_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    mlflow, found = ModuleType("mlflow"), []
    monkeypatch.setitem(sys.modules, "mlflow", mlflow)
    monkeypatch.delitem(sys.modules, "torchvision", raising=False)

    class Monai(Loader):
        def exec_module(self, module: ModuleType) -> None:
            found.extend(sys.modules[name] for name in ("mlflow", "torchvision"))

    _LightLoader(Monai()).exec_module(ModuleType("monai"))
    assert found == [mlflow, None]
    assert sys.modules["mlflow"] is mlflow and "torchvision" not in sys.modules
