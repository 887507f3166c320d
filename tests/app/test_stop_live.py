"""How the server ends; the last file of those that use it."""

from __future__ import annotations

import signal
import threading

import psutil

from tests.app.guarded import state
from tests.app.live import LiveServer, Reply
from tests.waiting import wait_until


def test_it_ends_gracefully(guarded_server: LiveServer) -> None:
    """What computes is answered, jobs of the server end with it, and nothing was an error."""
    replies: list[Reply] = []
    params = {"roi": [8, 32, 6, 30, 0, 80]}
    thread = threading.Thread(target=lambda: replies.append(guarded_server.infer("prato_swin_unetr", "long", params, output="json")))
    thread.start()
    wait_until(lambda: replies or state(guarded_server)["line"]["length"] == 1)
    children = psutil.Process(guarded_server.process.pid).children(recursive=True)
    guarded_server.process.send_signal(signal.SIGTERM)
    assert guarded_server.process.wait(200) in (0, -signal.SIGTERM)
    thread.join()
    assert [reply.status for reply in replies] == [200]
    assert not [child for child in children if child.is_running() and child.status() != psutil.STATUS_ZOMBIE]
    log = guarded_server.log.read_text()
    assert "Finished server process" in log
    assert "Traceback" not in log
