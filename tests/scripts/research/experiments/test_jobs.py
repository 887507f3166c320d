"""One tiny experiment a method, from plan to result; killed ones go on; what does not belong together is refused."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from prato.data.structures import STRUCTURES
from prato.models.checkpoint import load_model, read_spec
from scripts.common.results import read_rows, write_rows
from scripts.research.baselines.dtop import DToP
from scripts.research.datasets.base import ExperimentError
from scripts.research.experiments import training
from scripts.research.experiments.jobs import Places, Result, make_job, run, schedule
from scripts.research.experiments.schema import Spending
from scripts.research.experiments.training import ModelFiles
from tests.scripts.research.small import PLAN, tiny

BASELINES = ("dense", "dynamic_vit", "evo_vit", "dtop", "stp", "tram", "random", "tome", "algm", "cts", "struct_sam")
#: Each method with or without a box as a channel, and both where a network is taught by another.
WAYS = [(method, ("not at all", "as a channel")[n % 2]) for n, method in enumerate(BASELINES)]
WAYS += [("dynamic_vit", "not at all"), ("prato", "as prompt")]
MADE_BY = {"commit": "abc1234", "command": "scripts/research/paper.py run t"}
METRICS = {"dice", "iou", "hd95", "gflops", "tokens"}
pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("small")]


@pytest.fixture
def places(data, tmp_path) -> Places:
    return Places(tmp_path / "results", tmp_path / "models", data)


def done(places, experiments, names, seed=None, spending=None, on_progress=lambda *_: None):
    """Run what is missing; the results by job, with their cases and the loss curve of the model."""
    torch.set_num_threads(1)
    data, found = places.experiment_data(), {}
    for job in schedule(names, experiments, seed, spending, places):
        places.store(run(job, places, data, "cpu", MADE_BY, on_progress))
        stored = {
            name: [r for r in read_rows(places.results / f"{name}.csv") if (r["experiment"], r["seed"]) == (job.row, job.experiment.seed)]
            for name in ("runs", "cases")
        }
        model = places.models / f"{job.name if job.trains else job.needs[0]}.safetensors"
        curve = read_spec(model).training["loss_curve"]
        (result,) = stored["runs"]
        found[job.name] = {**result, "cases": stored["cases"], "loss_curve": curve}
    return found


def test_the_u_net_from_outside_makes_a_valid_result(places):
    experiment = tiny("dense", "in a window", network="dyn_unet")
    (result,) = done(places, {"t/unet": experiment}, ["t/unet"]).values()
    assert result["gflops_dense"] > 0 and set(result["mean"]) == METRICS


@pytest.mark.parametrize(("method", "sees_box"), WAYS)
def test_every_method_makes_a_valid_result(places, method, sees_box):
    experiments = {"t/dense": tiny("dense", sees_box)} if method == "dynamic_vit" else {}
    name = f"t/{method}"
    experiments[name] = tiny(method, sees_box, teacher="t/dense" if method == "dynamic_vit" else None)
    found = done(places, experiments, [name])[name]
    assert found["method"] == method and found["spent"] == {"steps": 2, "minutes": found["spent"]["minutes"], "batch": 2}
    assert {"device", "threads", "seed", *MADE_BY} <= set(found) and found["parameters"] > 1000
    assert found["loss_curve"][-1][0] == 2 and all(np.isfinite(loss) for _, loss in found["loss_curve"])
    assert set(found["mean"]) == METRICS
    for case in found["cases"]:
        assert {"experiment", "case", "patient", "seed", "device", "commit", *METRICS} == set(case) and set(case["dice"]) == {"lesion"}
        assert 0 <= case["dice"]["lesion"] <= 1 and 0 < case["tokens"] <= 1 and case["gflops"] > 0
    if method == "dense":
        assert found["token_density"] == [] and found["mean"]["tokens"] == 1
    else:
        assert found["token_density"][-1] == pytest.approx(found["mean"]["tokens"], abs=1e-3)
    with np.load(places.models / f"{name}.npz") as shown:
        assert shown["image"].shape == shown["truth"].shape == shown["mask"].shape and shown["box"].shape[1:] == (2, 2)
        assert ("retention" in shown) == (method != "dense")
        assert ("weight" in shown) == (method == "prato")
        if method == "prato":
            assert shown["retention"].shape == shown["image"].shape
            assert shown["weight"].shape[1] == 25 and np.allclose(np.sort(shown["weight"]), np.linspace(0, 1, 25), atol=1e-6)
    assert not list((places.models / "t").glob("*.state.pt")) and not list((places.models / "t").glob("*.curve.json"))


def test_hearts_are_scored_by_structure_and_the_plan_decides_what_goes_on(places):
    experiments = {
        "t/literal": tiny("prato", data="acdc"),
        "t/half": tiny("prato", data="acdc", plan={**PLAN, "percentile": 50.0, "weights": "equal"}),
        "t/cut": tiny("dense", "by cropping", data="acdc"),
        "t/near": tiny("prato", "in a window", data="acdc", image=128),
    }
    found = done(places, experiments, list(experiments))
    literal, half, cut, near = (found[f"t/{name}"] for name in ("literal", "half", "cut", "near"))
    assert near["token_density"][0] == pytest.approx(0.75**3, abs=1e-3)  # three quarters of the tokens of a window of 3/4
    with np.load(places.models / "t/near.npz") as shown:  # where the window lies in the image, and nothing of what lies beyond
        assert shown["retention"].shape == shown["image"].shape and 0 < (shown["retention"] > 0).mean() < 0.9
    assert set(literal["cases"][0]["dice"]) == set(STRUCTURES) and literal["cases"][0]["patient"] != literal["cases"][0]["case"]
    assert literal["token_density"] == [0.75, 0.5625, 0.4375] and half["token_density"] == [0.5, 0.25, 0.125]
    assert half["mean"]["gflops"] < literal["mean"]["gflops"] < literal["gflops_dense"]
    assert cut["mean"]["tokens"] == 0.25 and cut["mean"]["gflops"] < 0.4 * cut["gflops_dense"]


def test_the_box_as_a_channel_is_seen_and_costs_hardly_more(places):
    found = done(places, {"t/plain": tiny(), "t/box": tiny(sees_box="as a channel")}, ["t/plain", "t/box"])
    plain, box = found["t/plain"], found["t/box"]
    assert plain["parameters"] < box["parameters"]
    assert plain["mean"]["gflops"] < box["mean"]["gflops"] < 1.05 * plain["mean"]["gflops"]


def test_another_box_is_measured_on_the_same_model(places):
    experiments = {"t/tight": tiny("prato"), "t/beside": tiny("prato", box="misleading", model_of="t/tight")}
    found = done(places, experiments, ["t/beside"])
    assert list(found) == ["t/tight", "t/beside"]  # what is needed comes first
    tight, beside = found["t/tight"], found["t/beside"]
    assert tight["spent"] == beside["spent"] and tight["loss_curve"] == beside["loss_curve"]
    assert [p.name for p in (places.models / "t").glob("*.safetensors")] == ["tight.safetensors"]
    with np.load(places.models / "t/tight.npz") as one, np.load(places.models / "t/beside.npz") as other:
        assert np.array_equal(one["image"], other["image"]) and not np.array_equal(one["box"], other["box"])


@pytest.mark.parametrize("method", ["prato", "random", "stp"])
def test_a_killed_run_goes_on_to_the_same_numbers(places, tmp_path, monkeypatch, method):
    experiments = {"t/one": tiny(method, budget={"steps": 4, "batch": 2})}
    unbroken = done(replace(places, results=tmp_path / "r", models=tmp_path / "m"), experiments, ["t/one"])["t/one"]

    monkeypatch.setattr(training, "_SAVE_EVERY_S", 0.0)

    def kill(what, share, loss):
        if what == "training" and share > 0.6:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        done(places, experiments, ["t/one"], on_progress=kill)
    assert ModelFiles(places.models, "t/one").state.exists() and not places.results.joinpath("runs.csv").exists()
    shares = []
    resumed = done(
        places, experiments, ["t/one"], on_progress=lambda what, share, loss: shares.append(share) if what == "training" else None
    )
    assert shares[0] > 0.4  # not from the beginning
    for result in (unbroken, *resumed.values()):
        result["spent"].pop("minutes")
    assert resumed["t/one"] == unbroken


def test_what_is_there_is_not_done_again_and_what_differs_is_not_touched(places):
    experiments = {"t/one": tiny()}
    done(places, experiments, ["t/one"])
    assert done(places, experiments, ["t/one"]) == {}
    runs = places.results / "runs.csv"
    before = runs.read_bytes()
    with pytest.raises(ExperimentError, match="another plan or budget"):
        done(places, experiments, ["t/one"], spending=Spending(steps=3))
    assert runs.read_bytes() == before
    runs.unlink()  # measured again with the model that is there
    seen = set()
    done(places, experiments, ["t/one"], on_progress=lambda what, share, loss: seen.add(what))
    assert seen == {"measuring"}
    write_rows(runs, [{**row, "experiment": "t/other"} for row in read_rows(runs)])
    with pytest.raises(ExperimentError, match=r"one.safetensors was trained for another"):
        done(places, experiments, ["t/one"], spending=Spending(steps=3))
    write_rows(runs, [{"experiment": "t/one", "seed": 0}])
    with pytest.raises(ExperimentError, match="another plan or budget"):
        done(places, experiments, ["t/one"])


def test_a_longer_training_takes_the_place_of_shorter_ones_of_any_seed(places):
    def result(name, seed, steps):
        spent = {"steps": steps, "batch": 8, "minutes": 1.0}
        return Result({"experiment": name, "spent": spent, "seed": seed}, [{"experiment": name, "patient": "p", "seed": seed}])

    for name, seed in (("t/one", 0), ("t/one", 1), ("t/other", 0)):
        places.store(result(name, seed, 250))
    places.store(result("t/one", 2, 938))
    places.store(result("t/one", 1, 938))
    for table in ("runs", "cases"):
        rows = read_rows(places.results / f"{table}.csv")
        assert {(row["experiment"], row["seed"]) for row in rows} == {("t/one", 1), ("t/one", 2), ("t/other", 0)}


def test_another_seed_has_another_name_and_other_numbers(places):
    experiments = {"t/dense": tiny(), "t/dynamic": tiny("dynamic_vit", teacher="t/dense")}
    found = done(places, experiments, ["t/dynamic"], seed=1) | done(places, experiments, ["t/dynamic"], seed=0)
    assert list(found) == ["t/dense-seed1", "t/dynamic-seed1", "t/dense", "t/dynamic"]
    assert found["t/dense-seed1"]["loss_curve"] != found["t/dense"]["loss_curve"]
    assert found["t/dense-seed1"]["seed"] == make_job("t/dense", experiments, 1, None).experiment.seed == 1


def test_dtop_prunes_in_the_second_half_of_its_training_and_in_evaluation(places, monkeypatch):
    thresholds = []

    def watched(method, share, set_progress=DToP.set_progress):
        set_progress(method, share)
        thresholds.append(method.threshold)

    monkeypatch.setattr(DToP, "set_progress", watched)
    done(places, {"t/dtop": tiny("dtop", budget={"steps": 4, "batch": 2})}, ["t/dtop"])
    assert thresholds == [1.0, 1.0, 0.9, 0.9, 0.9]
    assert load_model(places.models / "t/dtop.safetensors")[0].method.threshold == 0.9


def test_the_paper_s_recipe_is_its_loss_at_the_plan_alone(places, monkeypatch):
    seen = []

    class Watched(training.Trainer):
        def fit(self, *args, **kwargs):
            seen.append((self.loss.supervision, self.settings.levels))
            return super().fit(*args, **kwargs)

    monkeypatch.setattr(training, "Trainer", Watched)
    done(places, {"t/paper": tiny("prato"), "t/engine": tiny("prato", recipe="engine")}, ["t/paper", "t/engine"])
    assert seen == [(0.0, False), (0.1, True)]
