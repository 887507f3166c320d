"""Names, paths, sizes and texts that clients should never send, and the files of the server as they were."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator

import numpy as np
import pytest

from prato.data.nifti import nifti_bytes, read_volume
from prato.data.nifti_head import MAX_VOXEL_BYTES
from tests.app.guarded import ROI, TOKEN, ask, refused
from tests.app.hearts import heart
from tests.app.live import LiveServer
from tests.waiting import wait_until

#: What must never become a part of a path, whoever sends it as what.
BAD_NAMES = [
    *(
        "../escaped",
        "..",
        ".",
        "/etc/cron.d/x",
        "..\\escaped",
        "C:\\x",
        "a/b",
        "a\\b",
        "~root",
        "\uff0e\uff0e\uff0fx",
        "a\u2215b",
        "-rf",
        ".hidden",
    ),
    *("-rf", ".hidden", "%2e%2e%2fescaped", "ä" * 140, "a" * 500, " ", "x\u202ey", "$(id)", "con|x"),
]


def files(server: LiveServer) -> dict[str, bytes]:
    """The server's files but for its list of the studies, which says when it was written."""
    return {path: data for path, data in server.tree().items() if "datastore_v2" not in path}


@pytest.mark.parametrize("name", BAD_NAMES)
def test_no_name_leads_out_of_the_studies_folder(guarded_server: LiveServer, name: str) -> None:
    before = files(guarded_server)
    parent = set(guarded_server.studies.parent.rglob("escaped*"))
    image = (guarded_server.studies / "a_ED.nii.gz").read_bytes()
    mask = nifti_bytes(heart(), read_volume(guarded_server.studies / "a_ED.nii.gz").affine)
    form = {"params": "{}"}
    asked = [
        ("PUT", "/datastore/image", {"params": {"image": name}, "files": {"file": ("x.nii.gz", image)}, "data": form}),
        ("PUT", "/datastore/image", {"files": {"file": (f"{name}.nii.gz", image)}, "data": form} if name not in ("..", ".", " ") else None),
        ("PUT", "/datastore/label", {"params": {"image": name, "tag": "final"}, "files": {"label": ("x.nii", mask)}, "data": form}),
        ("PUT", "/datastore/label", {"params": {"image": "a_ED", "tag": name}, "files": {"label": ("x.nii", mask)}, "data": form}),
        ("DELETE", "/datastore/image", {"params": {"id": name}}),
        ("DELETE", "/datastore/label", {"params": {"id": name, "tag": "final"}}),
        ("DELETE", "/datastore/label", {"params": {"id": "a_ED", "tag": name}}),
        ("GET", "/datastore/image", {"params": {"image": name}}),
        ("GET", "/datastore/label", {"params": {"label": "a_ED", "tag": name}}),
        ("GET", "/datastore/image/info", {"params": {"image": name}}),
        ("GET", "/datastore/label/info", {"params": {"label": name, "tag": "final"}}),
        ("PUT", "/datastore/image/info", {"params": {"image": name}, "data": {"info": "{}"}}),
        ("PUT", "/datastore/label/info", {"params": {"label": name, "tag": "final"}, "data": {"info": "{}"}}),
        ("POST", "/infer/prato_unetr", {"params": {"image": name}, "data": form}),
        ("POST", "/infer/prato_unetr", {"params": {"image": "a_ED"}, "data": {"params": json.dumps({"image": name})}}),
        ("POST", "/infer/prato_unetr", {"params": {"session_id": name}, "data": form}),
        ("POST", "/infer/prato_unetr", {"params": {"image": "a_ED"}, "data": {"params": json.dumps({"model": name})}}),
        ("POST", "/train/prato_unetr", {"json": {"model": name}}),
        ("POST", "/train/prato_unetr", {"json": {"dataset": name}}),
    ]
    for method, path, parts in asked:
        if parts is None:
            continue
        response = ask(guarded_server, method, path, **parts)
        if path == "/datastore/image" and method == "PUT" and "params" not in parts and response.ok:
            # of a path that a file was called by, its last part may be a good name
            made = response.json()["image"]
            assert "/" not in made
            assert ask(guarded_server, "DELETE", f"/datastore/image?id={made}").ok
            wait_until(lambda m=made: not (guarded_server.studies / f"{m}.nii.gz").exists())
        else:
            assert 400 <= response.status_code < 500, (path, parts.get("params"), response.text)
            refused(response, response.status_code)
    assert {k: v for k, v in guarded_server.tree().items() if "datastore" not in k} == {
        k: v for k, v in before.items() if "datastore" not in k
    }
    assert set(guarded_server.studies.parent.rglob("escaped*")) == parent


def test_paths_that_climb_reach_no_route(guarded_server: LiveServer) -> None:
    hidden = ("/ohif/%2e%2e/%2e%2e/x", "/session/%2e%2e", "/model/..%2fx", "/infer/..%5cx", "/session/%00")
    for path in ("/static/../../main.py", "/ohif/..", *hidden):
        with socket.create_connection(("127.0.0.1", int(guarded_server.url.rsplit(":", 1)[1])), timeout=200) as line:
            line.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {TOKEN}\r\nConnection: close\r\n\r\n".encode())
            said = b"".join(iter(lambda: line.recv(65536), b""))
        assert said.startswith(b"HTTP/1.1 400"), (path, said)


def test_uploads_are_taken_by_what_they_hold_not_by_their_names(guarded_server: LiveServer) -> None:
    image = (guarded_server.studies / "a_ED.nii.gz").read_bytes()
    known = guarded_server.infer("prato_unetr", "a_ED", {"roi": ROI}).file
    with guarded_server.leaves_no_file():
        for name in ("../../x.nii.gz", "\\..\\x.nii.gz", "x." + "n" * 300, "x\0y.nii.gz", "..", "ü.nii.gz"):
            sent = {"files": {"file": (name, image)}, "data": {"params": json.dumps({"roi": ROI})}}
            assert guarded_server.read(ask(guarded_server, "POST", "/infer/prato_unetr", **sent)).file == known
            made = ask(guarded_server, "PUT", "/session/", files={"files": (name, image)})
            assert made.ok, made.text
            assert guarded_server.infer("prato_unetr", None, {"roi": ROI}, session_id=made.json()["session_id"]).file == known
            assert ask(guarded_server, "DELETE", f"/session/{made.json()['session_id']}").ok
        refused(ask(guarded_server, "GET", "/session/cut-short"), 404, "no session 'cut-short'")
        refused(ask(guarded_server, "PUT", "/session/?uncompress=true", files={"files": ("x.zip", image)}), 400, "without uncompress")
        refused(ask(guarded_server, "PUT", "/session/", files=[("files", ("x", image)), ("files", ("y", image))]), 400, "one NIfTI file")
        refused(ask(guarded_server, "PUT", "/session/", files={"files": ("x.nii", b"#!/bin/sh")}), 400, "not readable NIfTI")


def test_too_much_is_refused_before_it_is_read(guarded_server: LiveServer) -> None:
    before = files(guarded_server)
    refused(ask(guarded_server, "PUT", "/datastore/image?image=big", files={"file": ("x.nii", bytes(2**20))}), 413, "more than 1 MiB")
    refused(ask(guarded_server, "POST", "/infer/prato_unetr?image=a_ED", data={"params": "x" * 2**20}), 413, "more than 1 MiB")

    def streamed() -> Iterator[bytes]:
        yield b'--x\r\nContent-Disposition: form-data; name="file"; filename="x.nii"\r\n\r\n'
        yield from (bytes(2**16) for _ in range(20))

    headers = {**guarded_server.headers, "Content-Type": "multipart/form-data; boundary=x"}
    refused(ask(guarded_server, "POST", "/infer/prato_unetr", data=streamed(), headers=headers), 413, "more than 1 MiB")
    vast = nifti_bytes(np.zeros((2, 2, 2), np.int16), np.eye(4))
    side = int((MAX_VOXEL_BYTES / 2) ** (1 / 3)) + 2
    vast = vast[:42] + np.array([side] * 3, "<i2").tobytes() + vast[48:]
    for method, path, part in (
        ("PUT", "/datastore/image?image=vast", "file"),
        ("PUT", "/datastore/label?image=a_ED", "label"),
        ("PUT", "/session/", "files"),
        ("POST", "/infer/prato_unetr", "file"),
    ):
        refused(ask(guarded_server, method, path, files={part: ("x.nii", vast)}), 413, "holds more voxels")
    (guarded_server.studies / "vast.nii").write_bytes(vast)
    try:
        wait_until(lambda: "vast" in ask(guarded_server, "GET", "/datastore/?output=all").text)
        refused(ask(guarded_server, "POST", "/infer/prato_unetr?image=vast", data={"params": "{}"}), 413, "holds more voxels")
    finally:
        (guarded_server.studies / "vast.nii").unlink()
    assert {k: v for k, v in guarded_server.tree().items() if "datastore" not in k} == {
        k: v for k, v in before.items() if "datastore" not in k
    }


def test_nothing_can_be_stored_that_no_reply_can_say(guarded_server: LiveServer) -> None:
    mask = nifti_bytes(heart(), read_volume(guarded_server.studies / "a_ED.nii.gz").affine)
    for poison in ('{"x": NaN}', '{"x": 1e999}', '{"x": "\\ud800"}', '{"x": ' + "[" * 3000 + "]" * 3000 + "}", "[1]"):
        sent = {"files": {"label": ("x.nii", mask)}, "data": {"params": poison}}
        refused(ask(guarded_server, "PUT", "/datastore/label?image=a_ED&tag=final", **sent), 400)
        refused(ask(guarded_server, "PUT", "/datastore/image/info?image=a_ED", data={"info": poison}), 400)
        headers = {**guarded_server.headers, "Content-Type": "application/json"}
        refused(ask(guarded_server, "POST", "/activelearning/first", data=poison, headers=headers), 400)
    refused(
        ask(guarded_server, "PUT", "/datastore/image/info?image=a_ED", data={"info": '{"strategy": "x"}'}), 400, "must not set strategy"
    )
    assert ask(guarded_server, "PUT", "/datastore/image/info?image=a_ED", data={"info": '{"note": "ä"}'}).ok
    assert ask(guarded_server, "GET", "/datastore/?output=all").json()["objects"]["a_ED"]["image"]["info"]["note"] == "ä"
    assert ask(guarded_server, "POST", "/activelearning/first", json={}).ok
