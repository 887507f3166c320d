"""An idle server is idle, whatever lies in its folder: it uses no processor, and writes nothing. Measured by the kernel."""

from __future__ import annotations

import json
import os
import shutil
import time
from pathlib import Path

import pytest
import requests

from prato.data.nifti import gzip_bytes, nifti_bytes, read_volume
from tests.app.hearts import heart
from tests.app.live import LiveServer, copy_app, start_server, tiny_model, write_study
from tests.waiting import wait_until

pytestmark = pytest.mark.skipif(not Path("/proc/self/io").exists(), reason="only Linux's /proc counts what a process writes")
#: Seconds over which the server is watched.
WATCHED_S = 5.0


def use(pid: int) -> tuple[float, int]:
    """Seconds of processor that the process and its threads have used, and bytes that they have written to anything."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    counts = dict(line.split(": ") for line in Path(f"/proc/{pid}/io").read_text().splitlines())
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK"), int(counts["wchar"])


def watch(pid: int, during_s: float = WATCHED_S) -> tuple[float, int]:
    before = use(pid)
    time.sleep(during_s)
    return use(pid)[0] - before[0], use(pid)[1] - before[1]


@pytest.fixture
def server(tmp_path: Path):
    app, studies = copy_app(tmp_path / "app"), tmp_path / "st$u [d] 'ies"
    (app / "model").mkdir()
    tiny_model(app / "model" / "prato_unetr.safetensors", "unetr")
    (studies / "labels" / "final").mkdir(parents=True)
    write_study(studies / "heart.nii.gz")
    shutil.copy(studies / "heart.nii.gz", studies / "x.nii.gz.nii.gz")
    (studies / "dangling.nii.gz").symlink_to(tmp_path / "nowhere.nii.gz")
    (studies / "labels" / "final" / "heart2.nii.gz").symlink_to(tmp_path / "nowhere.nii.gz")
    (studies / "loop.nii.gz").symlink_to("loop.nii.gz")
    (studies / "folder.nii.gz").mkdir()
    (studies / "._heart.nii.gz").write_bytes(b"a Mac was here")
    with start_server(app, studies, tmp_path / "server.log", {}) as running:
        yield running


def test_after_a_label_and_changes_by_others_nothing_goes_on(server: LiveServer) -> None:
    data = gzip_bytes(nifti_bytes(heart(), read_volume(server.studies / "heart.nii.gz").affine))
    sent = requests.put(f"{server.url}/datastore/label", params={"image": "heart"}, files={"label": ("l.nii.gz", data)}, timeout=200)
    assert sent.status_code == 200, sent.text
    write_study(server.studies / "new.nii.gz", seed=1)
    (server.studies / "datastore_v2.json").touch()

    def studies() -> set[str]:
        return set(requests.get(f"{server.url}/datastore/?output=all", timeout=200).json()["objects"])

    wait_until(lambda: "new" in studies(), every=0.2)
    listed = server.studies / "datastore_v2.json"
    wait_until(lambda: watch(server.process.pid, 1.0)[0] < 0.02)  # models are measured after a start, which takes a while
    before = listed.stat()
    for _ in range(3):  # something else may happen on the machine
        seconds, written = watch(server.process.pid)
        if seconds < 0.05 * WATCHED_S and written == 0:
            break
    assert (listed.stat().st_mtime_ns, listed.stat().st_ino) == (before.st_mtime_ns, before.st_ino)
    assert written == 0
    assert seconds < 0.05 * WATCHED_S
    assert "final" in json.loads(listed.read_bytes())["objects"]["heart"]["labels"]
