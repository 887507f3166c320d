"""Clicks over HTTP: what they change, what they leave, how they are refused, and where they are kept."""

from __future__ import annotations

import base64
import gzip
import json
import zlib
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import requests

from prato.inference.prediction_warnings import MASK_WARNINGS, mask_warnings
from prato.prompts.box import Box
from prato.prompts.mask_prompt import encode_part
from tests.app.live import LiveServer, Reply

pytestmark = pytest.mark.slow

SHAPE = (40, 36, 5)
CLICK = {"structure": "LV cavity", "points": [[20, 18, 2]]}


def part(mask: np.ndarray, *slices: int) -> dict[str, Any]:
    return encode_part(mask, Box((0, 0, min(slices)), (*SHAPE[:2], max(slices) + 1)))


def heart() -> np.ndarray:
    mask = np.zeros(SHAPE, np.uint8)
    mask[10:30, 8:28, 1:4] = 2
    return mask


def apex() -> np.ndarray:
    mask = heart()
    mask[:, :, 3:] = 0
    return mask


def ask(server: LiveServer, **params: Any) -> Reply:
    return server.infer("prato_overview_unet", "heart_a", params, output="json")


def applied(mask: np.ndarray, refined: dict[str, Any]) -> np.ndarray:
    out = mask.copy()
    box = Box(tuple(refined["box"][::2]), tuple(refined["box"][1::2]))
    data = zlib.decompress(base64.b64decode(refined["mask"]["data"]))
    out[box.slices] = np.frombuffer(data, np.uint8).reshape(box.size)
    return out


def mask_of(reply: Reply) -> np.ndarray:
    return np.asarray(nib.Nifti1Image.from_bytes(gzip.decompress(reply.file or b"")).dataobj)


@pytest.mark.parametrize("study", ["heart_a", "cine"])
def test_what_is_said_of_a_mask_is_said_of_the_one_that_clicks_have_corrected(live_server: LiveServer, study: str) -> None:
    own: dict[str, Any] = {"phases": 1} if study == "cine" else {}
    spacing = nib.load(live_server.studies / f"{study}.nii.gz").header.get_zooms()[:2]
    told = []
    for name in ("", "background", "LV cavity", "RV cavity"):
        lines = [{"structure": name, "points": [[i, j, k] for i in range(10, 30)]} for k in range(5) for j in range(8, 28, 2)]
        reply = live_server.infer("prato_overview_unet", study, {**own, "clicks": lines} if name else own)
        assert reply.status == 200, reply.json
        told.append(set(mask_warnings(mask_of(reply), spacing, SHAPE[2])))
        assert {*MASK_WARNINGS}.intersection(reply.json["warnings"]) == told[-1]
        if own:
            assert {warning for warning, phases in reply.json["warned_phases"].items() if phases == [1]}.issuperset(told[-1])
    assert any(each != told[0] for each in told), told


def test_a_click_changes_its_region_alone_and_the_reply_names_it(live_server: LiveServer) -> None:
    reply = ask(live_server, clicks=[CLICK], previous=part(heart(), 1, 2, 3), roi=[8, 32, 6, 30, 1, 4])
    assert reply.status == 200, reply.json
    refined = reply.json["refined"]
    after = applied(heart(), refined)
    assert after[20, 18, 2] == 3 and np.count_nonzero(after != heart()) == refined["changed_voxels"] >= 1
    assert refined["box"][4:] == [2, 3]
    # what one slice alone is asked for is the same
    assert ask(live_server, clicks=[CLICK], previous=part(heart(), 2), roi=[8, 32, 6, 30, 1, 4]).json["refined"] == refined | {
        "mask": refined["mask"]
    }


def test_a_click_that_the_mask_knows_already_may_lie_far_from_the_heart(live_server: LiveServer) -> None:
    clicks = [{"structure": "LV cavity", "points": [[20, 18, 4]]}, CLICK]  # whose heart was painted over since
    reply = ask(live_server, clicks=clicks, done=1, previous=part(apex(), 0, 4), phases=[0])
    assert reply.status == 200 and applied(apex(), reply.json["refined"])[20, 18, 2] == 3


def test_what_is_there_already_stays(live_server: LiveServer) -> None:
    right = {"structure": "myocardium", "points": [[20, 18, 2]]}
    refined = ask(live_server, clicks=[right], previous=part(heart(), 2)).json["refined"]
    assert refined["box"] is None and refined["changed_voxels"] == 0 and "mask" not in refined


def test_slices_follow_those_that_are_right(live_server: LiveServer) -> None:
    reply = ask(live_server, previous=part(heart(), 0, 4), right_slices=[2], propagate_to=[1, 3])
    assert reply.status == 200, reply.json
    if reply.json["refined"]["box"] is not None:
        after = applied(heart(), reply.json["refined"])
        assert np.array_equal(after[:, :, 2], heart()[:, :, 2])


def test_stock_points_are_answered_one_by_one(live_server: LiveServer) -> None:
    params = {"LV": [[20, 18, 2]], "background": [[5, 5, 3]], "RV cavity": [[12, 18, 1]]}
    reply = live_server.infer("prato_overview_unet", "heart_a", params)
    assert reply.status == 200 and reply.json["box_source"] == "points" and "mask" not in reply.json["refined"]
    mask = mask_of(reply)
    assert (mask[20, 18, 2], mask[5, 5, 3], mask[12, 18, 1]) == (3, 0, 1)


def another(mask: np.ndarray) -> tuple[str, int]:
    """A structure that ``mask`` does not hold at CLICK's voxel, and its value."""
    return ("RV cavity", 1) if mask[20, 18, 2] != 1 else ("LV cavity", 3)


@pytest.mark.parametrize("box", [{}, {"roi": [8, 32, 6, 30, 1, 4]}])
def test_clicks_without_a_mask_correct_the_model_s_own(live_server: LiveServer, box: dict[str, Any]) -> None:
    name, value = another(mask_of(live_server.infer("prato_overview_unet", "heart_a", box)))
    reply = live_server.infer("prato_overview_unet", "heart_a", {"clicks": [{**CLICK, "structure": name}], **box})
    assert reply.status == 200, reply.json
    assert mask_of(reply)[20, 18, 2] == value and reply.json["refined"]["changed_voxels"] >= 1
    assert reply.json["box_source"] == ("roi" if box else "proposed")


@pytest.mark.parametrize("phases", [{"phases": 1}, {}])
@pytest.mark.parametrize("is_stock", [False, True])
def test_clicks_on_a_phase_of_a_cine_correct_it_and_its_volumes(live_server: LiveServer, phases: dict[str, Any], is_stock: bool) -> None:
    name, value = another(mask_of(live_server.infer("prato_overview_unet", "cine", phases)))
    sent = {name: CLICK["points"]} if is_stock else {"clicks": [{**CLICK, "structure": name}]}
    reply = live_server.infer("prato_overview_unet", "cine", {**sent, **phases})
    assert reply.status == 200, reply.json
    mask, shown = mask_of(reply), reply.json["mask_phase"]
    assert mask.shape == SHAPE and mask[20, 18, 2] == value
    voxel = float(np.prod(nib.load(live_server.studies / "cine.nii.gz").header.get_zooms()[:3])) / 1000
    ml = reply.json["volumes_ml"][name][reply.json["phases"].index(shown)]
    assert ml == pytest.approx(np.count_nonzero(mask == value) * voxel, abs=0.01)
    several = live_server.infer("prato_overview_unet", "cine", {**sent, "phases": "all"})
    assert several.status == 200 and "refined" not in several.json


def test_a_phase_of_a_cine_is_corrected(live_server: LiveServer) -> None:
    params = {"clicks": [CLICK], "previous": part(heart(), 2), "phases": 1}
    reply = live_server.infer("prato_overview_unet", "cine", params, output="json")
    assert reply.status == 200 and applied(heart(), reply.json["refined"])[20, 18, 2] == 3
    by_phase = {"0": [8, 32, 6, 30, 1, 4], "2": [10, 34, 6, 30, 1, 4]}
    boxed = live_server.infer("prato_overview_unet", "cine", {**params, "roi": by_phase}, output="json")
    assert boxed.status == 200, boxed.json
    for image, phases, words in (
        ("cine", "all", "one phase"),
        ("cine", 3, "0 to 2"),
        ("cine", -1, "0 to 2"),
        ("heart_a", 5, "one phase, 0"),
    ):
        refused = live_server.infer("prato_overview_unet", image, {**params, "phases": phases}, output="json")
        assert refused.status == 400 and words in refused.json["detail"]


@pytest.mark.parametrize(
    ("params", "words"),
    [
        ({"clicks": [{"structure": "LV", "points": [[40, 18, 2]]}], "previous": part(heart(), 2)}, "outside the image"),
        ({"clicks": [CLICK], "previous": part(heart(), 2), "study": "heart_b"}, "drawn on 'heart_b', not on heart_a"),
        ({"clicks": [CLICK] * 257, "previous": part(heart(), 2)}, "at most 256"),
        ({"clicks": [CLICK], "previous": {**part(heart(), 2), "shape": [9, 9, 9]}}, "this one of 40x36x5"),
        ({"clicks": [CLICK, {**CLICK, "structure": "background"}], "previous": part(heart(), 2)}, "cannot be both"),
        ({"clicks": [{"structure": "LV", "points": [[20, 18, 4]]}], "previous": part(apex(), 0, 4)}, "reaches from slice 1 to 2"),
    ],
)
def test_what_cannot_be_used_is_refused_and_changes_nothing(live_server: LiveServer, params: dict[str, Any], words: str) -> None:
    before = live_server.tree()
    reply = ask(live_server, **params)
    assert reply.status == 400 and words in reply.json["detail"]
    assert live_server.tree() == before


def test_a_region_is_no_file(live_server: LiveServer) -> None:
    params = {"clicks": [CLICK], "previous": part(heart(), 2)}
    reply = live_server.infer("prato_overview_unet", "heart_a", params, output="image")
    assert reply.status == 400 and "output=json" in reply.json["detail"]


def test_clicks_are_kept_with_the_version(live_server: LiveServer) -> None:
    grid = nib.load(live_server.studies / "heart_c.nii.gz")
    label = nib.Nifti1Image(heart(), grid.affine, grid.header)
    label.header.set_data_dtype(np.uint8)
    url, params = f"{live_server.url}/datastore/label", {"annotator": "Ada", "clicks": [CLICK]}
    files = {"label": ("label.nii.gz", gzip.compress(label.to_bytes()))}
    sent = requests.put(url, params={"image": "heart_c"}, data={"params": json.dumps(params)}, files=files, timeout=200)
    assert sent.ok, sent.text
    versions = requests.get(f"{url}/versions", params={"image": "heart_c"}, timeout=200).json()["versions"]
    assert versions[-1]["params"]["clicks"] == [CLICK]
    requests.delete(url, params={"id": "heart_c", "tag": "final"}, timeout=200)
