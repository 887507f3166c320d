"""scripts/research/front.py, saving_split.py and what they share: ways to use a trained network, their tables and the figure."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from prato.evaluation.box_conditions import BoxCondition
from prato.models.overview_network import OVERVIEW_PLAN
from prato.models.registry import build_model
from prato.prompts.batch import PromptBatch
from prato.prompts.box import Box, BoxPrompt
from prato.training.slice_bank import SliceBank, save_packed
from scripts.common.results import read_rows
from scripts.research import front, queue_weights, saving_split, stack_ways
from scripts.research.figures.front_figure import draw_front
from scripts.research.stack_ways import crop_region, segment
from scripts.research.stacks import Stack, dice_of, first_slices, load_stacks, load_trained
from scripts.research.tables.overview_tables import front_table, saving_table
from tests.prato.training.test_stack_training import CPU, SMALL, case

TWIN = {name: value for name, value in SMALL.items() if not name.startswith("overview")}
BEHIND = {"filters": (4, 8, 8, 8, 8), "overview_dim": 16, "overview_depth": 1}
ENTRIES = {
    "overview_unet": {"network": "overview_unet", "arguments": BEHIND},
    "random_tokens": {"network": "overview_unet", "arguments": BEHIND, "tokens": "random"},
    "dense_twin": {"network": "window_swin_unetr", "arguments": TWIN},
    "unet": {"network": "unet", "arguments": {"filters": (4, 8, 8, 8, 8)}},
}
CASES = [case("a", 4, (150, 170), (70, 90)), case("b", 2, (120, 140), (50, 60))]


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Path:
    """What a queue left, without any training, and packed slices."""
    folder = tmp_path_factory.mktemp("queue")
    for name, entry in ENTRIES.items():
        torch.manual_seed(0)
        (folder / name).mkdir()
        weights = build_model(entry["network"], **entry["arguments"]).state_dict()
        recipe = {"steps": 2, "stacks": 1, "depth": 2, "seed": 0}
        torch.save({"weights": weights, "entry": entry, "recipe": recipe}, folder / name / "weights.pt")
    (folder / "split.json").write_text(json.dumps({"validation": ["a", "b"]}))
    return folder


@pytest.fixture(scope="module")
def stacks():
    return load_stacks(SliceBank.from_cases(CASES, CPU))


def test_stacks_come_without_the_canvas(stacks):
    assert [tuple(stack.image.shape) for stack in stacks] == [(4, 3, 160, 176), (2, 3, 128, 144)]
    for stack, known in zip(stacks, CASES):
        assert all(int((stack.label == value).sum()) == int((known.label == value).sum()) for value in (1, 2, 3))
        assert torch.equal(stack.image[1, 0], stack.image[0, 1]) and torch.equal(stack.image[0, 0], stack.image[0, 1])
    assert len(first_slices(stacks[0], 3).label) == 3 and len(first_slices(stacks[1], 10).label) == 10
    assert stacks[0].draw(BoxCondition.none) is None
    tight, partial = stacks[0].draw(BoxCondition.tight), stacks[0].draw(BoxCondition.partial)
    assert tight.intersection(partial) == partial and partial.voxels < 0.6 * tight.voxels


def test_a_crop_holds_the_box_and_its_context():
    size = (160, 176)
    for context, step in ((0, 16), (24, 16), (0, 32), (24, 32)):
        region = crop_region(Box((50, 60, 0), (90, 110, 4)), context, size, step)
        assert all(n % step == 0 for n in region.cells)
        assert all(a <= low - context and b >= high + context for a, b, low, high in zip(region.start, region.stop, (50, 60), (90, 110)))
    assert crop_region(None, 24, size, 16).is_whole
    assert crop_region(Box((0, 0, 0), (160, 170, 4)), 24, size, 16).cells == size


@pytest.mark.slow
@torch.inference_mode()
def test_ways_give_what_the_network_gives(trained, stacks):
    network, stack = load_trained(trained / "overview_unet", CPU).network, stacks[0]
    box = stack.draw(BoxCondition.tight)
    planes = list(range(box.start[2], box.stop[2]))
    size = tuple(stack.image.shape[2:])
    prompts = PromptBatch.of(BoxPrompt, [[(box.start[:2], box.stop[:2])]] * len(planes), size)
    answers = {name: way(network, stack, planes, box) for name, way in saving_split.WAYS.items()}
    embedding = network.encode_image(stack.image, OVERVIEW_PLAN).select(planes)
    for name, plan in (("off", None), ("plan", OVERVIEW_PLAN)):
        own = network.predict(stack.image[planes], embedding, prompts, plan)
        assert torch.allclose(answers[name].logits, own.logits, atol=1e-4)
        assert set(answers[name].ms) == {"overview", "tokens", "decoder"} and all(ms > 0 for ms in answers[name].ms.values())
    assert answers["off"].share == 1
    assert answers["random region"].share == answers["the plan's region cropped"].share == answers["plan"].share
    unet = load_trained(trained / "unet", CPU).network
    whole = stack_ways.cropped(0)(unet, stack, planes, None)
    assert torch.allclose(whole.logits, unet.train_windows(stack.image[planes].unsqueeze(0))[0], atol=1e-4)


def test_the_expert_s_own_mask_has_a_dice_of_one(stacks):
    mask = stacks[0].label.permute(1, 2, 0).numpy()
    assert set(dice_of(mask, stacks[0]).values()) == {1.0}
    assert dice_of(np.where(mask == 1, 0, mask), stacks[0])["RV cavity"] == 0


def test_slices_beside_the_box_stay_empty(trained, stacks):
    own = load_trained(trained / "unet", CPU)
    label = stacks[0].label.clone()
    label[0] = 0
    mask, _ = segment(own.network, front.ways_of(own)["whole slices"], Stack("s", stacks[0].image, label), BoxCondition.tight)
    assert mask.shape == (160, 176, 4) and not mask[:, :, 0].any()


@pytest.mark.slow
def test_every_network_and_way_is_measured_drawn_and_told(trained, tmp_path, monkeypatch):
    save_packed(tmp_path / "cases.zip", [case("a", 2, (96, 110), (44, 52))])
    files = ["--packed", tmp_path / "cases.zip", "--split", trained / "split.json", "--queue-out", trained]
    monkeypatch.setattr(queue_weights, "MODELS", tmp_path)  # the shipped ones would be measured, too
    monkeypatch.setattr(front, "SLICES", 2)
    monkeypatch.setattr("sys.argv", [str(a) for a in ["front.py", *files, "--out", tmp_path / "front.csv", "--timed", 1, "--rounds", 1]])
    front.main()
    rows = read_rows(tmp_path / "front.csv")
    assert {row["training"] for row in rows} == set(ENTRIES)
    ways = {name: {row["way"] for row in rows if row["training"] == name} for name in ENTRIES}
    assert ways["unet"] == ways["dense_twin"] == {"whole slices", "crop to the box", "crop with context"}
    assert ways["random_tokens"] == {"random region", *ways["unet"]}
    pruned = {"pruned", "pruned 25 %", "pruned 50 %", "pruned 75 %", "random tokens"}
    assert ways["overview_unet"] == pruned | ways["random_tokens"]
    assert not [row for row in rows if row["box"] == "none" and row["way"].startswith("crop")]
    table = front_table(rows, ["unet", "unet_large"])
    assert "Not measured yet: unet_large." in table and "| unet | crop to the box |" in table
    draw_front(rows, tmp_path / "front.png")
    assert (tmp_path / "front.png").stat().st_size > 10_000

    monkeypatch.setattr("sys.argv", [str(a) for a in ["saving_split.py", *files, "--out", tmp_path / "saving.csv", "--volumes", 1]])
    saving_split.main()
    rows = read_rows(tmp_path / "saving.csv")
    assert {(row["way"], row["box"]) for row in rows} >= {("plan", "none"), ("plan", "tight"), ("crop to the box", "tight")}
    assert "| tight | off |" in saving_table(rows)


@pytest.mark.parametrize(
    ("script", "option", "entry", "said"),
    [
        (front, "--only", {"row": {"edge": 128}, "network": "unetr", "arguments": {}}, "named is a row of the paper's tables"),
        (saving_split, "--training", {"row": {"edge": 128}, "network": "unetr", "arguments": {}}, "named is a row of the paper's tables"),
        (saving_split, "--training", ENTRIES["unet"], "named has no overview"),
    ],
)
def test_a_training_that_cannot_be_measured_is_refused_in_one_sentence(script, option, entry, said, tmp_path, monkeypatch, capsys):
    (tmp_path / "named").mkdir()
    weights = build_model(entry["network"], **entry["arguments"]).state_dict() if "row" not in entry else {}
    recipe = {"steps": 2, "stacks": 1, "depth": 2, "seed": 0}
    torch.save({"weights": weights, "entry": entry, "recipe": recipe}, tmp_path / "named" / "weights.pt")
    save_packed(tmp_path / "cases.zip", CASES[1:])
    (tmp_path / "split.json").write_text(json.dumps({"validation": ["b"]}))
    files = ["--packed", tmp_path / "cases.zip", "--split", tmp_path / "split.json", "--queue-out", tmp_path, "--out", tmp_path / "out.csv"]
    monkeypatch.setattr("sys.argv", ["script.py", *map(str, files), option, "named"])
    with pytest.raises(SystemExit) as ended:
        script.main()
    [line] = capsys.readouterr().err.splitlines()
    assert ended.value.code == 2 and said in line and not (tmp_path / "out.csv").exists()


@pytest.mark.slow
def test_what_runs_on_lent_machines_imports_nothing_that_they_have_not_got():
    absent = ["typer", "pydantic", "nibabel", "SimpleITK", "monailabel"]
    code = f"""
import sys
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {absent}:
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, Absent())
import scripts.research.train_queue, scripts.research.front, scripts.research.saving_split, scripts.bench.training_speed
"""
    known = {"PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, "-c", code], env=known, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
