"""Whose turn it is to compute, and what many requests leave behind."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any
from urllib.parse import quote

import numpy as np
import psutil
import pytest
import requests

from prato.prompts.box import Box
from prato.prompts.mask_prompt import encode_part
from tests.app.guarded import ROI, TOKEN, WAITING, ask, refused, state
from tests.app.live import LiveServer
from tests.waiting import wait_until

#: Of the long study, without pruning; a box, as a labeller draws one.
ALL = '{"prune": "off", "roi": [0, 40, 0, 36, 0, 1000]}'


@pytest.fixture
def busy(guarded_server: LiveServer) -> Iterator[Future[requests.Response]]:
    """An inference of many slices, which computes under the id ``long-one``."""
    query, form = {"image": "long", "output": "json"}, {"params": ALL}
    headers = {**guarded_server.headers, "X-Request-ID": "long-one"}
    url = f"{guarded_server.url}/infer/prato_swin_unetr"
    with ThreadPoolExecutor(1) as pool:
        yield pool.submit(requests.post, url, params=query, data=form, headers=headers, timeout=200)
        ask(guarded_server, "DELETE", "/infer/long-one")
    wait_until(lambda: line_length(guarded_server) == 0)


def line_length(server: LiveServer) -> int:
    return int(state(server)["line"]["length"])


def sent(server: LiveServer, image: str) -> socket.socket:
    """The connection of a client that asked for ``image``, all of it, without pruning."""
    form = b"params=" + quote(ALL).encode()
    head = f"POST /infer/prato_swin_unetr?image={image} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {TOKEN}\r\n"
    head += f"Content-Type: application/x-www-form-urlencoded\r\nContent-Length: {len(form)}\r\n\r\n"
    line = socket.create_connection(("127.0.0.1", int(server.url.rsplit(":", 1)[1])), timeout=200)
    line.sendall(head.encode() + form)
    return line


def test_a_full_line_sends_the_next_one_away(guarded_server: LiveServer, busy: Future[requests.Response]) -> None:
    wait_until(lambda: line_length(guarded_server) == 1)
    with ThreadPoolExecutor(WAITING) as pool:
        waiting = [pool.submit(guarded_server.infer, "prato_unetr", study, {"roi": ROI}) for study in ("a_ED", "b_ED")]
        wait_until(lambda: line_length(guarded_server) == 1 + WAITING)
        response = ask(guarded_server, "POST", "/infer/prato_unetr?image=a_ED", data={"params": "{}"})
        refused(response, 429, f"{WAITING} requests are waiting already")
        assert int(response.headers["Retry-After"]) >= 1
        assert ask(guarded_server, "GET", "/info/").ok  # others are answered all the while
        assert ask(guarded_server, "DELETE", "/infer/long-one").json() == {"cancelled": "long-one"}
        masks = [job.result() for job in waiting]
    assert [mask.status for mask in masks] == [200, 200]
    # side by side as one after the other
    assert [mask.file for mask in masks] == [guarded_server.infer("prato_unetr", study, {"roi": ROI}).file for study in ("a_ED", "b_ED")]
    refused(busy.result(), 499, "was cancelled")
    assert {entry["status"] for entry in state(guarded_server)["requests"]} >= {200, 429, 499}
    refused(ask(guarded_server, "DELETE", "/infer/long-one"), 404, "long-one")


def test_a_click_waits_for_nobody_s_images(guarded_server: LiveServer, busy: Future[requests.Response]) -> None:
    """Whatever computes, and however many wait behind it."""
    mask = np.zeros((40, 36, 5), np.uint8)
    mask[10:30, 8:28, 1:4] = 2
    previous = encode_part(mask, Box((0, 0, 0), mask.shape))
    click = {"clicks": [{"structure": "LV cavity", "points": [[20, 18, 2]]}], "previous": previous}
    wait_until(lambda: line_length(guarded_server) == 1)
    with ThreadPoolExecutor(WAITING) as pool:
        waiting = [pool.submit(guarded_server.infer, "prato_unetr", study, {"roi": ROI}) for study in ("a_ED", "b_ED")]
        wait_until(lambda: line_length(guarded_server) == 1 + WAITING)
        response = ask(guarded_server, "POST", "/infer/prato_unetr?image=a_ED&output=json", data={"params": json.dumps(click)})
        assert response.ok, response.text
        assert response.json()["refined"]["changed_voxels"] >= 1
        assert line_length(guarded_server) == 1 + WAITING and not busy.done()
        ask(guarded_server, "DELETE", "/infer/long-one")
        assert [job.result().status for job in waiting] == [200, 200]


@pytest.mark.parametrize(
    ("params", "sentence"), [({"prunee": "50"}, "'prunee' is not a parameter here"), ({"device": "tpu"}, "device 'tpu'")]
)
def test_what_no_image_could_be_asked_is_refused_without_a_wait(
    guarded_server: LiveServer, busy: Future[requests.Response], params: dict[str, str], sentence: str
) -> None:
    wait_until(lambda: line_length(guarded_server) == 1)
    response = ask(guarded_server, "POST", "/infer/prato_unetr?image=a_ED", data={"params": json.dumps(params)})
    refused(response, 400, sentence)
    assert not busy.done()


def test_a_client_that_hangs_up_frees_its_place(guarded_server: LiveServer) -> None:
    def given_up() -> int:
        return len([entry for entry in state(guarded_server)["requests"] if entry["status"] == 499])

    before = given_up()
    with sent(guarded_server, "long"):
        wait_until(lambda: line_length(guarded_server) == 1)
        with sent(guarded_server, "a_ED"):
            wait_until(lambda: line_length(guarded_server) == 2)
        wait_until(lambda: line_length(guarded_server) == 1)  # the one that waited
    wait_until(lambda: given_up() == before + 2)  # and the one that computed
    assert guarded_server.infer("prato_unetr", "a_ED", {"roi": ROI}).status == 200


def test_many_requests_leave_no_memory_and_no_files_behind(guarded_server: LiveServer) -> None:
    process = psutil.Process(guarded_server.process.pid)
    image = (guarded_server.studies / "b_ED.nii.gz").read_bytes()

    def several(count: int) -> None:
        for n in range(count):
            sent: dict[str, Any] = {"data": {"params": "{}"}, "params": {"output": "image"}}
            if n % 2:
                sent["files"] = {"file": ("x.nii.gz", image)}
            else:
                sent["params"]["image"] = "a_ED"
            assert ask(guarded_server, "POST", "/infer/prato_unetr", **sent).ok

    several(15)  # allocators and caches fill
    wait_until(lambda: not list(guarded_server.scratch.glob("*.nii*")))
    before = process.memory_info().rss
    several(45)
    grown = (process.memory_info().rss - before) / 45
    assert grown < 0.2 * 2**20, f"{grown / 2**20:.2f} MiB a request"
    wait_until(lambda: not list(guarded_server.scratch.glob("*.nii*")))
