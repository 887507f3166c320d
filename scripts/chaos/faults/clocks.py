"""Clocks that jump: the server's own, and the times of its files."""

from __future__ import annotations

import os
from pathlib import Path

from scripts.chaos.faults.bench import Bench

_YEARS = 365 * 86400.0
_HOUR = 3600.0


def jumps(bench: Bench) -> str:
    """`time.time` is shifted in the server and in the process that trains, see ``jumping_clock``; no other clock is."""
    clock = bench.folder / "scratch" / "clock"
    clock.write_text("0")
    here = str(Path(__file__).parent / "jumping_clock")
    bench.settings |= {"FAULTS_CLOCK": str(clock), "PYTHONPATH": os.pathsep.join(filter(None, [here, os.environ.get("PYTHONPATH")]))}
    bench.start()
    for offset in (0, 10 * _YEARS, -10 * _YEARS):
        clock.write_text(str(offset))
        bench.use(well=True)
    bench.train_until_step(1)
    for offset in (-10 * _YEARS + _HOUR, -10 * _YEARS - _HOUR):
        clock.write_text(str(offset))
        bench.use(well=True)
    bench.request("DELETE", "/train/")
    bench.kill()
    clock.write_text(str(-20 * _YEARS))
    bench.start()
    if bench.train().get("state") != "done":
        bench.wrong.append("a training after the clock went back was not done")
    return "time.time alone (in server and training process, by a patch) 10 years forth, 10 back, an hour to and fro in a training, 20 back"


def file_times(bench: Bench) -> str:
    """Every file of 1970 or of a far future, before a start and under the running server."""
    bench.start()
    for year in (0.0, 200 * _YEARS):
        for path in (*bench.studies.rglob("*"), *(bench.app / "model").rglob("*")):
            os.utime(path, (year, year))
        bench.use(well=True)
        for path in (*bench.studies.rglob("*"), *(bench.app / "model").rglob("*")):
            os.utime(path, (year, year))
        bench.kill()
        bench.start()
        bench.use(well=True)
    return "all files dated 1970, then 2169 (os.utime), under the running server and before a start"
