"""scripts/bench/crop_floor.py: more context, and a larger box, cost more; a bad edge is refused in a sentence."""

import json
import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).parents[3] / "scripts" / "bench" / "crop_floor.py"


def run(*arguments):
    return subprocess.run([sys.executable, SCRIPT, *map(str, arguments)], capture_output=True, text=True, check=False)


def test_counts_grow_with_what_is_computed(tmp_path):
    done = run("--out", tmp_path / "floor.json", "--edge", 32, "--edge", 96)
    assert done.returncode == 0, done.stderr
    rows = json.loads((tmp_path / "floor.json").read_text())["rows"]
    for small, large in zip(rows[::2], rows[1::2], strict=True):
        for row in (small, large):
            gflops = row["gflops"]
            assert gflops["engine"] >= gflops["engine, no context"] > gflops["decoding the box alone"] > 0
        assert small["model"] == large["model"] and all(large["gflops"][way] > cost for way, cost in small["gflops"].items())
    assert run("--out", tmp_path / "no" / "folder.json", "--edge", 32).returncode == 2
