"""The demo, in short: real server, real training, the shipped weights. It starts as a user starts it in one test; in the others its server
is forked, as nothing of what they check depends on how it came to be."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from scripts import demo as demo_script
from tests.scripts.cli import run_script
from tests.scripts.forked_demo import fork_demo_servers
from tests.waiting import HANG_S

ROOT = Path(__file__).resolve().parents[2]
WEIGHTS = ROOT / "apps" / "prato_label" / "model" / f"{demo_script.MODEL}.safetensors"


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str, dict[str, Any]]:
    """The output folder, what was printed, and the summary."""
    if not WEIGHTS.exists():
        pytest.skip(f"{WEIGHTS.relative_to(ROOT)} is missing: the demo needs the shipped weights")
    before = WEIGHTS.read_bytes()
    out = tmp_path_factory.mktemp("demo") / "out"
    with pytest.MonkeyPatch.context() as patched:
        fork_demo_servers(patched)
        patched.setenv("OMP_WAIT_POLICY", "PASSIVE")
        done = run_script(demo_script.main, "--out", out, "--steps", "32")
    assert done.exit_code == 0, done.output
    assert WEIGHTS.read_bytes() == before  # it trains a copy
    return out, done.output, json.loads((out / "summary.json").read_text())


def test_a_folder_that_cannot_be_made_is_refused_in_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "note").write_text("mine")
    done = run_script(demo_script.main, "--out", tmp_path / "note" / "demo")
    assert done.exit_code == 2 and "cannot be written" in done.output and done.output.count("\n") == 1


@pytest.mark.slow
def test_training_helps_a_patient_that_was_never_labelled(demo: tuple[Path, str, dict[str, Any]]) -> None:
    _, printed, summary = demo
    assert summary["dice_after"] > summary["dice_before"] + 0.01
    assert summary["training"]["published"]
    assert summary["model_version_after"] != summary["model_version_before"]
    assert not {"phantom003"} & {*summary["training"]["patients"]["train"], *summary["training"]["patients"]["validation"]}
    assert f"{summary['dice_after']:.3f}" in printed


@pytest.mark.slow
def test_the_summary_says_what_it_cost(demo: tuple[Path, str, dict[str, Any]]) -> None:
    _, _, summary = demo
    assert summary["label_names"] == {"RV cavity": 1, "myocardium": 2, "LV cavity": 3}
    assert summary["model"] == "prato_overview_unet"
    (share,) = summary["kept_fraction"].values()  # tokens leave once
    assert 0 < share < 0.5
    assert 0 < summary["gflops_pruned"] < summary["gflops_dense"]
    assert summary["latency_ms"]["total"] > 0
    assert summary["server_version"].count(".") == 2


@pytest.mark.slow
def test_pictures_and_masks_are_there_and_the_server_is_gone(demo: tuple[Path, str, dict[str, Any]]) -> None:
    out, _, _ = demo
    for study in ("phantom003_ED", "phantom003_ES"):
        assert (out / f"{study}.png").read_bytes()[:4] == b"\x89PNG"
        assert (out / "before" / f"{study}.nii.gz").read_bytes() != (out / "after" / f"{study}.nii.gz").read_bytes()
    assert "Finished server process" in (out / "server.log").read_text()
    assert sorted(p.name for p in (out / "studies" / "labels" / "final").iterdir()) == [
        f"phantom{n:03d}_{phase}.nii.gz" for n in (1, 2) for phase in ("ED", "ES")
    ]


@pytest.mark.slow
def test_a_folder_with_something_else_in_it_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")
    command = [sys.executable, str(ROOT / "scripts" / "demo.py"), "--out", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=HANG_S, check=False)
    assert done.returncode == 2
    assert done.stderr.strip() == f"{tmp_path} holds something other than an earlier demo: give a new folder."
    assert [p.name for p in tmp_path.iterdir()] == ["thesis.txt"]
