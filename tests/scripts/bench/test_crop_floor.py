"""scripts/bench/crop_floor.py: more context, and a larger box, cost more; a bad edge is refused in a sentence."""

import pytest

from scripts.bench import crop_floor
from scripts.common.results import read_rows
from tests.scripts.cli import run_script


@pytest.mark.slow
def test_counts_grow_with_what_is_computed(tmp_path):
    done = run_script(crop_floor.main, "--out", tmp_path / "floor.csv", "--edge", 32, "--edge", 96)
    assert done.exit_code == 0, done.output
    rows = read_rows(tmp_path / "floor.csv")
    for small, large in zip(rows[::2], rows[1::2], strict=True):
        for row in (small, large):
            gflops = row["gflops"]
            assert gflops["engine"] >= gflops["engine, no context"] > gflops["decoding the box alone"] > 0
        assert small["model"] == large["model"] and all(large["gflops"][way] > cost for way, cost in small["gflops"].items())
    (tmp_path / "file").write_text("")
    assert run_script(crop_floor.main, "--out", tmp_path / "file" / "floor.csv", "--edge", 32).exit_code == 2
