"""The estimate is its own arithmetic: measured paces are scaled, what nobody measured stays empty, bounds bind."""

import json

import pytest

from scripts.bench import cost_estimate
from scripts.common.results import read_rows, write_rows
from tests.scripts.cli import run_script

RUN = {
    "studies": 20,
    "start_up_s": 36.0,
    "studies_per_minute": 60.0,
    "stage_ms": {"read": 50.0, "network": 600.0, "write": 150.0, "total": 800.0},
    "gflops": 4.0,
    "core_s": 0.8,
    "image_mb": 1.5,
    "mask_mb": 0.5,
    "workers": 1,
    "machine": {"processor": "some CPU"},
    "parameters": {"model": "m"},
}
# 4 GFLOP in 0.01 s: a hundredth of a second a study
ROW = {"model": "m", "way": "window at the box, plan, captured", "batch": 8, "ms": 10.0, "gflops": 4.0, "command": "x --device cuda"}


def estimate(tmp_path, benchmark=None, *more):
    (tmp_path / "one.json").write_text(json.dumps(RUN))
    (tmp_path / "two.json").write_text(json.dumps({**RUN, "workers": 2, "studies_per_minute": 110.0}))
    given = ["--measured", tmp_path / "two.json", "--measured", tmp_path / "one.json", "--out", tmp_path / "out.csv", *more]
    if benchmark:
        write_rows(tmp_path / "gpu.csv", benchmark)
        given += ["--gpu", tmp_path / "gpu.csv"]
    done = run_script(cost_estimate.main, *given)
    rows = read_rows(tmp_path / "out.csv") if done.exit_code == 0 else []
    return done, rows


def test_measured_paces_are_kept_up_and_unmeasured_ones_stay_empty(tmp_path):
    done, rows = estimate(tmp_path)
    assert done.exit_code == 0, done.output
    assert [row["hardware"][:6] for row in rows] == ["1 core", "2 core", "1 core", "1 GPU,", "8 GPUs", "64 GPU"]
    assert rows[0]["hours"] == round((36 + 10_000) / 3600, 2)
    assert rows[2]["studies a minute"] == 75.0  # 0.8 s of a core each
    assert rows[1]["core- or GPU-hours"] == round(2 * (36 + 10_000 * 60 / 110) / 3600, 2)
    assert all("hours" not in row and row["based on"] == "not measured" for row in rows[3:])
    assert cost_estimate.cost_table(rows).count("not measured") == 3 and cost_estimate.cost_table(rows).endswith("10000 studies.\n")
    assert [run["workers"] for run in read_rows(tmp_path / "batch_runs.csv")] == [1, 2]


def test_a_gpu_is_bound_by_what_is_slowest(tmp_path):
    benchmark = [ROW, {**ROW, "batch": 1, "ms": 900.0}, {**ROW, "way": "dense"}, {**ROW, "dtype": "float32", "ms": 90.0}]
    _, rows = estimate(tmp_path, benchmark)
    # 8 cores take 0.2 + 0.01 s a study; 64 GPUs want more than 200 MB/s of studies of 2 MB
    assert (rows[3]["bound by"], rows[3]["studies a minute"]) == ("cores", round(60 * 8 / 0.21, 1))
    assert (rows[5]["bound by"], rows[5]["studies a minute"]) == ("storage", 6000.0)
    _, rows = estimate(tmp_path, benchmark, "--cores", "64")
    assert (rows[3]["bound by"], rows[3]["studies a minute"]) == ("network", 6000.0)
    _, rows = estimate(tmp_path, benchmark, "--storage", "1000000")
    assert rows[4]["studies a minute"] == round(60 * 8 * 0.9 * 8 / 0.21, 1)


@pytest.mark.parametrize(
    ("benchmark", "word"),
    [
        ([{**ROW, "command": "scripts/bench/benchmark.py"}], "has no rows of a GPU"),
        ([{**ROW, "model": "other"}], "does not hold m"),
        ([{"threads": 1, "command": "x --device cuda"}], "lacks 'model'"),
    ],
)
def test_unfit_files_are_refused(tmp_path, benchmark, word):
    done, _ = estimate(tmp_path, benchmark)
    assert done.exit_code == 2 and word in done.output and not (tmp_path / "out.csv").exists()
