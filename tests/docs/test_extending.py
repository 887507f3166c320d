"""What the two pages on extending show is one new file each: found by its name, trained two steps, served over HTTP."""

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
from PIL import Image

import lib.activelearning
import prato.exchange
import prato.models
import prato.prompts
import scripts.research.baselines
import scripts.research.datasets
from lib.activelearning import registry as strategies
from prato.data.cases import load_training_case
from prato.data.nifti import Volume, read_volume
from prato.data.studies.folder import find_labelled_studies
from prato.exchange import layouts
from prato.exchange.final_labels import FinalLabels
from prato.exchange.importing import import_cases
from prato.inference.image_stack import ImageStack
from prato.inference.predictor import Predictor
from prato.inference.request import InferenceRequest, RequestError
from prato.models import registry
from prato.models.checkpoint import load_model, model_preset, save_model
from prato.prompts import base as prompts
from prato.prompts.batch import PromptBatch
from prato.prompts.box import Box, BoxPrompt
from prato.training.trainer import Budget, Settings, Trainer
from scripts.common.results import read_rows, write_rows
from scripts.research.baselines.method import METHODS
from scripts.research.datasets import base as datasets
from scripts.research.experiments.jobs import Places, run, schedule
from scripts.research.experiments.matrix import load_experiments
from tests.app.forked import ForkedServer
from tests.app.live import LiveServer, copy_app, start_server, tiny_model, write_study
from tests.phantoms import make_thin_phantoms
from tests.prato.conftest import small_spec
from tests.scripts.research.small import small_unetr
from tests.waiting import HANG_S

ROOT = Path(__file__).resolve().parents[2]
PAGES = "".join((ROOT / "docs" / page).read_text(encoding="utf-8") for page in ("extending.md", "extending_experiments.md"))
#: The pages' files, by where they belong.
EXAMPLES = {shown[0]: shown[1] for shown in re.findall(r"^```python\n# (\S+\.py)\n(.*?)^```$", PAGES, flags=re.MULTILINE | re.DOTALL)}
NETWORK, PROMPT, STRATEGY, LAYOUT, BASELINE, DATASET = (
    "apps/prato_label/prato/models/linear_vit.py",
    "apps/prato_label/prato/prompts/scribble.py",
    "apps/prato_label/lib/activelearning/gaps.py",
    "apps/prato_label/prato/exchange/pairs.py",
    "scripts/research/baselines/largest_norm.py",
    "scripts/research/datasets/pictures.py",
)
SCRIBBLE = [[16, 15, 1], [20, 18, 2], [24, 20, 3]]
#: Experiments on the new data set, one of them with the new baseline, one with the new network.
MATRIX = """
common: {network: unetr, size: reduced, image: 64, box: tight, sees_box: not at all, method: dense}
data: {pictures: {budget: {steps: 2, batch: 2}}}
rows:
  mine/norm: {data: [pictures], method: largest_norm, settings: {keep: 0.5, after: [4, 7]}}
  mine/vit: {data: [pictures], network: linear_vit, method: prato, sees_box: as prompt, plan: {after: [2], percentile: 50.0}}
  mine/near: {data: [pictures], method: prato, sees_box: in a window, plan: {after: [4], percentile: 50.0}}
"""
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
    # what is there without the examples, registered before they come
    registry.list_models()
    prompts.list_prompts()
    layouts.layouts()
    strategies.build_strategies({}, "")
    registries: list[dict[str, Any]] = [
        *(registry._MODELS, registry._PRESETS),
        *(prompts._KINDS, METHODS, datasets._DATASETS, strategies._STRATEGIES, layouts._LAYOUTS),
    ]
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


def test_the_pages_show_one_file_of_each_kind_and_none_is_there_yet() -> None:
    assert list(EXAMPLES) == [NETWORK, PROMPT, STRATEGY, LAYOUT, BASELINE, DATASET]
    for path, text in EXAMPLES.items():
        assert not (ROOT / path).exists()
        assert len(text.splitlines()) <= 80, path
        ruff = [sys.executable, "-m", "ruff", "check", "--quiet", "--stdin-filename", str(ROOT / path), "-"]
        checked = subprocess.run(ruff, input=text, capture_output=True, text=True, check=False)
        assert checked.returncode == 0, checked.stdout


@pytest.mark.slow
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
    prompts = PromptBatch.of(BoxPrompt, [[((16, 16), (48, 60))]] * 2, (64, 96))
    with torch.inference_mode():
        pruned, dense = stored.segment(image, prompts, plan), stored(image)
    assert pruned.logits.shape == dense.shape == (2, 4, 64, 96)
    assert [float(share[0]) for share in pruned.kept_fraction().values()] == [0.5, 0.25]

    predictor = Predictor.from_files(tmp_path / "model.safetensors")
    predictor.set_image(heart())
    prediction = predictor.predict([BoxPrompt(Box((8, 6, 1), (32, 30, 4)))])
    assert prediction.mask.shape == (40, 36, 5) and prediction.model_version == version
    assert prediction.kept_fraction == {"block 2": 0.5, "block 4": 0.25} and prediction.gflops < prediction.gflops_dense


def test_a_kind_of_prompt_is_read_from_a_request_and_segments(add: Add, tmp_path: Path) -> None:
    add(prato.prompts, PROMPT)
    image = heart()
    drawn = InferenceRequest.parse({"scribble": SCRIBBLE}).prompts(image.array.shape, image.spacing)
    assert [prompt.box for prompt in drawn] == [Box((8, 7, 1), (33, 29, 4))]
    turned = [[k, i, j] for i, j, k in SCRIBBLE]
    assert [p.box for p in prompts._KINDS["scribble"].from_request({"scribble": turned}, (5, 40, 36), (9.0, 4.0, 4.0))] == [
        Box((1, 8, 7), (4, 33, 29))
    ]
    torch.manual_seed(0)
    save_model(tmp_path / "model.safetensors", small_spec("unetr").build(), small_spec("unetr"))
    predictor = Predictor.from_files(tmp_path / "model.safetensors")
    predictor.set_image(image)
    prediction = predictor.predict(drawn)
    assert prediction.box_source == "scribble" and prediction.box == drawn[0].box and prediction.mask.shape == (40, 36, 5)
    assert list(prediction.kept_fraction.values()) == pytest.approx([48 / 64, 36 / 64, 27 / 64])
    for wrong in ("heart", [[1, 2]], [[1, 2, 50]], [[1, 2, float("nan")]], [1, 2, 3]):
        with pytest.raises(RequestError, match="scribble must be"):
            InferenceRequest.parse({"scribble": wrong}).prompts(image.array.shape, image.spacing)
    with pytest.raises(RequestError, match=r"'scribbles' is not a parameter here: use .*, scribble, or points"):
        InferenceRequest.parse({"scribbles": SCRIBBLE})


@pytest.mark.slow
def test_a_baseline_and_a_data_set_train_two_steps_and_are_measured(add: Add, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    add(prato.models, NETWORK)
    add(scripts.research.baselines, BASELINE)
    add(scripts.research.datasets, DATASET)
    small_unetr(monkeypatch)
    matrix = tmp_path / "matrix.yaml"
    matrix.write_text(MATRIX)
    experiments = load_experiments(matrix)
    places = Places(tmp_path / "results", tmp_path / "models", {"pictures": write_pictures(tmp_path / "pictures")})
    data = places.experiment_data()
    for job in schedule(list(experiments), experiments, None, None, places):
        places.store(run(job, places, data, "cpu", {"commit": "abc1234", "command": "x"}, lambda *_: None))
    found = {row["experiment"]: row for row in read_rows(places.results / "runs.csv")}
    norm, vit, near = (found[f"mine/{name}_pictures"] for name in ("norm", "vit", "near"))
    assert [row["spent"]["steps"] for row in (norm, vit, near)] == [2, 2, 2]
    assert vit["token_density"] == [0.5]
    assert norm["token_density"] == [0.5, 0.25] and len(near["token_density"]) == 1
    assert norm["mean"]["gflops"] < norm["gflops_dense"] and 0 <= near["mean"]["dice"] <= 1


def test_the_page_s_matrix_names_what_its_commands_run(add: Add, tmp_path: Path) -> None:
    add(scripts.research.baselines, BASELINE)
    add(scripts.research.datasets, DATASET)
    shown = re.search(r"^```yaml\n# mine.yaml\n(.*?)^```$", PAGES, flags=re.MULTILINE | re.DOTALL)
    assert shown
    (tmp_path / "mine.yaml").write_text(shown[1])
    assert sorted(load_experiments(tmp_path / "mine.yaml")) == sorted(re.findall(r" (mine/\w+)(?= )", PAGES))


def test_a_layout_writes_a_folder_and_reads_it_again(add: Add, tmp_path: Path) -> None:
    add(prato.exchange, LAYOUT)
    make_thin_phantoms(tmp_path / "studies", 1)
    pairs, values = layouts.find_layout("pairs"), {"1": "RV cavity", "2": "myocardium", "3": "LV cavity"}
    written = layouts.export_folder(FinalLabels(tmp_path / "studies"), tmp_path / "pairs", pairs, values)
    assert written == ["phantom001_ED", "phantom001_ES"]
    (tmp_path / "pairs" / "phantom001_ES" / "mask.nii.gz").unlink()
    import_cases(pairs.find(tmp_path / "pairs", values, "ed,es"), tmp_path / "pairs", tmp_path / "again", pairs.name, {})
    old, new = (folder / "labels" / "final" for folder in (tmp_path / "studies", tmp_path / "again"))
    assert [path.name for path in new.iterdir()] == ["phantom001_ED.nii.gz"]
    assert np.array_equal(read_volume(old / "phantom001_ED.nii.gz").array, read_volume(new / "phantom001_ED.nii.gz").array)


def test_a_strategy_hands_out_the_study_with_gaps(add: Add) -> None:
    before = ["first", "random", "jitter", "phases", "entropy", "coverage"]
    module = add(lib.activelearning, STRATEGY)
    built = strategies.build_strategies({}, "prato_auto")
    assert [name for name in built if name == "gaps" or name in before] == [*before, "gaps"]
    assert built["gaps"].description == "The study whose mask has most gaps along the stack"

    class Drawn:
        """A predictor that finds these slices."""

        def __init__(self, *slices: int) -> None:
            self.mask = np.zeros((4, 4, 8), dtype=np.uint8)
            self.mask[1, 1, list(slices)] = 1

        def set_image(self, image: object) -> None: ...

        def predict(self) -> Any:
            return self

    image = ImageStack(heart())
    assert [module.gaps_score(Drawn(*slices), image).value for slices in ((), (2, 3, 4), (2, 5))] == [1.0, 0.0, 0.5]


def write_pictures(folder: Path) -> Path:
    """Twelve bright discs on noise, 80 x 80 pixels."""
    folder.mkdir()
    rng, (i, j) = np.random.default_rng(0), np.mgrid[:80, :80]
    for n in range(12):
        disc = np.hypot(i - rng.uniform(30, 50), j - rng.uniform(30, 50)) < rng.uniform(10, 20)
        Image.fromarray((150 * disc + rng.uniform(0, 60, disc.shape)).astype(np.uint8)).save(folder / f"p{n:02}.png")
        Image.fromarray((255 * disc).astype(np.uint8)).save(folder / f"p{n:02}_mask.png")
    return folder


@pytest.mark.slow
def test_the_user_s_commands_find_what_was_added(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "scripts", tmp_path / "scripts", ignore=shutil.ignore_patterns("__pycache__"))
    copy_app(tmp_path / "apps" / "prato_label")
    for path in EXAMPLES:
        write_example(path, tmp_path)
    make_thin_phantoms(tmp_path / "studies", 2, slices=2)
    write_pictures(tmp_path / "pictures")
    (tmp_path / "matrix.yaml").write_text(MATRIX)
    write_rows(tmp_path / "tables.csv", [{"table": "mine", "row": "norm", "data": "pictures", "experiment": "mine/norm_pictures"}])
    path = os.pathsep.join((str(tmp_path), str(tmp_path / "apps" / "prato_label")))
    env = {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"}
    train = "scripts/train.py --studies studies --out run --network linear_vit --epochs 0.1 --batch 2 --threads 1"
    paper = "scripts/research/paper.py run mine --matrix matrix.yaml --tables tables.csv --data pictures=pictures --out results --models m"
    for command in (train, paper):
        script, *rest = command.split()
        assert ForkedServer([str(tmp_path / script), *rest], tmp_path / "said", env).wait(HANG_S) == 0, (tmp_path / "said").read_text()
    assert [row["spent"]["steps"] for row in read_rows(tmp_path / "results" / "runs.csv")] == [2]
    assert (tmp_path / "run" / "model.safetensors").is_file()


@pytest.fixture
def extended_server(add: Add, tmp_path: Path) -> Iterator[LiveServer]:
    """The stock command over a copy of the app with the page's files in it, and a model of the new network."""
    folder = tmp_path / "live"
    app, studies = copy_app(folder / "app"), folder / "studies"
    for path in EXAMPLES:
        if path.startswith("apps/prato_label/"):
            shutil.copy(write_example(path, tmp_path), app / path.removeprefix("apps/prato_label/"))
    (app / "model").mkdir()
    tiny_model(app / "model" / "prato_overview_unet.safetensors", "overview_unet")
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

    model = {"model": "prato_linear_vit"}
    reply = extended_server.infer("prato_linear_vit", "heart_a", {"scribble": SCRIBBLE}, output="json")
    assert reply.status == 200 and reply.json["box_source"] == "scribble" and reply.json["box"] == [8, 33, 7, 29, 1, 4]
    refused = extended_server.infer("prato_linear_vit", "heart_a", {"scribble": "heart"})
    assert 400 <= refused.status < 500 and "scribble must be" in str(refused.json)
    reply = extended_server.post("/activelearning/gaps", model)
    assert reply.status == 200, reply.json
    assert reply.json["id"] in ("heart_a", "heart_b") and 0 <= reply.json["score"] <= 1 and reply.json["reason"]
