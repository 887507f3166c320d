"""The matrix: each row is an experiment, builds its network, and is a row of a table; what does not fit together is refused."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest
import torch
from pydantic import ValidationError

from prato.prompts.batch import PromptBatch
from prato.prompts.box import BoxPrompt
from scripts.common.results import read_rows
from scripts.research.datasets.base import ExperimentError
from scripts.research.experiments.matrix import PAPER_TABLES, load_experiments, load_tables, paper_tables, select
from scripts.research.experiments.networks import dense_spec, model_spec
from scripts.research.experiments.schema import Experiment, is_same_experiment, slices_seen
from scripts.research.paper_queue import with_budget
from tests.scripts.research.small import PLAN, tiny, write_matrix

RUNS = Path(__file__).resolve().parents[4] / "docs" / "results" / "paper" / "runs.csv"
#: Of the paper; whoever extends the matrix gives rows other names.
EXPERIMENTS = {name: experiment for name, experiment in load_experiments().items() if name.startswith("table")}
#: Rows that joined the matrix after the others had been run, and those of a baseline that was another when they were.
LATER = ("algm", "algm_box", "cts", "cts_box", "prato_box", "stp", "stp_box", "struct_sam", "struct_sam_box", "unet", "unet_window")
TABLES = {table: names for table, names in load_tables(PAPER_TABLES, load_experiments()).items() if table.startswith("table")}


def test_the_matrix_expands_to_the_experiments_that_the_results_are_of():
    runs = read_rows(RUNS)
    later = {f"table4/{name}_{data}" for name in LATER for data in ("acdc", "isic")} | {*TABLES["table7"], *TABLES["table8"]}
    assert len(EXPERIMENTS) == 83 + len(later) and {run["experiment"] for run in runs} | later == set(EXPERIMENTS)
    for run in runs:
        described = {name: value for name, value in run.items() if name in Experiment.model_fields}
        experiment = EXPERIMENTS[run["experiment"]].model_copy(update={"seed": run["seed"]})
        if "slices" in run["budget"]:
            experiment = experiment.model_copy(
                update={"budget": with_budget(experiment, run["seed"], slices_seen(run), run["spent"]["batch"]).budget}
            )
        assert is_same_experiment(described, experiment), run["experiment"]


def test_every_experiment_is_a_row_of_a_table_and_is_there_once():
    assert set(TABLES) == {f"table{n}" for n in range(1, 9)}
    assert {name for names in TABLES.values() for name in names} == set(EXPERIMENTS)
    twice = Counter(experiment.model_dump_json() for experiment in EXPERIMENTS.values())
    assert max(twice.values()) == 1


def test_the_tables_have_the_rows_that_the_paper_has():
    columns = {"left", "right", "myocardium", "dice", "iou", "hd95", "gflops", "ms"}
    printed = Counter(row["table"] for row in read_rows(PAPER_TABLES) if columns & set(row))
    assert printed == {"table1": 3, "table2": 3, "table3": 4, "table4": 14, "table5": 16, "table6": 4, "table8": 1}
    assert [EXPERIMENTS[name].plan["threshold"] for name in TABLES["table2"][:4]] == [0.1, 0.2, 0.3, 0.5]
    assert [EXPERIMENTS[name].plan["k"] for name in TABLES["table3"][:4]] == [3, 5, 7, 9]
    assert {EXPERIMENTS[name].box for name in TABLES["table6"]} == {"tight", "oversized", "partial", "misleading"}


def test_all_rows_of_a_data_set_have_the_same_budget_and_input():
    for data in ("acdc", "isic"):
        assert len({(e.budget, e.images, e.seed) for e in EXPERIMENTS.values() if e.data == data}) == 1
    assert {e.image for name, e in EXPERIMENTS.items() if name not in TABLES["table8"]} == {128}


def test_the_paper_s_own_scale_is_table_iv_with_its_network_and_image():
    for name in TABLES["table8"]:
        own, small = EXPERIMENTS[name], EXPERIMENTS[name.replace("table8", "table4")]
        assert (own.network, own.size, own.image) == ("unetr", "full", 256)
        assert own.model_copy(update={"size": small.size, "image": small.image, "teacher": small.teacher}) == small


@pytest.mark.slow
def test_every_plan_builds_its_network_and_a_slice_goes_through():
    large = {*TABLES["table8"]} - {"table8/best_acdc"}  # the small ones' code, at a hundred times their cost
    chosen = [experiment for name, experiment in EXPERIMENTS.items() if experiment.data == "acdc" and name not in large]
    specs = {model_spec(experiment).model_dump_json(): experiment for experiment in chosen}
    built = {}
    for experiment in specs.values():
        spec = model_spec(experiment)
        built[json.dumps([spec.network, spec.arguments])] = spec, experiment
    for spec, experiment in built.values():
        torch.manual_seed(0)
        edge = experiment.sight.edge
        prompts = PromptBatch.of(BoxPrompt, [[((16, 16), (48, 48))]], (edge, edge))
        with torch.inference_mode():
            output = spec.build().eval().segment(torch.randn(1, 3, edge, edge), prompts, spec.pruning_plan())
        assert output.logits.shape == (1, 4, edge, edge)
        assert bool(output.stages) == (experiment.method != "dense")


def test_what_the_cost_of_every_experiment_is_compared_with_can_be_built():
    specs = {dense_spec(experiment).model_dump_json(): dense_spec(experiment) for experiment in EXPERIMENTS.values()}
    assert all(spec.plan is None and "settings" not in spec.arguments for spec in specs.values())
    with torch.device("meta"):
        baselines = [spec.build() for spec in specs.values() if spec.network == "baseline_unetr"]
    assert baselines


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
        ({"method": "tram", "sees_box": "as prompt and channel"}, "sees the box as prompt"),
        ({"method": "prato", "sees_box": "as a channel"}, "sees the box as prompt"),
        ({"method": "prato", "network": "segformer", "sees_box": "as prompt and channel"}, "without a channel for the box"),
        ({"method": "dynamic_vit"}, "teacher"),
        ({"budget": {"batch": 8}}, "steps or minutes"),
        ({"budget": {"steps": 3, "minutes": 2}}, "steps or minutes"),
        ({"images": 20, "data": "acdc"}, "leave images out"),
        ({"data": "nowhere"}, "No data set is registered"),
        ({"network": "unet"}, "network must be"),
        ({"method": "tom"}, "method must be"),
        ({"method": "tome", "settings": {"kepp": 0.5}}, "method tome has no setting kepp, only "),
        ({"method": "dense", "settings": {"keep": 0.5}}, "method dense has no setting keep, only none at all"),
        ({"dense_first": 0.5}, "no token leaves"),
        ({"method": "prato", "dense_first": 1.0}, "dense_first"),
        ({"unknown": 1}, "Extra"),
    ],
)
def test_what_does_not_fit_together_is_refused(changed, why):
    with pytest.raises(ValidationError, match=why):
        tiny(**changed)


def test_rows_are_checked_against_each_other(tmp_path):
    path = tmp_path / "matrix.yaml"
    prato = {"method": "prato", "sees_box": "as prompt", "plan": PLAN}
    write_matrix(path, {"t/tight": {**prato, "data": ["acdc"]}, "t/loose": {"model_of": "t/tight", "box": "oversized", "data": ["isic"]}})
    with pytest.raises(ExperimentError, match="t/loose_isic needs t/tight_isic, which is not a row"):
        load_experiments(path)
    write_matrix(path, {"t/tight": prato, "t/loose": {"model_of": "t/tight", "box": "oversized", "image": 96}})
    with pytest.raises(ExperimentError, match="agree in image"):
        load_experiments(path)
    write_matrix(path, {"t/tight": prato, "t/{box}": {"model_of": "t/tight", "box": ["oversized", "partial"]}})
    found = load_experiments(path)
    assert set(found) == {"t/tight_isic", "t/oversized_isic", "t/partial_isic"} and found["t/partial_isic"].model_of == "t/tight_isic"
    write_matrix(path, {"t/tight": {**prato, "data": ["pictures"]}})
    with pytest.raises(ExperimentError, match="t/tight is on pictures, of which the matrix says nothing under data"):
        load_experiments(path)
    write_matrix(path, {"t/bad": {"network": "unet"}})
    with pytest.raises(ExperimentError, match=r"t/bad_isic is not an experiment: network must be"):
        load_experiments(path)


def test_a_plan_written_without_a_newer_key_is_the_same_and_another_is_not():
    stored = tiny("prato").model_dump(mode="json")
    del stored["dense_first"]
    assert is_same_experiment(stored, tiny("prato"))
    assert not is_same_experiment(stored, tiny("prato", dense_first=0.5))
    assert not is_same_experiment({**stored, "unknown": 1}, tiny("prato")) and not is_same_experiment(None, tiny("prato"))


def test_the_project_s_recipe_trains_dense_first_and_the_paper_s_does_not():
    assert {(e.recipe, e.dense_first) for e in EXPERIMENTS.values()} == {("paper", 0.0), ("engine", 0.5)}


def test_an_empty_matrix_and_a_table_of_something_else_are_refused(tmp_path):
    with pytest.raises(ExperimentError, match="cannot be read"):
        load_experiments(tmp_path / "none.yaml")
    with pytest.raises(ExperimentError, match="holds no experiments"):
        load_experiments(write_matrix(tmp_path / "matrix.yaml", {}))
    tables = tmp_path / "tables.csv"
    tables.write_text("table,experiment\ntable1,table1/none\n")
    with pytest.raises(ExperimentError, match="table1/none"):
        load_tables(tables, EXPERIMENTS)
    tables.write_text("a,b\n1,2\n")
    with pytest.raises(ExperimentError, match="does not say"):
        load_tables(tables, EXPERIMENTS)


def test_names_are_tables_or_experiments():
    assert select(["table3", "table4/prato_acdc"], TABLES, EXPERIMENTS) == TABLES["table3"]
    with pytest.raises(ExperimentError, match="table9 is neither"):
        select(["table9"], TABLES, EXPERIMENTS)
    with pytest.raises(ExperimentError, match="table9 is not an experiment such as"):
        select(["table9"], {}, EXPERIMENTS)


def test_a_matrix_of_one_s_own_has_those_of_the_paper_s_tables_whose_rows_it_holds():
    assert paper_tables({"mine/dense_acdc": EXPERIMENTS["table4/dense_acdc"]}) == {}
    kept = {name: EXPERIMENTS[name] for name in TABLES["table3"]}
    assert paper_tables(kept)["table3"] == TABLES["table3"] and "table4" not in paper_tables(kept)
