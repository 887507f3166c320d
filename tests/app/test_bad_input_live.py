"""Bad input to the real server: a 4xx with one helpful sentence, and every study, label and model file as it was."""

from __future__ import annotations

import re
from typing import Any

import pytest
import requests

from prato.data.atomic import write_bytes
from tests.app.live import LiveServer, Reply

#: Said of every refusal: one sentence that ends, with no path of the server and no traceback in it.
SENTENCE = re.compile(r"[A-Z'a-z][^\n]{15,300}\.")


def refused(reply: Reply, status: int, words: str) -> None:
    assert reply.status == status, reply.json
    detail = reply.json["detail"]
    assert isinstance(detail, str)
    assert SENTENCE.fullmatch(detail), detail
    assert words in detail
    assert "Traceback" not in detail


PARAMS: list[tuple[str, Any, str]] = [
    ("roi too short", {"roi": [1, 2, 3, 4]}, "roi must be 6 voxel bounds"),
    ("roi too long", {"roi": [1, 2, 3, 4, 5, 6, 7]}, "roi must be 6 voxel bounds"),
    ("roi is text", {"roi": "1,2,3,4,5,6"}, "roi must be 6 voxel bounds"),
    ("roi of texts", {"roi": ["1", "2", "3", "4", "5", "6"]}, "finite numbers"),
    ("roi is an object", {"roi": {"i": [1, 2]}}, "roi must be 6 voxel bounds"),
    ("boxes by names", {"roi": {"ED": [1, 9, 3, 9, 0, 5]}}, "roi must be 6 voxel bounds, or bounds by phase"),
    (
        "a box for a phase that there is not",
        {"roi": {"1": [1, 9, 3, 9, 0, 5]}},
        "roi has a box for phase 1, but the image has one phase, 0",
    ),
    ("boxes for no phase", {"roi": {}}, "roi must be 6 voxel bounds"),
    ("a phase by name", {"phases": "ED"}, "phases must be a phase's number from 0, a list of such numbers"),
    ("phases with a fraction", {"phases": [0, 1.5]}, "phases must be a phase's number"),
    ("phases true", {"phases": True}, "phases must be a phase's number"),
    ("no phases", {"phases": []}, "phases must be a phase's number"),
    ("a phase that there is not", {"phases": [0, 1]}, "has one phase, 0: phases cannot name 1"),
    ("roi is a number", {"roi": 7}, "roi must be 6 voxel bounds"),
    ("roi of booleans", {"roi": [True, False, True, False, True, False]}, "finite numbers"),
    ("roi with NaN", '{"roi": [NaN, 9, 3, 9, 0, 5]}', "finite numbers"),
    ("roi with infinity", '{"roi": [0, Infinity, 3, 9, 0, 5]}', "finite numbers"),
    ("roi with null", {"roi": [None, 9, 3, 9, 0, 5]}, "finite numbers"),
    ("roi outside", {"roi": [100, 120, 3, 9, 0, 5]}, "outside the image"),
    ("roi below zero", {"roi": [-20, -3, 3, 9, 0, 5]}, "outside the image"),
    ("roi of no volume", {"roi": [9, 9, 9, 9, 2, 2]}, "no area"),
    ("one of two boxes bad", {"roi": [[8, 20, 6, 18, 1, 3], [1, 2]]}, "roi must be 6 voxel bounds"),
    ("prune unknown", {"prune": "60"}, "prune must be one of"),
    ("prune as a number", {"prune": 50}, "prune must be one of"),
    ("return_tokens as text", {"return_tokens": "yes"}, "return_tokens must be true or false"),
    ("device unknown", {"device": "tpu"}, "device 'tpu'"),
    ("device that is not there", {"device": "cuda:63"}, "device 'cuda:63'"),
    ("extension unknown", {"result_extension": ".exe"}, "result_extension must be one of"),
    ("extension with a path", {"result_extension": "/../../x.nii.gz"}, "result_extension must be one of"),
    ("dtype unknown", {"result_dtype": "float128"}, "result_dtype must be one of"),
    ("parameter unknown", {"prunee": "50"}, "'prunee' is not a parameter"),
    ("point outside", {"LV cavity": [[900, 2, 2]]}, "outside the image"),
    ("point of two numbers", {"foreground": [[9, 2]]}, "three finite voxel indices"),
    ("points as text", {"RV cavity": "here"}, "must be a list of points"),
    ("not JSON", "{roi: 1", "not valid JSON"),
    ("a list instead of an object", "[1]", "must be a JSON object"),
]


@pytest.mark.parametrize(("params", "words"), [case[1:] for case in PARAMS], ids=[case[0] for case in PARAMS])
def test_parameters(live_server: LiveServer, params: Any, words: str) -> None:
    before = live_server.tree()
    refused(live_server.infer("prato_unetr", "heart_a", params), 400, words)
    assert live_server.tree() == before


@pytest.mark.parametrize(
    ("image", "words"),
    [
        ("flat", "is 2D (40x36), not a 3D volume"),
        ("sheared", "sheared (non-orthonormal) affine"),
        ("singular", "singular"),
        ("torn", "is not readable NIfTI"),
    ],
)
@pytest.mark.parametrize("model", ["prato_swin_unetr", "prato_auto"])
def test_images_that_cannot_be_used(live_server: LiveServer, model: str, image: str, words: str) -> None:
    before = live_server.tree()
    refused(live_server.infer(model, image), 400, words)
    assert live_server.tree() == before


@pytest.mark.parametrize(
    ("model", "image", "params", "query", "status", "words"),
    [
        ("unet", "heart_a", {}, {}, 404, "There is no model 'unet' here: choose prato_overview_unet"),
        ("../unet", "heart_a", {}, {}, 404, "Not Found"),
        ("prato_unetr", "heart_a", {"model": "unet"}, {}, 404, "There is no model 'unet'"),
        ("prato_unetr", "nobody", {}, {}, 404, "There is no image 'nobody'"),
        ("prato_unetr", "/etc/hostname", {}, {}, 404, "There is no image '/etc/hostname'"),
        ("prato_unetr", "../server.log", {}, {}, 404, "There is no image"),
        ("prato_unetr", "heart_a", {"image": "/etc/hostname"}, {}, 404, "There is no image '/etc/hostname'"),
        ("prato_unetr", "heart_a", {"image": ["heart_a"]}, {}, 404, "There is no image"),
        ("prato_unetr", None, {}, {}, 400, "names no image"),
        ("prato_unetr", None, {}, {"session_id": "gone"}, 404, "There is no session 'gone'"),
        ("prato_unetr", None, {}, {"session_id": "../sessions"}, 404, "There is no session"),
        ("prato_unetr", "heart_a", {}, {"output": "dicom_seg"}, 400, "Masks are not returned as DICOM SEG"),
        ("prato_unetr", "heart_a", {}, {"output": "hologram"}, 400, "output: "),
    ],
)
def test_names(live_server: LiveServer, model: str, image: str | None, params: Any, query: dict[str, str], status: int, words: str) -> None:
    before = live_server.tree()
    reply = live_server.infer(model, image, params, **query)
    if words == "Not Found":
        assert reply.status == status
    else:
        refused(reply, status, words)
    assert live_server.tree() == before


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("/train/unet", "There is no trainable model 'unet' here: choose prato_overview_unet"),
        ("/train/prato_unetr", "There is no trainable model 'unet'"),
        ("/train/prato_auto", "There is no trainable model 'prato_auto'"),
        ("/batch/infer/unet", "There is no model 'unet' here"),
        ("/activelearning/oracle", "There is no strategy 'oracle' here"),
        ("/scoring/feeling", "There is no scoring method 'feeling' here"),
        ("/infer/wsi_v2/unet?image=/etc/hostname", "PrATo Label does not offer /infer/wsi_v2/unet"),
    ],
)
def test_names_in_other_paths(live_server: LiveServer, path: str, words: str) -> None:
    before = live_server.tree()
    body = {"model": "unet"} if path == "/train/prato_unetr" else {}  # MONAI Label lets the body overrule the path
    refused(live_server.post(path, body), 404, words)
    assert live_server.tree() == before
    assert requests.get(f"{live_server.url}/train/", timeout=200).status_code == 404  # nothing was queued


def test_an_uploaded_file_that_is_no_image(live_server: LiveServer) -> None:
    before = live_server.tree()
    with live_server.leaves_no_file():
        response = requests.post(
            f"{live_server.url}/infer/prato_unetr", data={"params": "{}"}, files={"file": ("x.nii.gz", b"not a volume")}, timeout=200
        )
        refused(live_server.read(response), 400, "is not readable NIfTI")
    assert live_server.tree() == before


@pytest.mark.parametrize(
    ("model", "content", "status", "words"),
    [
        ("prato_unetr", b"not weights", 400, "is not a model file of PrATo Label"),
        ("unet", b"not weights", 404, "There is no model 'unet'"),
    ],
)
def test_a_model_file_that_cannot_be_used_replaces_nothing(
    live_server: LiveServer, model: str, content: bytes, status: int, words: str
) -> None:
    before = live_server.tree()
    response = requests.put(f"{live_server.url}/model/{model}", files={"file": ("m.safetensors", content)}, timeout=200)
    refused(live_server.read(response), status, words)
    assert live_server.tree() == before


def test_a_damaged_model_file_is_named(live_server: LiveServer) -> None:
    path = live_server.app / "model" / "prato_swin_unetr.safetensors"
    whole = path.read_bytes()
    write_bytes(path, whole[:1000])
    try:
        refused(live_server.infer("prato_swin_unetr", "heart_a"), 503, "prato_swin_unetr.safetensors is not a model file")
    finally:
        write_bytes(path, whole)
    assert live_server.infer("prato_swin_unetr", "heart_a").status == 200


def test_nothing_of_this_was_an_error_of_the_server(live_server: LiveServer) -> None:
    assert "Exception in ASGI application" not in live_server.log.read_text()
