"""scripts/research/train_queue.py and export_queue.py: every entry trains, a stopped run goes on, curves and weights come home."""

import json
import os
import shutil
import signal
import sys
import threading
from argparse import Namespace

import pytest
import torch
import yaml

from prato.models.checkpoint import load_model
from prato.training.slice_bank import save_packed
from scripts.common.results import read_rows
from scripts.research import export_queue, queue_state, train_queue
from scripts.research.queue_networks import start_network
from tests.prato.training.test_stack_training import SMALL, case
from tests.scripts.cli import run_script
from tests.waiting import wait_until

UNET = {"filters": [4, 8, 8, 8, 8]}


@pytest.fixture
def material(tmp_path):
    """Two tiny hearts, a split, and the queue's own entries at toy size."""
    save_packed(tmp_path / "cases.zip", [case("a", 3, (120, 120), (60, 60)), case("b", 2, (120, 130), (60, 60))])
    (tmp_path / "split.json").write_text(json.dumps({"seed": 0, "train": ["a"], "validation": ["b"]}))
    queue = yaml.safe_load(train_queue.QUEUE.read_text())
    queue["defaults"] |= {"steps": 2, "stacks": 1, "depth": 2, "edge": 96, "precision": "float32"}
    swin = {**SMALL, "num_heads": list(SMALL["num_heads"])}
    twin = {name: value for name, value in swin.items() if not name.startswith("overview")}
    behind = {"overview_dim": swin["overview_dim"], "overview_depth": swin["overview_depth"]}
    small = {"unet": UNET, "window_swin_unetr": twin, "overview_swin_unetr": swin, "overview_unet": {**UNET, **behind}}
    for entry in queue["entries"]:
        entry["arguments"] = UNET if "narrow" in entry else small[entry["network"]]  # its overview is that of the shipped model
        for name in ("steps", "stacks", "edge"):
            entry.pop(name, None)
    (tmp_path / "queue.yaml").write_text(yaml.safe_dump(queue))
    return tmp_path


def run(material, monkeypatch, *more):
    flags = {"--packed": "cases.zip", "--split": "split.json", "--queue": "queue.yaml", "--out": "out"}
    monkeypatch.setattr(sys, "argv", ["train_queue.py", *(str(a) for f, n in flags.items() for a in (f, material / n)), *more])
    train_queue.main()


@pytest.mark.slow
def test_every_entry_of_the_queue_trains_and_comes_home(material, monkeypatch):
    run(material, monkeypatch)
    names = [entry["name"] for entry in train_queue.entries(train_queue.QUEUE)]
    assert sorted(path.parent.name for path in material.glob("out/*/weights.pt")) == sorted(names)
    monkeypatch.setattr(export_queue, "MODELS", material)
    flags = ["--queue-out", str(material / "out"), "--commit", "c", "--device", "d", "--command", "x", "--ship", "overview_swin_unetr"]
    flags += ["--split", str(material / "split.json"), "--curves", str(material / "curves.csv")]
    found = run_script(export_queue.main, *flags)
    assert found.exit_code == 0, found.output
    rows = read_rows(material / "curves.csv")
    assert {row["training"] for row in rows} == set(names) and {row["commit"] for row in rows} == {"c"}
    assert all(0 <= row["dice tight"]["mean"] <= 1 for row in rows)
    taken = {name: torch.load(material / "out" / name / "weights.pt", weights_only=False)["weights"] for name in ("overview_unet", "unet")}
    first = torch.load(material / "out" / "overview_swin_unetr" / "weights.pt", weights_only=False)["weights"]
    assert all(
        torch.equal(taken["overview_unet"][name], first[name]) for name in first if name.startswith(("overview.", "heart_relevance."))
    )
    name = "bottleneck.conv1.conv.weight"  # it starts from the U-Net's, and two steps later is near it still
    assert 0 < float((taken["overview_unet"][name] - taken["unet"][name]).abs().max()) < 0.01
    network, spec, _ = load_model(material / "prato_overview_swin_unetr.safetensors")
    stored = torch.load(material / "out" / "overview_swin_unetr" / "weights.pt", weights_only=False)["weights"]
    assert spec.centre == "stack" and torch.equal(network.context.weight.half(), stored["context.weight"])


@pytest.mark.slow
def test_fine_tunings_are_averaged_with_what_they_began_with(material, monkeypatch):
    queue = yaml.safe_load((train_queue.QUEUE.parent / "fine_tuning.yaml").read_text())
    queue["defaults"] |= {"steps": 2, "stacks": 1, "depth": 2, "edge": 96, "precision": "float32", "arguments": UNET}
    queue["entries"] = queue["entries"][-3:]  # the round that is shipped
    (material / "queue.yaml").write_text(yaml.safe_dump(queue))
    run(material, monkeypatch)
    *tuned, mean = (torch.load(material / "out" / entry["name"] / "weights.pt", weights_only=False) for entry in queue["entries"])
    begun = start_network({**queue["defaults"], "name": "overview_unet"}, material / "out").state_dict()
    name = "input_block.conv1.conv.weight"
    states = [begun[name], begun[name], *(each["weights"][name].float() for each in tuned)]
    assert len({float(state.sum()) for state in states}) == len(states) - 1
    torch.testing.assert_close(mean["weights"][name].float(), sum(states) / len(states), atol=1e-3, rtol=1e-3)
    (row,) = (json.loads(line) for line in (material / "out" / "overview_unet" / "curve.jsonl").read_text().splitlines())
    assert row["step"] == mean["recipe"]["steps"] == 2 * len(tuned) and 0 <= row["tight"] <= 1
    assert [(each["recipe"]["seed"], each["recipe"]["degraded"]) for each in tuned] == [(5, 0.35), (6, 0.35)]
    before = (material / "out" / "overview_unet" / "weights.pt").stat().st_mtime_ns
    run(material, monkeypatch)  # all of it has ended
    assert (material / "out" / "overview_unet" / "weights.pt").stat().st_mtime_ns == before


def stop_after(monkeypatch, steps: int) -> None:
    """Let time be over once so many steps have been taken."""
    taken = []
    take = train_queue.StackTrainer.take_step

    def counted(self):
        taken.append(0)
        take(self)

    monkeypatch.setattr(train_queue.StackTrainer, "take_step", counted)
    monkeypatch.setattr(train_queue.time, "monotonic", lambda: 1e9 if len(taken) >= steps else 0.0)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["unet", "overview_swin_unetr"])
def test_a_run_out_of_time_goes_on_later_with_the_same_result(material, monkeypatch, name):
    run(material, monkeypatch, "--only", name, "--steps", "5")
    straight = torch.load(material / "out" / name / "weights.pt", weights_only=False)["weights"]
    shutil.rmtree(material / "out")
    folder = material / "out" / name
    for end in (2, 4):
        with monkeypatch.context() as limited:
            stop_after(limited, 2)
            run(material, limited, "--only", name, "--steps", "5", "--minutes", "1")
        assert torch.load(folder / "state.pt", weights_only=True)["step"] == end and not (folder / "weights.pt").exists()
    with (folder / "curve.jsonl").open("a") as curve:  # a run that was killed had told more
        curve.write(json.dumps({"step": 4.5, "loss": [9.0, 9.0]}) + "\n")
    run(material, monkeypatch, "--only", name, "--steps", "5")
    again = torch.load(folder / "weights.pt", weights_only=False)["weights"]
    assert all(torch.equal(straight[key], again[key]) for key in straight)
    assert [row["step"] for row in train_queue.curve_rows(folder)] == [1, 2, 3, 4, 5] and not (folder / "state.pt").exists()


def test_a_curve_has_its_eight_points_whatever_the_number_of_steps(material, monkeypatch):
    run(material, monkeypatch, "--only", "unet", "--steps", "83")
    points = [row["step"] for row in train_queue.curve_rows(material / "out" / "unet") if "tight" in row]
    assert points == [round(83 * part / 8) for part in range(1, 9)]


@pytest.mark.slow
def test_what_one_session_left_is_the_next_one_s_start(material, monkeypatch):
    monkeypatch.setattr(queue_state, "PART_BYTES", 400_000)
    name = "overview_swin_unetr"
    run(material, monkeypatch, "--only", name, "--steps", "5")
    straight = torch.load(material / "out" / name / "weights.pt", weights_only=False)["weights"]
    (material / "out").rename(material / "straight")
    with monkeypatch.context() as limited:
        stop_after(limited, 3)
        run(material, limited, "--only", name, "--steps", "5", "--minutes", "1", "--parts")
    left = sorted(path.name for path in (material / "out" / name).iterdir())
    assert left[0] == "curve.jsonl" and len(left) > 3 and all(each.endswith(".part") for each in left[1:])
    assert max(path.stat().st_size for path in (material / "out" / name).iterdir()) < 16e6

    (material / "out").rename(material / "home")
    (material / "home" / "unet").mkdir()
    (material / "home" / "unet" / "curve.jsonl").write_text(json.dumps({"step": 5, "loss": [0.1, 0.0]}) + "\n")  # that one has ended
    run(material, monkeypatch, "--only", name, "unet", "--steps", "5", "--start", str(material / "home"))
    weights = torch.load(material / "out" / name / "weights.pt", weights_only=False)["weights"]
    assert not (material / "out" / "unet" / "weights.pt").exists()
    for key, value in straight.items():
        if value.is_floating_point():
            assert torch.allclose(weights[key].float(), value.float(), rtol=0.02, atol=0.01), key
    assert not list((material / "out" / name).glob("*.part"))


def test_no_training_outlives_the_run_that_started_it(tmp_path, monkeypatch):
    waits = f"import os, pathlib, time; (pathlib.Path({str(tmp_path)!r}) / str(os.getpid())).touch(); time.sleep(600)"
    monkeypatch.setattr(train_queue, "command_for", lambda *_: [sys.executable, "-c", waits])

    def end_when_both_run() -> None:
        wait_until(lambda: len([*tmp_path.iterdir()]) == 2)
        os.kill(os.getpid(), signal.SIGTERM)

    before = signal.signal(signal.SIGTERM, lambda *_: None)
    thread = threading.Thread(target=end_when_both_run)
    thread.start()
    try:
        with pytest.raises(SystemExit) as ended:
            train_queue.run_in_parallel([{"name": name} for name in "abc"], Namespace(out=tmp_path, parallel=2), float("inf"))
    finally:
        thread.join()
        signal.signal(signal.SIGTERM, before)
    assert ended.value.code == 143
    for started in tmp_path.iterdir():
        with pytest.raises(ProcessLookupError):
            os.kill(int(started.name), 0)


def test_a_training_that_failed_is_told_by_the_exit_code(tmp_path, monkeypatch):
    before = signal.getsignal(signal.SIGTERM)
    try:
        for code in (0, 3):
            monkeypatch.setattr(train_queue, "command_for", lambda *_, code=code: [sys.executable, "-c", f"raise SystemExit({code})"])
            assert train_queue.run_in_parallel([{"name": "a"}], Namespace(out=tmp_path, parallel=2), float("inf")) == (code > 0)
    finally:
        signal.signal(signal.SIGTERM, before)


def test_a_point_that_was_cut_short_by_a_kill_is_left_out(tmp_path):
    (tmp_path / "curve.jsonl").write_text('{"step": 1}\n{"step": 2, "lo')
    assert train_queue.curve_rows(tmp_path) == [{"step": 1}] and not train_queue.has_ended(tmp_path, 2)


def test_a_place_that_cannot_hold_results_is_refused_before_training(material, monkeypatch, capsys):
    (material / "out").write_text("")
    with pytest.raises(SystemExit) as ended:
        run(material, monkeypatch)
    assert ended.value.code == 2 and "out cannot be written" in capsys.readouterr().err


def test_parts_hold_all_of_a_state_and_none_may_be_missing(tmp_path, monkeypatch):
    monkeypatch.setattr(queue_state, "PART_BYTES", 1000)
    state = {"run": {"recipe": {"steps": 3}}, "step": 2, "losses": torch.tensor([0.5, 0.25])}
    state["optimiser"] = {"state": {0: {"step": torch.tensor(2.0)}}}
    state["network"] = {"w": torch.randn(400), "count": torch.tensor(7)}
    state["optimiser"]["state"][0]["exp_avg_sq"] = torch.full((300,), 1e-12)
    state["average"] = [torch.randn(500), torch.randn(10)]
    torch.save(state, tmp_path / "state.pt")
    paths = queue_state.split_state(tmp_path / "state.pt")
    assert len(paths) >= 3 and not (tmp_path / "state.pt").exists()
    kept = paths[1].read_bytes()
    paths[1].unlink()
    with pytest.raises(ValueError, match="copy all of them"):
        queue_state.join_state(tmp_path / "state.pt")
    paths[1].write_bytes(kept)
    queue_state.join_state(tmp_path / "state.pt")
    again = torch.load(tmp_path / "state.pt", weights_only=True)
    assert again["run"] == state["run"] and again["step"] == 2 and again["network"]["count"] == 7
    assert torch.allclose(again["network"]["w"], state["network"]["w"], rtol=1e-3, atol=1e-6)
    assert torch.allclose(again["optimiser"]["state"][0]["exp_avg_sq"], torch.tensor(1e-12), rtol=0.01)
    assert len(again["average"]) == 2 and again["average"][1].dtype == torch.float32


def test_without_a_training_there_is_nothing_to_take_home(tmp_path):
    found = run_script(export_queue.main, "--queue-out", tmp_path, "--commit", "c", "--device", "d", "--command", "x")
    assert found.exit_code == 2 and "holds no finished training" in found.output
