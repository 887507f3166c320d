"""What clients send and are given, on the real server: whole, however slow they are, whatever happens meanwhile; nothing stays behind."""

from __future__ import annotations

import hashlib
import io
import json
import socket
import time
import zipfile
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import quote, urlsplit

import numpy as np
import pytest
import requests

from prato.data.nifti import gzip_bytes, nifti_bytes, read_volume
from tests.app.hearts import heart
from tests.app.live import LiveServer, write_study
from tests.waiting import wait_until

ROI = {"roi": [10, 30, 8, 28, 0, 5]}


def left_in_scratch(server: LiveServer) -> list[str]:
    return [path.name for path in server.scratch.iterdir() if path.name.startswith("prato_") or path.suffix in (".gz", ".nii", ".zip")]


class SlowClient:
    """Has sent a request, and reads the reply when it is told to."""

    def __init__(self, server: LiveServer, request: bytes) -> None:
        where = urlsplit(server.url)
        self._socket = socket.create_connection((where.hostname, where.port), timeout=200)
        self._socket.sendall(request.replace(b"\r\n\r\n", f"\r\nHost: {where.netloc}\r\nConnection: close\r\n\r\n".encode(), 1))
        self._file = self._socket.makefile("rb")
        self.head = b"".join(iter(self._file.readline, b"\r\n"))

    def body(self) -> bytes:
        length = next(int(line.split(b":")[1]) for line in self.head.splitlines() if line.lower().startswith(b"content-length"))
        data = self._file.read(length)
        self._socket.close()
        assert len(data) == length
        return data

    def leave(self) -> None:
        self._file.close()
        self._socket.close()


def infer_request(study: str) -> bytes:
    body = f"params={quote(json.dumps(ROI | {'result_extension': '.nii', 'result_dtype': 'uint16'}))}"
    head = f"POST /infer/prato_unetr?image={quote(study)}&output=image HTTP/1.1\r\nContent-Type: application/x-www-form-urlencoded\r\n"
    return f"{head}Content-Length: {len(body)}\r\n\r\n{body}".encode()


@pytest.fixture
def big(live_server: LiveServer) -> str:
    """A study whose image and mask fit in no buffer between server and client."""
    write_study(live_server.studies / "big.nii.gz", shape=(400, 400, 12), seed=9)
    wait_until(lambda: "big" in requests.get(f"{live_server.url}/datastore/?output=all", timeout=200).json()["objects"], every=0.2)
    return "big"


def test_a_slow_client_gets_its_own_mask_while_others_are_made(live_server: LiveServer, big: str) -> None:
    slow = SlowClient(live_server, infer_request(big))
    assert slow.head.startswith(b"HTTP/1.1 200"), slow.head
    for study in ("heart_a", big):
        assert live_server.infer("prato_unetr", study, ROI).status == 200
    quick = SlowClient(live_server, infer_request(big)).body()
    assert slow.body() == quick and len(quick) > 2 * 400 * 400 * 12
    wait_until(lambda: not left_in_scratch(live_server))


def test_a_study_that_is_replaced_or_removed_while_it_is_sent_arrives_whole(live_server: LiveServer, big: str) -> None:
    path = live_server.studies / "big.nii.gz"
    data = path.read_bytes()
    slow = SlowClient(live_server, f"GET /datastore/image?image={big} HTTP/1.1\r\n\r\n".encode())
    path.unlink()
    assert slow.body() == data
    assert requests.get(f"{live_server.url}/datastore/image", params={"image": big}, timeout=200).status_code == 404


def test_a_packed_folder_is_whole_and_leaves_nothing_behind(live_server: LiveServer) -> None:
    affine = read_volume(live_server.studies / "heart_a.nii.gz").affine
    files = {"label": ("l.nii.gz", gzip_bytes(nifti_bytes(heart(), affine)))}
    assert requests.put(f"{live_server.url}/datastore/label", params={"image": "heart_a"}, files=files, timeout=200).ok
    slow = SlowClient(live_server, b"GET /datastore/dataset HTTP/1.1\r\n\r\n")
    gone = SlowClient(live_server, b"GET /datastore/dataset HTTP/1.1\r\n\r\n")
    gone.leave()
    names = zipfile.ZipFile(io.BytesIO(slow.body())).namelist()
    assert {"image/heart_a.nii.gz", "label/heart_a.nii.gz", "metadata.json"} <= {*names}
    refused = requests.get(f"{live_server.url}/datastore/dataset", params={"limit_cases": 0}, timeout=200)
    assert refused.status_code == 400 and "at least 1" in refused.json()["detail"]
    wait_until(lambda: not left_in_scratch(live_server))


def test_uploads_at_the_same_time_do_not_meet(live_server: LiveServer) -> None:
    """Each of several images, sent at once as a file, as a session and as a study, is answered with its own mask, or stored as it is."""
    sizes = [(30 + 2 * n, 36, 3) for n in range(6)]
    images = [write_study(live_server.scratch.parent / f"up{n}.nii.gz", shape=size, seed=n).read_bytes() for n, size in enumerate(sizes)]

    def send(n: int) -> tuple[int, ...]:
        files = {"file": ("same name.nii.gz", images[n])}
        done = requests.post(f"{live_server.url}/infer/prato_unetr?output=image", data={"params": "{}"}, files=files, timeout=200)
        while done.status_code == 429:
            time.sleep(0.2)
            done = requests.post(f"{live_server.url}/infer/prato_unetr?output=image", data={"params": "{}"}, files=files, timeout=200)
        assert done.status_code == 200, done.text
        (live_server.scratch.parent / f"down{n}.nii.gz").write_bytes(done.content)
        return read_volume(live_server.scratch.parent / f"down{n}.nii.gz").array.shape

    def keep(n: int) -> bytes:
        files = {"file": ("same name.nii.gz", images[n])}
        assert requests.put(f"{live_server.url}/datastore/image", params={"image": f"up{n}"}, files=files, timeout=200).ok
        return requests.get(f"{live_server.url}/datastore/image", params={"image": f"up{n}"}, timeout=200).content

    with ThreadPoolExecutor(12) as pool:
        shapes, kept = pool.map(send, range(6)), pool.map(keep, range(6))
        assert list(shapes) == sizes
        assert list(kept) == images
    for n in range(6):
        assert requests.delete(f"{live_server.url}/datastore/image", params={"id": f"up{n}"}, timeout=200).ok
    wait_until(lambda: not left_in_scratch(live_server))


def test_a_study_called_like_a_file_of_the_servers_is_the_study(live_server: LiveServer) -> None:
    """MONAI Label takes an id for a path where there happens to be one."""
    here = live_server.log.parent / "server.log"
    assert here.exists()
    write_study(live_server.studies / "server.log.nii.gz", seed=2)
    wait_until(lambda: "server.log" in requests.get(f"{live_server.url}/datastore/?output=all", timeout=200).json()["objects"], every=0.2)
    assert live_server.infer("prato_unetr", "server.log", ROI).status == 200
    assert requests.delete(f"{live_server.url}/datastore/image", params={"id": "server.log"}, timeout=200).ok
    assert here.exists() and np.asarray(here.stat().st_size) > 0


@pytest.mark.parametrize("algorithm", ["SHA256", "SHA512", "MD5"])
def test_a_client_can_ask_whether_its_copy_of_an_image_is_the_servers(live_server: LiveServer, algorithm: str) -> None:
    digest = hashlib.new(algorithm, (live_server.studies / "heart_a.nii.gz").read_bytes()).hexdigest()
    asked = [f"{algorithm}:{digest}", f"{algorithm}:{digest.upper()}", f"{algorithm}:{digest[1:]}0"]
    replies = [
        requests.head(f"{live_server.url}/datastore/image", params={"image": "heart_a", "check_sum": each}, timeout=200) for each in asked
    ]
    assert [reply.status_code for reply in replies] == [200, 200, 404]


def test_of_a_study_that_is_not_there_nothing_is_known(live_server: LiveServer) -> None:
    for query in ("image/info?image=", "label/info?tag=final&label="):
        assert requests.get(f"{live_server.url}/datastore/{query}heart_a", timeout=200).ok
        sent = requests.get(f"{live_server.url}/datastore/{query}nobody", timeout=200)
        assert sent.status_code == 404 and sent.json()["detail"].startswith("There is no image 'nobody'")


def test_a_model_is_given_as_its_file_is(live_server: LiveServer) -> None:
    name = sorted((live_server.app / "model").glob("*.safetensors"))[0].stem
    sent = requests.get(f"{live_server.url}/model/{name}", timeout=200)
    assert sent.content == (live_server.app / "model" / f"{name}.safetensors").read_bytes()
    assert f'filename="{name}.safetensors"' in sent.headers["content-disposition"]
    assert requests.get(f"{live_server.url}/model/nothing", timeout=200).status_code == 404
