"""Labelling on Ray with processes killed by -9: every mask is there once, and as one process makes it. A cluster starts once a file."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest
import torch

from prato.archive.studies import Job
from prato.models.checkpoint import save_model
from scripts import batch_label
from tests.phantoms import make_thin_phantoms
from tests.prato.conftest import small_spec
from tests.scripts.cli import run_script
from tests.waiting import HANG_S, wait_until

ray = pytest.importorskip("ray", reason="Ray is not installed: pip install -r requirements-ray.txt")
from scripts.common.batch_cluster import Crew, connect  # noqa: E402

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[3]
PATH = os.pathsep.join(map(str, (ROOT, ROOT / "apps" / "prato_label")))
STUDIES = 16


@pytest.fixture(scope="module")
def archive(tmp_path_factory):
    folder = tmp_path_factory.mktemp("archive")
    make_thin_phantoms(folder / "studies", 2)
    # so many that a kill meant for the middle comes before the end, however busy the machine
    for image in sorted((folder / "studies").glob("*.nii.gz")):
        for n in range(STUDIES // 4 - 1):
            shutil.copy(image, image.with_name(f"copy{n}_{image.name}"))
    torch.manual_seed(0)
    save_model(folder / "small.safetensors", small_spec("swin_unetr").build(), small_spec("swin_unetr"))
    return folder


def arguments(archive, out, *more):
    return [str(a) for a in ("--studies", archive / "studies", "--out", out, "--model", archive / "small.safetensors", *more)]


@contextmanager
def started(log, *given):
    """The script as a process that is killed, if need be, at the end."""
    with log.open("w") as said:
        command = [sys.executable, str(ROOT / "scripts" / "batch_label.py"), *given]
        driver = subprocess.Popen(command, env={**os.environ, "PYTHONPATH": PATH}, stdout=said, stderr=said)
        try:
            yield driver
        finally:
            driver.kill()
            driver.wait()


def records(out):
    path = out / "records.jsonl"
    return [json.loads(line) for line in path.read_bytes().split(b"\n")[:-1]] if path.exists() else []


def until(met, driver, log):
    def alive():
        assert driver.poll() is None, log.read_text()

    wait_until(met, alive, log.read_text)


@dataclass(frozen=True)
class Killed:
    """What a killed driver left: its folder, and the processes of its cluster."""

    out: Path
    family: list[psutil.Process]


@pytest.fixture(scope="module")
def killed(archive, tmp_path_factory):
    """A driver with a cluster of its own, killed in the middle."""
    folder = tmp_path_factory.mktemp("killed")
    out, log = folder / "ray", folder / "log"
    with started(log, *arguments(archive, out, "--workers", "1")) as driver:
        until(lambda: len(records(out)) >= 2, driver, log)
        family = psutil.Process(driver.pid).children(recursive=True)
        driver.kill()
    return Killed(out, family)


def test_a_driver_is_killed_in_the_middle(killed):
    """Comes first: its cluster ends while the other tests run."""
    assert 2 <= len(records(killed.out)) < STUDIES and killed.family


@pytest.fixture(scope="module")
def cluster():
    """The address of a cluster of two cores."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("PYTHONPATH", PATH)  # for its workers
        patched.setenv("RAY_worker_niceness", "0")  # as other tests are that run beside them
        connect("", 2, 0)
        ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])  # its workers cannot import a test
        yield ray.get_runtime_context().gcs_address
        ray.shutdown()


class Deadly:
    """Stands where a labeller does, and dies of studies called deadly, or of those called frail the first time."""

    parameters = {"prune": None}

    def label(self, job):
        once = Path(job.image)
        if job.study == "deadly" or (job.study == "frail" and not once.exists()):
            once.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return {"study": job.study, "status": "done"}


def test_a_study_that_kills_its_workers_is_given_up_and_the_others_are_not(cluster, tmp_path):
    jobs = [Job(name, str(tmp_path / name)) for name in ("a", "deadly", "frail", "z")]
    found = {record["study"]: record for record in Crew(jobs, Deadly, Deadly.parameters, 2).records()}
    assert {name: record["status"] for name, record in found.items()} == {"a": "done", "deadly": "failed", "frail": "done", "z": "done"}
    assert "died 3 times" in found["deadly"]["error"]


def test_what_cannot_run_is_a_sentence(cluster):
    with pytest.raises(ValueError, match="other model files"):
        list(Crew([Job("a", "")], Deadly, {"prune": "50"}, 1).records())
    with pytest.raises(ValueError, match=r"No worker starts.*no such thing"):
        list(Crew([Job("a", "")], failing, Deadly.parameters, 1).records())


def failing():
    raise RuntimeError("no such thing")


def test_after_a_killed_driver_every_mask_is_there_once(cluster, killed, archive, tmp_path):
    out, log = killed.out, tmp_path / "log"
    with started(log, *arguments(archive, out, "--workers", "1", "--address", cluster)) as again:
        assert again.wait(HANG_S) == 0, log.read_text()
    assert f"{STUDIES} of {STUDIES} studies" in log.read_text()
    (tmp_path / "list.txt").write_text("\n".join(map(str, (archive / "studies").glob("phantom*.nii.gz"))))
    alone = run_script(batch_label.main, *arguments(archive, tmp_path / "alone", "--local", "--studies", tmp_path / "list.txt"))
    assert alone.exit_code == 0, alone.output
    ours, theirs = ({path.name: path.read_bytes() for path in folder.glob("*.nii.gz")} for folder in (out, tmp_path / "alone"))
    assert len(ours) == STUDIES and len(theirs) == 4
    assert ours == {name: theirs[re.sub(r"copy\d_", "", name)] for name in ours}
    studies = [record["study"] for record in records(out)]
    assert len(studies) == STUDIES and studies == sorted(set(studies))
    assert not list(out.glob(".*.tmp"))


def test_the_cluster_of_a_killed_driver_went_with_it(killed):
    """Comes last: two of Ray's own processes take a minute to end."""
    _, alive = psutil.wait_procs(killed.family, timeout=HANG_S)
    assert not alive


def test_ray_that_does_not_start_in_time_is_one_sentence(archive, tmp_path, monkeypatch):
    def init(*_, **__):
        raise Exception("The current node timed out during startup.\nThis could happen because of load.")  # as ray._private.node says it

    monkeypatch.setattr(ray, "init", init)
    refused = run_script(batch_label.main, *arguments(archive, tmp_path / "out"))
    assert refused.exit_code == 2 and "no Ray cluster at this machine: The current node timed out during startup." in refused.output
