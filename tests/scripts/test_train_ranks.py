"""scripts/train.py under torchrun: two processes take up a run that one began, and end where one would have."""

import os
import shutil
from pathlib import Path

import pytest
import torch
import torch.distributed.run

import prato.runtime.precision
from prato.models.checkpoint import read_spec
from prato.training.trainer import Trainer
from scripts import train
from scripts.common import validation_curve
from tests.phantoms import make_thin_phantoms
from tests.scripts import train_small
from tests.scripts.cli import run_script

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def studies(tmp_path_factory):
    folder = tmp_path_factory.mktemp("studies")
    make_thin_phantoms(folder, 2)
    return folder


@pytest.fixture
def small(monkeypatch):
    # named first, so that they are put back
    monkeypatch.setattr(prato.runtime.precision, "is_bfloat16_fast", prato.runtime.precision.is_bfloat16_fast)
    monkeypatch.setattr(validation_curve, "_CHECKS", validation_curve._CHECKS)
    monkeypatch.setattr(train, "model_preset", train.model_preset)
    train_small.make_small()


def arguments(studies, out):
    return ["--studies", str(studies), "--out", str(out), "--epochs", "0.7", "--batch", "2", "--threads", "1"]


def alone(*given):
    return run_script(train.main, *given)


def by_two(monkeypatch, *given):
    """What ``torchrun`` does, whose own process would load torch for nothing else; it raises where a process fails."""
    path = os.pathsep.join(map(str, (ROOT, ROOT / "apps" / "prato_label", ROOT / "scripts")))
    monkeypatch.setenv("PYTHONPATH", path)
    torch.distributed.run.main(["--standalone", "--nproc-per-node", "2", train_small.__file__, *given])


def test_two_processes_end_where_one_does(studies, tmp_path, small, monkeypatch, capfd):
    one, two = tmp_path / "one", tmp_path / "two"

    def keep_the_first(curve, progress):
        if progress.step == 2:  # what a run killed now would leave
            two.mkdir()
            for name in ("state.pt", "split.json"):
                shutil.copy(one / name, two / name)
        return True

    with monkeypatch.context() as within:
        within.setattr(Trainer.fit, "__defaults__", (*Trainer.fit.__defaults__[:-1], 0.0))  # the state is kept after every step
        within.setattr(validation_curve.ValidationCurve, "__call__", keep_the_first)
        assert alone(*arguments(studies, one)).exit_code == 0
    unbroken, begun = (torch.load(folder / "state.pt", weights_only=True) for folder in (one, two))
    assert (begun["step"], unbroken["step"]) == (1, 3)

    capfd.readouterr()
    by_two(monkeypatch, *arguments(studies, two))
    assert capfd.readouterr().out.count("model.safetensors") == 1  # the first process alone says so
    assert {path.name for path in two.iterdir()} == {".lock", "curve.csv", "model.safetensors", "split.json", "state.pt"}
    assert read_spec(two / "model.safetensors").training["processes"] == 2
    together = torch.load(two / "state.pt", weights_only=True)
    assert together["step"] == 3 and together["mean_loss"] == pytest.approx(unbroken["mean_loss"], abs=1e-4)
    for kind in ("network", "average"):
        # AdamW moves a weight by about the rate whatever its gradient: where that is nothing but rounding, two runs part by as much
        assert distance(together[kind], unbroken[kind]) < 0.02 * distance(begun[kind], unbroken[kind])


def distance(one, other):
    """Mean absolute difference of two networks' numbers, integers left out."""
    apart = [(value - other[name]).abs().flatten() for name, value in one.items() if value.is_floating_point()]
    return float(torch.cat(apart).mean())
