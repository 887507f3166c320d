"""Short versions of what ``scripts/chaos/prove_fuzz.py`` and ``scripts/chaos/prove_load.py`` do at length."""

from __future__ import annotations

import threading
import time

import numpy as np

from prato.data.nifti import read_volume
from scripts.chaos.load_clients import Worker, stored_labels
from scripts.chaos.prove_fuzz import files, send_fuzz
from tests.app.guarded import ROI, ask
from tests.app.hearts import heart
from tests.app.live import LiveServer
from tests.waiting import HANG_S


def test_nothing_that_is_sent_breaks_the_server(guarded_server: LiveServer) -> None:
    home = guarded_server.studies.parent
    own = (guarded_server.studies, guarded_server.app / "model", guarded_server.app / "logs", home / "sessions", home / "scratch")
    known = guarded_server.infer("prato_unetr", "a_ED", {"roi": ROI}).file
    before = files(home, except_for=(*own, guarded_server.log))
    contents = ((guarded_server.studies / "a_ED.nii.gz").read_bytes(), b"")
    statuses, failures = send_fuzz(guarded_server.url, guarded_server.headers, 250, 3, ("a_ED", "prato_unetr", "final"), contents)
    assert failures == []
    assert sum(counts.total() for counts in statuses.values()) >= 250
    assert len(statuses) > 25
    assert sum(counts[401] for counts in statuses.values()) == 0
    assert files(home, except_for=(*own, guarded_server.log)) == before
    assert guarded_server.infer("prato_unetr", "a_ED", {"roi": ROI}).file == known


def test_labellers_side_by_side_lose_no_label(guarded_server: LiveServer) -> None:
    affine = read_volume(guarded_server.studies / "a_ED.nii.gz").affine
    labels = {study: (heart().astype(np.uint8), affine) for study in ("a_ED", "b_ED")}
    workers = [Worker(guarded_server.url, n, labels, guarded_server.headers) for n in range(3)]
    end = time.monotonic() + 8

    def going_on() -> bool:
        """On a busy machine until there is something to be lost."""
        return time.monotonic() < end or (time.monotonic() < end + HANG_S and not any(worker.seen.taken for worker in workers))

    threads = [threading.Thread(target=worker.work, args=(going_on,)) for worker in workers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    taken = set().union(*(worker.seen.taken for worker in workers))
    assert taken
    assert taken <= stored_labels(guarded_server.studies)
    assert [line for worker in workers for line in worker.seen.unexplained] == []
    assert ask(guarded_server, "GET", "/datastore/?output=all").ok
