"""A zip archive of DICOM files sent to the server: its short-axis cine becomes studies, or nothing changes."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import requests

from prato.data.nifti import read_volume
from tests.app.guarded import ask, refused
from tests.app.live import LiveServer
from tests.prato.dicom.scans import NAME, NUMBER, Scan, decoys, to_bytes

SCAN = Scan(9, rows=36, columns=40, spacing=(4.0, 4.0))


@pytest.fixture(scope="module")
def archive() -> bytes:
    """A cine among other series."""
    return pack({f"IM{n:04d}": to_bytes(ds) for n, ds in enumerate([*SCAN.images(), *decoys()])})


@pytest.fixture(autouse=True)
def cleaned_up(guarded_server: LiveServer) -> Iterator[None]:
    """The server is left with the studies that it had."""
    before = set(guarded_server.studies.iterdir())
    yield
    for path in set(guarded_server.studies.iterdir()) - before:
        if path.name.endswith(".nii.gz"):
            assert ask(guarded_server, "DELETE", f"/datastore/image?id={path.name.removesuffix('.nii.gz')}").ok
        path.unlink(missing_ok=True)


def pack(files: dict[str, bytes]) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return stream.getvalue()


def announce(archive: bytes, size: int) -> bytes:
    """``archive`` whose only file is said to unpack to ``size`` bytes."""
    entry = archive.index(b"PK\x01\x02")
    return archive[: entry + 24] + size.to_bytes(4, "little") + archive[entry + 28 :]


def send(server: LiveServer, data: bytes, phases: str = "ed,es", **parts: Any) -> requests.Response:
    return ask(server, "POST", "/prato/import", params={"phases": phases}, files={"file": ("CD.zip", data)}, **parts)


def files(server: LiveServer) -> dict[str, bytes]:
    return {path: data for path, data in server.tree().items() if "datastore_v2" not in path}


def test_a_cine_becomes_studies_that_can_be_segmented(guarded_server: LiveServer, archive: bytes) -> None:
    reply = send(guarded_server, archive)
    assert reply.status_code == 200, reply.text
    said = reply.json()
    [cine] = said["imported"]
    assert (cine["slices"], cine["phases"], cine["is_new"]) == (5, 8, True) and said["refused"] == []
    assert any("series 7" in line and line.endswith("one phase") for line in said["left_out"]), said["left_out"]
    whole, first, _ = cine["studies"]
    assert (
        whole.endswith("_4d") and first == f"{whole.removesuffix('_4d')}_frame01" and (guarded_server.studies / f"{whole}.json").is_file()
    )
    listed = ask(guarded_server, "GET", "/datastore/?output=all").json()
    assert set(cine["studies"]) <= set(listed["objects"])
    assert np.array_equal(read_volume(guarded_server.studies / f"{first}.nii.gz").array, SCAN.array()[..., 0])
    assert guarded_server.infer("prato_unetr", first, {}).status == 200
    stored = files(guarded_server)
    assert not any(word.encode() in data for data in stored.values() for word in (NAME, NUMBER))

    again = send(guarded_server, archive)
    assert again.status_code == 200 and [cine["is_new"] for cine in again.json()["imported"]] == [False]
    assert files(guarded_server) == stored
    sidecar = guarded_server.studies / f"{whole}.json"
    sidecar.write_text(json.dumps({**json.loads(sidecar.read_bytes()), "rr_interval_ms": 1.0}))
    refused(send(guarded_server, archive), 409, f"{whole}.json already exists with other content (other values of rr_interval_ms): remove")
    assert ask(guarded_server, "DELETE", f"/datastore/image?id={whole}").ok
    assert send(guarded_server, archive).status_code == 200 and files(guarded_server) == stored


def test_what_cannot_be_imported_is_refused_whole(guarded_server: LiveServer, archive: bytes) -> None:
    before = files(guarded_server)
    with guarded_server.leaves_no_file():
        image = to_bytes(SCAN.image(0, 0))
        many = pack({f"{n:0600d}": b"" for n in range(2)})
        for data, status, words in [
            (b"no archive", 400, "The upload is not a zip archive"),
            (image, 400, "The upload is not a zip archive"),
            (archive[:-300], 400, "The upload is"),
            (pack({"readme.txt": b"hello"}), 400, "The upload holds no DICOM files"),
            (pack({"../../x.dcm": image}), 400, "names a file outside of its folder"),
            (announce(pack({"x.dcm": image}), 600 * 2**20), 400, "would unpack to 1 files of 0.6 GiB"),
            (many, 400, "holds no DICOM files"),
            (pack({"a": image}), 400, "Nothing was imported: these files contain no short-axis cine (series 9"),
            (pack({f"{n}": to_bytes(ds) for n, ds in enumerate(SCAN.images()[1:])}), 400, "a phase is missing"),
            (bytes(2**20), 413, "more than 1 MiB"),
        ]:
            reply = send(guarded_server, data)
            refused(reply, status, words)
            assert "/prato_" not in reply.text  # the folder in which the archive lay for a moment
        refused(send(guarded_server, archive, phases="some"), 400, "phases: Input should be")
        refused(send(guarded_server, archive, headers={}), 401, "access token")
        refused(ask(guarded_server, "POST", "/prato/import"), 400, "file")
    assert files(guarded_server) == before
