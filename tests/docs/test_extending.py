"""What docs/extending.md shows is one new file each: found by its name, trained two steps, served over HTTP."""

from __future__ import annotations

import importlib
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch

import prato.models
from prato.data.cases import load_training_case
from prato.data.nifti import Volume
from prato.data.studies import find_labelled_studies
from prato.inference.predictor import Predictor
from prato.models import registry
from prato.models.checkpoint import load_model, model_preset, save_model
from prato.prompts.box import Box, BoxPrompt
from prato.training.trainer import Budget, Settings, Trainer
from tests.app.live import LiveServer, copy_app, start_server, tiny_locator, write_study
from tests.phantoms import make_thin_phantoms

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "extending.md").read_text(encoding="utf-8")
#: The page's files, by where they belong.
EXAMPLES = {shown[0]: shown[1] for shown in re.findall(r"^```python\n# (\S+\.py)\n(.*?)^```$", PAGE, flags=re.MULTILINE | re.DOTALL)}
NETWORK = "apps/prato_label/prato/models/linear_vit.py"
#: One new file in one package of the program, as it stands on the page; it is there until the test ends.
Add = Callable[[ModuleType, str], ModuleType]


def write_example(path: str, root: Path) -> Path:
    """The file ``path`` of the page, below ``root``."""
    target = root / path
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(EXAMPLES[path], encoding="utf-8")
    return target


@pytest.fixture
def add(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Add]:
    """Puts an example into a folder that its package searches besides its own, and has it found there."""

    def added(package: ModuleType, path: str) -> ModuleType:
        folder = write_example(path, tmp_path / "added").parent
        monkeypatch.setattr(package, "__path__", [*package.__path__, str(folder)])
        name = f"{package.__name__}.{Path(path).stem}"
        names.append(name)
        return importlib.import_module(name)

    names: list[str] = []
    registry.list_models()  # what is there without the examples, registered before they come
    registries: list[dict[str, Any]] = [registry._MODELS]
    before = [dict(each) for each in registries]
    yield added
    for each, old in zip(registries, before):
        for new in each.keys() - old.keys():
            del each[new]
    for name in names:
        sys.modules.pop(name, None)


def heart() -> Volume:
    """Noise with a bright disc in it, 40 x 36 x 5 voxels of 4 x 4 x 9 mm."""
    i, j = np.mgrid[:40, :36]
    array = np.random.default_rng(0).normal(0, 5, (40, 36, 5)) + 200 * (np.hypot(i - 20, j - 18) < 9)[..., None]
    return Volume(array.astype(np.float32), np.diag([4.0, 4.0, 9.0, 1.0]))


def test_the_page_shows_one_file_of_each_kind_and_none_is_there_yet() -> None:
    assert list(EXAMPLES) == [NETWORK]
    for path, text in EXAMPLES.items():
        assert not (ROOT / path).exists()
        assert len(text.splitlines()) <= 90, path


def test_a_network_is_built_trained_stored_and_predicts(add: Add, tmp_path: Path) -> None:
    add(prato.models, NETWORK)
    assert "linear_vit" in registry.list_presets()
    spec = model_preset("linear_vit")
    torch.manual_seed(0)
    make_thin_phantoms(tmp_path / "studies", 1)
    case = load_training_case(find_labelled_studies(tmp_path / "studies")[0], spec.pixel)
    assert case is not None
    network, plan = spec.build(), spec.pruning_plan()
    trainer = Trainer(network, plan, Settings(batch=2, window=spec.window), torch.device("cpu"))
    trainer.fit([case], Budget(steps=2))
    assert trainer.step == 2 and np.isfinite(trainer.mean_loss)

    version = save_model(tmp_path / "model.safetensors", trainer.averaged, spec)
    stored, _, _ = load_model(tmp_path / "model.safetensors")
    image = torch.randn(2, 3, 64, 96)
    prompts = BoxPrompt.batch([[((16, 16), (48, 60))]] * 2, (64, 96))
    with torch.inference_mode():
        pruned, dense = stored.segment(image, prompts, plan), stored(image)
    assert pruned.logits.shape == dense.shape == (2, 4, 64, 96)
    assert [float(share[0]) for share in pruned.kept_fraction().values()] == [0.5, 0.25]

    predictor = Predictor.from_files(tmp_path / "model.safetensors")
    predictor.set_image(heart())
    prediction = predictor.predict([BoxPrompt(Box((8, 6, 1), (32, 30, 4)))])
    assert prediction.mask.shape == (40, 36, 5) and prediction.model_version == version
    assert prediction.kept_fraction == {"block 2": 0.5, "block 4": 0.25} and prediction.gflops < prediction.gflops_dense


@pytest.mark.slow
def test_a_network_is_trained_by_its_name_with_the_user_s_command(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "scripts", tmp_path / "scripts", ignore=shutil.ignore_patterns("__pycache__"))
    copy_app(tmp_path / "apps" / "prato_label")
    write_example(NETWORK, tmp_path)
    make_thin_phantoms(tmp_path / "studies", 2)
    command = [sys.executable, "scripts/train.py", "--studies", "studies", "--out", "run", "--network", "linear_vit"]
    env = {**os.environ, "PYTHONPATH": os.pathsep.join((str(tmp_path), str(tmp_path / "apps" / "prato_label")))}
    done = subprocess.run(
        [*command, "--epochs", "0.1", "--batch", "2", "--threads", "1"], cwd=tmp_path, env=env, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "run" / "model.safetensors").is_file() and "model" in done.stdout


@pytest.fixture
def extended_server(add: Add, tmp_path: Path) -> Iterator[LiveServer]:
    """The stock command over a copy of the app with the page's files in it, and a model of the new network."""
    folder = tmp_path / "live"
    app, studies = copy_app(folder / "app"), folder / "studies"
    for path in EXAMPLES:
        if path.startswith("apps/prato_label/"):
            shutil.copy(write_example(path, tmp_path), app / path.removeprefix("apps/prato_label/"))
    (app / "model").mkdir()
    tiny_locator(app / "model" / "prato_locator.safetensors")
    add(prato.models, NETWORK)
    spec = model_preset("linear_vit")
    torch.manual_seed(0)
    save_model(app / "model" / "prato_linear_vit.safetensors", spec.build(), spec)
    studies.mkdir()
    for n, name in enumerate(("heart_a", "heart_b")):
        write_study(studies / f"{name}.nii.gz", seed=n)
    with start_server(app, studies, folder / "server.log") as server:
        yield server


@pytest.mark.slow
def test_what_was_added_to_the_app_is_served(extended_server: LiveServer) -> None:
    reply = extended_server.infer("prato_linear_vit", "heart_a", {"roi": [8, 32, 6, 30, 1, 4]}, output="json")
    assert reply.status == 200, reply.json
    assert reply.json["kept_fraction"] == {"block 2": 0.5, "block 4": 0.25}
