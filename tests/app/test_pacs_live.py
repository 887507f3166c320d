"""The real server with a real Orthanc as its studies folder: listed, opened, labelled, approved, sent back; and the PACS killed."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import psutil
import pytest
import requests

from tests.app.guarded import TOKEN, refused, state
from tests.app.live import LiveServer, copy_app, start_server, tiny_model
from tests.prato.dicom.scans import NAME, NUMBER, Scan, uid
from tests.prato.pacs.orthanc import PASSWORD, USER, Orthanc
from tests.waiting import wait_until

SCAN = Scan(slices=4, phases=6, rows=36, columns=40, spacing=(4.0, 4.0))


@pytest.fixture(scope="module")
def orthanc(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Orthanc]:
    server = Orthanc(tmp_path_factory.mktemp("orthanc"))
    server.add(SCAN.images())
    server.add(replace(SCAN, number=2, study="another", patient="MRN-2").images())
    yield server
    server.kill()


@pytest.fixture(scope="module")
def server(orthanc: Orthanc, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    folder = tmp_path_factory.mktemp("pacs")
    app = copy_app(folder / "app")
    (app / "model").mkdir()
    tiny_model(app / "model" / "prato_unetr.safetensors", "unetr")
    guards = {
        "PRATO_LABEL_TOKEN": TOKEN,
        "PRATO_LABEL_PACS_USER": USER,
        "PRATO_LABEL_PACS_PASSWORD": PASSWORD,
        "PRATO_LABEL_PACS_FOLDER": str(folder / "kept"),
    }
    with start_server(app, orthanc.url, folder / "server.log", guards) as server:
        server.studies = folder / "kept"
        yield server


def listed(server: LiveServer) -> list[str]:
    return [study["id"] for study in state(server)["studies"]["listed"]]


@pytest.mark.slow
def test_from_the_pacs_and_back(orthanc: Orthanc, server: LiveServer, tmp_path: Path) -> None:
    wait_until(lambda: len(listed(server)) == 2, every=0.2)
    assert not list(server.studies.glob("*.nii.gz"))  # listed, and nothing fetched
    info = requests.get(f"{server.url}/datastore/?output=all", headers=server.headers, timeout=200).json()["objects"]
    assert [entry["image"]["info"]["phases"] for entry in info.values()] == [6, 6]

    studies = listed(server)
    reply = server.infer("prato_unetr", studies[0], {"roi": [5, 35, 5, 31, 0, 4], "phases": [0, 2]})
    assert reply.status == 200, reply.json
    image = nib.load(server.studies / f"{studies[0]}.nii.gz")
    is_first = np.array_equal(np.asarray(image.dataobj), SCAN.array())
    assert image.shape == (40, 36, 4, 6) and not (server.studies / f"{studies[1]}.nii.gz").exists()

    mask = np.zeros(image.shape, np.uint8)
    mask[10:30, 10:26, 1:3, [0, 2]] = 2
    mask[15:25, 14:22, 1:3, [0, 2]] = 3
    nib.save(nib.Nifti1Image(mask, image.affine), tmp_path / "label.nii.gz")
    orthanc.kill()
    with (tmp_path / "label.nii.gz").open("rb") as file:
        params = json.dumps({"annotator": "ann", "phases": [0, 2]})
        sent = requests.put(
            f"{server.url}/datastore/label?image={studies[0]}&tag=final",
            data={"params": params},
            files={"label": ("label.nii.gz", file)},
            headers=server.headers,
            timeout=200,
        )
    assert sent.status_code == 200, sent.text
    approved = requests.post(
        f"{server.url}/datastore/label/approve?image={studies[0]}",
        data={"params": json.dumps({"annotator": "bea", "phases": [0]})},
        headers=server.headers,
        timeout=200,
    )
    assert approved.status_code == 200, approved.text
    wait_until(lambda: state(server)["pacs"]["fault"], every=0.2)
    assert state(server)["pacs"]["waiting"] == [studies[0]]
    refused(
        requests.get(f"{server.url}/datastore/image?image={studies[1]}", headers=server.headers, timeout=200),
        503,
        "cannot be opened. The PACS cannot be reached",
    )
    assert server.infer("prato_unetr", studies[0], {"roi": [5, 35, 5, 31, 0, 4], "phases": 1}).status == 200  # what is here is worked on

    orthanc.start()
    wait_until(orthanc.segmentations, every=0.2)
    wait_until(lambda: not state(server)["pacs"]["waiting"] and state(server)["pacs"]["fault"] is None, every=0.2)
    [seg] = orthanc.segmentations()  # the phase that nobody approved stays here
    assert seg["StudyInstanceUID"] == uid("study" if is_first else "another") and seg["PatientName"] == NAME
    assert requests.get(f"{server.url}/datastore/image?image={studies[1]}", headers=server.headers, timeout=200).ok

    said = server.log.read_text() + (server.app / "logs" / "app.log").read_text() + json.dumps(state(server))
    said += " ".join(psutil.Process(server.process.pid).cmdline())
    kept = b"".join(path.read_bytes() for path in server.studies.rglob("*") if path.is_file())
    assert PASSWORD not in said and NUMBER not in said and "Møller" not in said
    assert NUMBER.encode() not in kept and "Møller".encode() not in kept


@pytest.mark.slow
def test_images_of_the_pacs_are_not_removed_here(server: LiveServer) -> None:
    wait_until(lambda: len(listed(server)) == 2, every=0.2)
    before = listed(server)
    reply = requests.delete(f"{server.url}/datastore/?id={before[0]}", headers=server.headers, timeout=200)
    refused(reply, 409, "is in the PACS: remove it there")
    assert listed(server) == before
