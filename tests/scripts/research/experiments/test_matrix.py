"""The plan files: each is one, builds its network, and is a row of a table; what does not fit together is refused."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest
import torch
from pydantic import ValidationError

from prato.prompts.box import BoxPrompt
from scripts.research.experiments.networks import dense_spec, model_spec
from scripts.research.experiments.schema import ExperimentError, chosen, load_experiments, load_tables, same_plan
from tests.scripts.research.small import PLAN, tiny, write_plan

PLANS = Path(__file__).resolve().parents[4] / "scripts" / "research" / "experiments" / "plans"
EXPERIMENTS = load_experiments(PLANS)
TABLES = load_tables(PLANS / "tables.json", EXPERIMENTS)


def test_every_experiment_is_a_row_of_a_table_and_is_there_once():
    assert set(TABLES) == {f"table{n}" for n in range(1, 7)}
    assert {name for names in TABLES.values() for name in names} == set(EXPERIMENTS)
    twice = Counter(experiment.model_dump_json() for experiment in EXPERIMENTS.values())
    assert max(twice.values()) == 1


def test_the_tables_have_the_rows_that_the_paper_has():
    rows = {name: json.loads((PLANS / "tables.json").read_text())[name]["rows"] for name in TABLES}
    printed = {name: sum(bool(row["printed"]) for row in own) for name, own in rows.items()}
    assert printed == {"table1": 3, "table2": 3, "table3": 4, "table4": 14, "table5": 16, "table6": 4}
    assert [EXPERIMENTS[name].plan["threshold"] for name in TABLES["table2"][:4]] == [0.1, 0.2, 0.3, 0.5]
    assert [EXPERIMENTS[name].plan["k"] for name in TABLES["table3"][:4]] == [3, 5, 7, 9]
    assert {EXPERIMENTS[name].box for name in TABLES["table6"]} == {"tight", "oversized", "partial", "misleading"}


def test_all_rows_of_a_data_set_have_the_same_budget_and_input():
    for data in ("acdc", "isic"):
        assert len({(e.budget, e.image, e.images, e.seed) for e in EXPERIMENTS.values() if e.data == data}) == 1


@pytest.mark.slow
def test_every_plan_builds_its_network_and_a_slice_goes_through():
    specs = {model_spec(experiment).model_dump_json(): experiment for experiment in EXPERIMENTS.values() if experiment.data == "acdc"}
    built = {}
    for experiment in specs.values():
        spec = model_spec(experiment)
        built[json.dumps([spec.network, spec.arguments])] = spec, experiment
    for spec, experiment in built.values():
        torch.manual_seed(0)
        edge = experiment.edge
        prompts = BoxPrompt.batch([[((16, 16), (48, 48))]], (edge, edge))
        with torch.inference_mode():
            output = spec.build().eval().segment(torch.randn(1, 3, edge, edge), prompts, spec.pruning_plan())
        assert output.logits.shape == (1, 4, edge, edge)
        assert bool(output.stages) == (experiment.method != "dense")


@pytest.mark.parametrize("network", ["unetr", "swin_unetr", "transunet", "segformer"])
def test_networks_as_published_are_larger(network):
    specs = [dense_spec(tiny(network=network, size=size)) for size in ("reduced", "full")]
    with torch.device("cpu" if network == "swin_unetr" else "meta"):  # MONAI's reads numbers while it is built
        small, full = (sum(p.numel() for p in spec.build().parameters()) for spec in specs)
    assert full > 3 * small


@pytest.mark.parametrize(
    ("changed", "why"),
    [
        ({"method": "prato", "plan": None}, "has a plan"),
        ({"method": "prato", "plan": {"after": [4], "percentile": 200}}, "percentile"),
        ({"method": "prato", "plan": {"percentile": 20}}, "pruning plan"),
        ({"method": "tram", "plan": PLAN}, "has a plan"),
        ({"method": "tram", "network": "segformer"}, "baselines run on unetr"),
        ({"method": "tram", "sees_box": "by cropping"}, "cut to the box"),
        ({"method": "tram", "sees_box": "in a window"}, "a window follows the box"),
        ({"sees_box": "as prompt"}, "sees the box as prompt"),
        ({"method": "dynamic_vit"}, "teacher"),
        ({"budget": {"batch": 8}}, "steps or minutes"),
        ({"budget": {"steps": 3, "minutes": 2}}, "steps or minutes"),
        ({"images": 20, "data": "acdc"}, "isic"),
        ({"dense_first": 0.5}, "no token leaves"),
        ({"method": "prato", "dense_first": 1.0}, "dense_first"),
        ({"unknown": 1}, "Extra"),
    ],
)
def test_what_does_not_fit_together_is_refused(changed, why):
    with pytest.raises(ValidationError, match=why):
        tiny(**changed)


def test_plan_files_are_checked_against_each_other(tmp_path):
    write_plan(tmp_path, "t/loose", tiny("prato", box="oversized", model_of="t/tight"))
    with pytest.raises(ExperimentError, match="t/tight, of which there is no plan file"):
        load_experiments(tmp_path)
    write_plan(tmp_path, "t/tight", tiny("prato", image=96))
    with pytest.raises(ExperimentError, match="agree in image"):
        load_experiments(tmp_path)
    write_plan(tmp_path, "t/tight", tiny("prato"))
    assert set(load_experiments(tmp_path)) == {"t/tight", "t/loose"}
    (tmp_path / "t" / "bad.json").write_text('{"network": "unet"}')
    with pytest.raises(ExperimentError, match=r"bad.json is no plan of an experiment: network"):
        load_experiments(tmp_path)


def test_a_plan_written_without_a_newer_key_is_the_same_and_another_is_not():
    stored = tiny("prato").model_dump(mode="json")
    del stored["dense_first"]
    assert same_plan(stored, tiny("prato"))
    assert not same_plan(stored, tiny("prato", dense_first=0.5))
    assert not same_plan({**stored, "unknown": 1}, tiny("prato")) and not same_plan(None, tiny("prato"))


def test_the_project_s_recipe_trains_dense_first_and_the_paper_s_does_not():
    assert {(e.recipe, e.dense_first) for e in EXPERIMENTS.values()} == {("paper", 0.0), ("engine", 0.5)}


def test_a_folder_without_plans_and_a_row_without_one_are_refused(tmp_path):
    with pytest.raises(ExperimentError, match="holds no plan files"):
        load_experiments(tmp_path)
    tables = tmp_path / "tables.json"
    tables.write_text(json.dumps({"table1": {"rows": [{"experiment": "table1/none"}]}}))
    with pytest.raises(ExperimentError, match="table1/none"):
        load_tables(tables, EXPERIMENTS)
    tables.write_text("[]")
    with pytest.raises(ExperimentError, match="does not say"):
        load_tables(tables, EXPERIMENTS)


def test_names_are_tables_or_experiments():
    assert chosen(["table3", "table4/prato_acdc"], TABLES, EXPERIMENTS) == TABLES["table3"]
    with pytest.raises(ExperimentError, match="table9 is neither"):
        chosen(["table9"], TABLES, EXPERIMENTS)
