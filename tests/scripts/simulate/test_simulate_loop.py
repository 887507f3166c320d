"""The simulated loop labels, chooses and counts as it says, and goes on where it was."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import typer

from prato.data.nifti import read_volume
from prato.data.studies.splits import Split, load_split, save_split
from prato.models.checkpoint import save_model
from scripts.common.results import read_rows, write_rows
from scripts.simulate import learner, loop_clicks, simulate_loop
from scripts.simulate.simulate_loop import main
from scripts.simulate.strategies import Strategy
from tests.phantoms import make_thin_phantoms
from tests.prato.conftest import small_spec

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def locator(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small network in place of the one that finds hearts: what it finds decides nothing here."""
    path = tmp_path_factory.mktemp("locator") / "locator.safetensors"
    torch.manual_seed(0)
    save_model(path, small_spec("overview_unet").build(), small_spec("overview_unet"))
    return path


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch, locator: Path) -> None:
    """Two slices of each generated heart, too, and two at a time."""
    monkeypatch.setattr(simulate_loop, "locator_file", lambda: locator)
    monkeypatch.setattr(loop_clicks, "model_file", lambda _: locator)
    monkeypatch.setattr(loop_clicks, "_CLICKS", 2)
    monkeypatch.setattr(learner, "make_phantoms", lambda folder, patients, seed, _: make_thin_phantoms(folder, patients, 2, seed))
    for module in (learner, simulate_loop):
        monkeypatch.setattr(module, "BATCH", 2)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Phantoms of six patients, and a split file that measures one of them."""
    folder = tmp_path_factory.mktemp("simulation")
    make_thin_phantoms(folder / "studies", 6, slices=2)
    patients = sorted({path.name.rsplit("_", 1)[0] for path in (folder / "studies").glob("*.nii.gz")})
    assert len(patients) == 6
    save_split(folder / "split.json", Split(seed=0, train=patients[1:], validation=patients[:1]))
    return folder


def simulated(folder: Path, name: str, **more: Any) -> list[dict[str, Any]]:
    """The rows of a simulation as small as can be, without what differs from run to run."""
    given = {
        "strategy": [Strategy.coverage],
        "seed": [0],
        "dense": False,
        "network": "swin_unetr",
        "rounds": 2,
        "phantoms": 2,
        "taught": 1,
        "steps": 1,
        **more,
    }
    main(folder / "studies", folder / name, **given, sample=2, validation=1, split=folder / "split.json", threads=1)
    rows = read_rows(folder / name)
    return [{key: value for key, value in row.items() if key not in ("seconds", "command", "commit")} for row in rows]


def drawn(folder: Path, patients: list[str]) -> tuple[int, int]:
    """How many studies ``patients`` have, and the voxels of their hearts."""
    files = [path for patient in patients for path in (folder / "studies/labels/final").glob(f"{patient}_*.nii.gz")]
    return len(files), sum(np.count_nonzero(read_volume(path).array) for path in files)


def test_a_loop_that_was_cut_short_goes_on(folder: Path) -> None:
    whole = simulated(folder, "whole.csv")
    assert [(row["strategy"], row["labelled_patients"]) for row in whole] == [
        ("coverage", 2),
        ("coverage", 4),
        ("all", 5),
    ]
    first, second, _ = whole
    assert second["patients"] == [*first["patients"], *first["next"]]
    assert len(set(second["patients"])) == 4 and set(second["patients"]) <= set(load_split(folder / "split.json").train)
    for row in (first, second):
        assert row["corrected"]["voxels"] > 0  # a model that was taught on anything at all leaves something to correct
    assert (first["corrected"]["studies"], first["corrected"]["heart_voxels"]) == drawn(folder, first["patients"])
    assert first["next_corrected"] == second["corrected"]
    assert (second["corrected"]["studies"], second["corrected"]["heart_voxels"]) == drawn(folder, first["next"])
    assert len(second["next"]) == 1  # one patient is left
    assert (second["unlabelled"]["studies"], second["unlabelled"]["heart_voxels"]) == drawn(folder, second["next"])
    write_rows(folder / "cut.csv", read_rows(folder / "whole.csv")[:1])
    assert simulated(folder, "cut.csv") == whole
    # a run that is done stays as it is, also where another is still to come
    assert simulated(folder, "whole.csv") == whole
    more = simulated(folder, "whole.csv", strategy=[Strategy.coverage, Strategy.random])
    assert more[:3] == whole and [(row["strategy"], row["labelled_patients"]) for row in more[3:]] == [("random", 2), ("random", 4)]


def test_what_cannot_be_simulated_is_one_sentence(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "other.csv").write_text("rows\n1\n")
    before = (folder / "other.csv").read_bytes()
    for name, more, words in (
        ("new.csv", {"network": "unet"}, "--network must be"),
        ("new.csv", {"dense": True}, "needs a network that prunes"),
        ("other.csv", {}, "is not a simulation of this"),
    ):
        with pytest.raises(typer.Exit, check=lambda stopped: stopped.exit_code == 2):
            simulated(folder, name, **more)
        assert words in capsys.readouterr().err
    assert (folder / "other.csv").read_bytes() == before and not (folder / "new.csv").exists()


def test_clicks_are_counted_for_the_model_of_each_round(folder: Path) -> None:
    simulated(folder, "clicked.csv")
    more = {"simulation": folder / "clicked.csv", "studies": folder / "studies", "split": folder / "split.json", "patients": 1, "seed": 0}
    loop_clicks.main(**more, out=folder / "clicks.csv", strategy="coverage")
    rows = read_rows(folder / "clicks.csv")
    assert [(row["labelled_patients"], row["labeller"]) for row in rows] == [(n, who) for n in (2, 4) for who in ("careful", "scribbling")]
    assert all(row["voxels"]["painting_alone"] > 0 and row["voxels"]["after_clicks"] != row["voxels"]["painting_alone"] for row in rows)
    with pytest.raises(typer.Exit) as refused:
        loop_clicks.main(**more, out=folder / "none.csv", strategy="random")
    assert refused.value.exit_code == 2 and not (folder / "none.csv").exists()
