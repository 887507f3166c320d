"""kill -9: of the server while labels come in, of the server while it trains, and of the process that trains."""

from __future__ import annotations

import signal
import time
from concurrent.futures import ThreadPoolExecutor

import psutil

from scripts.chaos.faults.bench import Bench


def server_during_submits(bench: Bench) -> str:
    """Three times: four labellers submit to two studies at once until the server is killed, at some moment or other."""
    rounds, studies = 3, list(bench.labels)[:2]
    for _ in range(rounds):
        bench.start()
        end = time.monotonic() + 60

        def submits(n: int, end: float = end) -> None:
            while not bench.dying and time.monotonic() < end:
                bench.submit(studies[n % 2])

        known, after = len(bench.acknowledged), bench.random.uniform(0, 1)
        with ThreadPoolExecutor(4) as pool:
            for n in range(4):
                pool.submit(submits, n)
            while len(bench.acknowledged) < known + 4 and time.monotonic() < end:
                time.sleep(0.01)
            time.sleep(after)
            bench.dying = True
            bench.kill()
        bench.dying = False
    bench.start()
    return f"{rounds} times kill -9 of the server while four labellers submitted"


def server_during_training(bench: Bench) -> str:
    """The training must be told as interrupted, and go on where it was."""
    bench.start()
    bench.train_until_step(3)
    bench.kill()
    bench.start()
    if (state := bench.job().get("state")) != "interrupted":
        bench.wrong.append(f"the training that was cut off is told as {state}")
    bench.train_until_step(2)
    bench.request("DELETE", "/train/")
    return "kill -9 of the server in the middle of a training, which is then taken up"


def training_process(bench: Bench) -> str:
    """Once in the middle of a training, once while it waits for the next."""
    bench.start()
    bench.train_until_step(2)
    _kill_worker(bench)
    job = bench.ended()
    if job.get("state") != "failed" or "killed" not in job.get("sentence", ""):
        bench.wrong.append(f"the training whose process was killed is told as {job.get('state')}: {job.get('sentence')}")
    for waiting in (False, True):
        if waiting:
            _kill_worker(bench)
        if (state := bench.train().get("state")) != "done":
            bench.wrong.append(f"a training after its process was killed ended as {state}")
    return "kill -9 of the process that trains, during a training and between two"


def _kill_worker(bench: Bench) -> None:
    assert bench.server
    workers = [p for p in psutil.Process(bench.server.process.pid).children() if "prato.retraining" in p.cmdline()]
    if not workers:
        bench.wrong.append("there was no process that trains to be killed")
    for worker in workers:
        worker.send_signal(signal.SIGKILL)
