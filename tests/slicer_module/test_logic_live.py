"""The loop on real MRML nodes against the real server: ROI, box, mask, segments, edits, submission, training, better model."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import requests

slicer = pytest.importorskip("slicer", reason="slicer-core is not installed: pip install -r tests/requirements.txt")

from tests.slicer_harness.core import new_scene

from PratoLabelLib.client import Client
from PratoLabelLib.geometry import ijk_box_to_roi, roi_to_ijk_box
from PratoLabelLib.logic import PratoLabelLogic
from PratoLabelLib.segmentation import show_mask
from PratoLabelLib.volume_file import ijk_to_ras

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "app"))
from hearts import blank_model, heart
from live import LiveServer, copy_app, oblique, start_server, tiny_locator, tiny_model, write_study

from prato.data.nifti import read_volume, write_volume

MODEL = "prato_unetr"
BOX = (10, 30, 8, 28, 1, 4)
#: Slicer turns the slices of such an image round when it reads it.
LEFT_HANDED = oblique((4.0, 4.0, 9.0)) @ np.diag([1.0, 1.0, -1.0, 1.0])
FIRST_TWO = heart().T.copy()
FIRST_TWO[2:] = 0
#: Slices in reverse, of five.
TURN = np.array([[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, -1, 4], [0, 0, 0, 1.0]])


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    """Four studies of three patients, the first with a label; the tests of this file change them one after the other."""
    folder = tmp_path_factory.mktemp("slicer")
    app, studies = copy_app(folder / "app"), folder / "studies"
    (app / "model").mkdir()
    blank_model(app / "model" / f"{MODEL}.safetensors")
    tiny_model(app / "model" / "prato_swin_unetr.safetensors", "swin_unetr")
    tiny_locator(app / "model" / "prato_locator.safetensors")
    (studies / "labels" / "final").mkdir(parents=True)
    for n, name in enumerate(("a_ED", "a_ES", "b_ED", "c_ED")):
        write_study(studies / f"{name}.nii.gz", seed=n)
    write_study(studies / "left_handed.nii.gz", affine=LEFT_HANDED, seed=7)
    write_volume(studies / "labels" / "final" / "a_ED.nii.gz", heart(), oblique((4.0, 4.0, 9.0)))
    with start_server(app, studies, folder / "server.log") as running:
        yield running


@pytest.fixture
def logic(server: LiveServer) -> Iterator[PratoLabelLogic]:
    """Connected, with an empty scene; what ``failed`` says is collected in ``logic.said``."""
    new_scene()
    connected = PratoLabelLogic()
    connected.said = []
    connected.failed.connect(connected.said.append)
    connected.connect_to(server.url)
    wait(connected, lambda: connected.info is not None and connected.studies)
    yield connected
    connected.close()
    assert not connected._worker._thread.is_alive()


def wait(logic: PratoLabelLogic, until: Callable[[], Any], seconds: float = 300) -> None:
    deadline = time.monotonic() + seconds
    while not until():
        assert time.monotonic() < deadline, f"nothing came: {logic.said}"
        logic.tick()
        time.sleep(0.02)


def opened(logic: PratoLabelLogic, study: str) -> Any:
    logic.open_study(study)
    wait(logic, lambda: logic.open is not None and logic.open.study == study)
    return logic.open


def roi_round(box: tuple[int, ...], volume: Any, name: str = "heart") -> Any:
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLMarkupsROINode", name)
    ijk_box_to_roi(box, volume, node)
    return node


def predict(
    logic: PratoLabelLogic, *rois: Any, model: str = "prato_swin_unetr", prune: str = "default", tokens: bool = False
) -> dict[str, Any]:
    replies: list[dict[str, Any]] = []
    logic.predicted.connect(replies.append)
    logic.predict(model, prune, rois, tokens)
    wait(logic, lambda: replies)
    logic.predicted.disconnect(replies.append)
    return replies[0]


def test_what_the_server_offers(logic: PratoLabelLogic) -> None:
    assert [model.name for model in logic.info.models] == ["prato_unetr", "prato_swin_unetr", "prato_auto"]
    studies = {"a_ED": True, "a_ES": False, "b_ED": False, "c_ED": False, "left_handed": False}
    assert {study.id: study.labelled for study in logic.studies} == studies
    # measured soon after its start, and asked for until then
    wait(logic, lambda: logic.info.costs_known)
    assert logic.model("prato_unetr").cost["off"].gflops > 0


def test_a_left_handed_image_keeps_its_index_order(logic: PratoLabelLogic, server: LiveServer) -> None:
    assert np.linalg.det(LEFT_HANDED[:3, :3]) < 0
    study = opened(logic, "left_handed")
    image = read_volume(server.studies / "left_handed.nii.gz")
    assert np.array_equal(slicer.util.arrayFromVolume(study.volume_node).T, image.array)
    box = (10, 30, 8, 28, 0, 2)
    assert predict(logic, roi_round(box, study.volume_node))["box"] == list(box)
    assert not study.mask()[2:].any()
    show_mask(study.segmentation_node, study.volume_node, study.labels, FIRST_TWO)
    done: list[Any] = []
    logic.submitted.connect(done.append)
    logic.submit("Ada")
    wait(logic, lambda: done)
    stored = read_volume(server.studies / "labels" / "final" / "left_handed.nii.gz")
    assert np.array_equal(stored.array, FIRST_TWO.T)
    assert np.allclose(stored.affine, image.affine, atol=1e-4)
    # as a scene that was saved and reopened has it
    node = study.volume_node
    turned = slicer.util.arrayFromVolume(node)[::-1].copy()
    node.SetIJKToRASMatrix(slicer.util.vtkMatrixFromArray(ijk_to_ras(node) @ TURN))
    slicer.util.updateVolumeFromArray(node, turned)
    logic.forget_scene()
    again = opened(logic, "left_handed")
    assert np.array_equal(slicer.util.arrayFromVolume(again.volume_node).T, image.array)
    assert np.array_equal(again.mask(), FIRST_TWO)
    assert logic.said == []


def test_a_prediction_lands_where_the_box_is(logic: PratoLabelLogic, server: LiveServer) -> None:
    study = opened(logic, "b_ED")
    assert np.array_equal(slicer.util.arrayFromVolume(study.volume_node).T, read_volume(server.studies / "b_ED.nii.gz").array)
    reply = predict(logic, roi_round(BOX, study.volume_node))
    assert reply["box"] == list(BOX)
    assert reply["box_source"] == "roi"
    mask = study.mask()
    assert mask.any()
    outside = mask.copy()
    outside[1:4, 8:28, 10:30] = 0
    assert not outside.any()
    # the same mask that the server says to anybody who asks
    asked = server.infer("prato_swin_unetr", "b_ED", {"roi": list(BOX)}, output="image")
    path = server.log.parent / "asked.nii.gz"
    path.write_bytes(asked.file or requests_content(server, list(BOX)))
    assert np.array_equal(mask[1:4, 8:28, 10:30], read_volume(path).array.T[1:4, 8:28, 10:30])


def requests_content(server: LiveServer, roi: list[int]) -> bytes:
    url = f"{server.url}/infer/prato_swin_unetr"
    return requests.post(url, params={"image": "b_ED", "output": "image"}, data={"params": json.dumps({"roi": roi})}, timeout=200).content


def test_two_boxes_a_proposal_and_the_token_map(logic: PratoLabelLogic) -> None:
    study = opened(logic, "b_ED")
    rois = [roi_round(BOX, study.volume_node, "one"), roi_round((20, 36, 3, 30, 4, 5), study.volume_node, "two")]
    assert predict(logic, *rois, tokens=True)["box"] == [10, 36, 3, 30, 1, 5]
    kept = slicer.util.getNode("b_ED tokens kept")
    array = slicer.util.arrayFromVolume(kept)
    assert array.shape == (5, 36, 40)
    assert array[0].max() == 0  # a slice that no box reaches
    assert 0 < array[4].max() <= 1
    reply = predict(logic, prune="50")
    assert reply["box_source"] in ("proposed", "whole_image")
    assert slicer.mrmlScene.GetFirstNodeByName("b_ED tokens kept") is None
    logic.box_from_reply(rois[0])
    assert list(roi_to_ijk_box(rois[0], study.volume_node)) == reply["box"]


def test_edits_outside_the_box_and_locked_structures_survive(logic: PratoLabelLogic) -> None:
    study = opened(logic, "c_ED")
    drawn = heart().T
    show_mask(study.segmentation_node, study.volume_node, study.labels, drawn)
    logic.locked = {"LV cavity"}
    predict(logic, roi_round(BOX, study.volume_node))
    after = study.mask()
    outside = np.ones(after.shape, bool)
    outside[1:4, 8:28, 10:30] = False
    assert np.array_equal(after[outside], drawn[outside])
    assert np.array_equal(after == 3, drawn == 3)
    assert not np.array_equal(after, drawn)
    study.undo()
    assert np.array_equal(study.mask(), drawn)
    assert (study.history.can_undo, study.history.can_redo) == (False, True)
    study.redo()
    assert np.array_equal(study.mask(), after)


def test_what_cannot_be_asked_is_said_and_changes_nothing(logic: PratoLabelLogic) -> None:
    logic.predict("prato_unetr", "default", [])
    logic.submit("me")
    study = opened(logic, "b_ED")
    far = roi_round(BOX, study.volume_node, "astray")
    far.SetCenterWorld(900.0, 0.0, 0.0)
    logic.predict("prato_unetr", "default", [far])
    logic.predict("prato_nothing", "default", [])
    wait(logic, lambda: len(logic.said) == 4)
    logic.predict("prato_unetr", "60", [])
    wait(logic, lambda: len(logic.said) == 5)
    logic.open_study("nobody")
    wait(logic, lambda: len(logic.said) == 6)
    logic.submit("me")
    assert [said.split(":")[0] for said in logic.said] == [
        "No study is open",
        "No study is open",
        "The ROI astray lies outside b_ED",
        "There is no model 'prato_nothing' here",
        "prune must be one of off, 25, 50, 75 (as text), not '60'.",
        logic.said[5].split(":")[0],
        "The segments are empty",
    ]
    assert "nobody" in logic.said[5]
    assert logic.open is study
    assert not study.mask().any()


def test_an_answer_for_a_study_that_was_left_is_dropped(logic: PratoLabelLogic) -> None:
    left = opened(logic, "b_ED")
    replies: list[Any] = []
    logic.predicted.connect(replies.append)
    logic.predict("prato_unetr", "default", [])
    logic.predict("prato_unetr", "default", [])  # the newer one replaces the older
    opened(logic, "c_ED")
    wait(logic, lambda: not logic._worker.busy)
    assert replies == []
    assert not left.mask().any()
    # back again: the nodes are the ones that were left, not new ones
    assert opened(logic, "b_ED").segmentation_node is left.segmentation_node


def test_a_volume_of_the_scene_becomes_a_study(logic: PratoLabelLogic, tmp_path: Path) -> None:
    volume = slicer.util.loadVolume(str(write_study(tmp_path / "own.nii.gz", seed=8)), {"name": "own"})
    logic.send_volume(volume, "own heart")
    wait(logic, lambda: logic.open is not None)
    assert logic.open.volume_node is volume
    assert logic.open.study == "own heart"
    assert predict(logic, roi_round(BOX, volume))["box"] == list(BOX)
    wait(logic, lambda: any(study.id == "own heart" for study in logic.studies))


def test_deleted_nodes_and_a_closed_scene(logic: PratoLabelLogic) -> None:
    study = opened(logic, "b_ED")
    slicer.mrmlScene.RemoveNode(study.volume_node)
    assert logic.open is None
    logic.predict("prato_unetr", "default", [])
    assert logic.said == ["No study is open: open one, or send the volume that is open."]
    opened(logic, "c_ED")
    logic.predict("prato_unetr", "default", [])
    logic.forget_scene()
    slicer.mrmlScene.Clear(0)
    wait(logic, lambda: not logic._worker.busy)
    assert logic.cardiac() is None


def submitted(logic: PratoLabelLogic, annotator: str) -> dict[str, Any]:
    replies: list[dict[str, Any]] = []
    logic.submitted.connect(replies.append)
    logic.submit(annotator)
    wait(logic, lambda: replies)
    logic.submitted.disconnect(replies.append)
    return replies[0]


def bases(server: LiveServer, study: str) -> list[int | None]:
    """What each version was said to be made from."""
    reply = requests.get(f"{server.url}/datastore/label/versions", params={"image": study}, timeout=200)
    return [version["base_version"] for version in reply.json()["versions"]]


def test_who_was_overtaken_is_told(logic: PratoLabelLogic, server: LiveServer, tmp_path: Path) -> None:
    """Ada and Bob open one study; each learns of what came between, and of nothing else."""
    Client(server.url).upload_image("shared", write_study(tmp_path / "shared.nii.gz", seed=9))
    ada = opened(logic, "shared")
    show_mask(ada.segmentation_node, ada.volume_node, ada.labels, heart().T)
    bob = PratoLabelLogic()
    try:
        bob.said = []
        bob.failed.connect(bob.said.append)
        bob.connect_to(server.url)
        wait(bob, lambda: bob.info is not None and bob.studies)
        assert submitted(logic, "Ada")["conflict"] is None  # version 1, made from none
        logic.forget_scene()
        slicer.mrmlScene.Clear(0)  # Bob sits at another machine
        theirs = opened(bob, "shared")
        assert np.array_equal(theirs.mask(), heart().T)  # in spite of a list of studies from before Ada's label
        show_mask(theirs.segmentation_node, theirs.volume_node, theirs.labels, FIRST_TWO)
        assert submitted(bob, "Bob")["conflict"] is None  # version 2, made from hers
        mine = opened(logic, "shared")
        put = requests.post(
            f"{server.url}/datastore/label/restore",
            params={"image": "shared", "version": 1},
            data={"params": '{"annotator": "Cy"}'},
            timeout=200,
        )
        assert put.json()["version"] == 3
        conflict = submitted(logic, "Ada")["conflict"]
        assert [(other["version"], other["annotator"]) for other in conflict["versions"]] == [(3, "Cy")]
        assert "replaces version 3 by Cy, and was not made from it" in conflict["message"]
        assert submitted(logic, "Ada")["conflict"] is None  # made from the one before
        assert bases(server, "shared") == [0, 1, None, 2, 4]
        assert mine.base == (server.url, 5)
        # a scene from before the server lost its history: the work gets through
        mine.base = (server.url, 77)
        assert submitted(logic, "Ada")["version"] == 6
        assert bases(server, "shared")[-1] is None
        assert logic.said == bob.said == []
    finally:
        bob.close()
        requests.delete(f"{server.url}/datastore/image", params={"id": "shared"}, timeout=200)


def test_the_loop(logic: PratoLabelLogic, server: LiveServer) -> None:
    """Correct, submit, train: the next prediction is the new model's."""
    labelled = opened(logic, "a_ED")
    assert np.array_equal(labelled.mask(), heart().T)  # its label came with it
    study = opened(logic, "a_ES")
    reply = predict(logic, roi_round(BOX, study.volume_node), model=MODEL)
    smaller = heart().T.copy()
    smaller[0] = 0
    show_mask(study.segmentation_node, study.volume_node, study.labels, smaller)
    wait(logic, lambda: "a_ED" in logic._volumes)
    table = logic.cardiac()
    assert (table.patient, table.ed, table.es) == ("a", "a_ED", "a_ES")
    assert table.lv.ejection_fraction == pytest.approx(20.0, abs=0.5)  # one slice of five
    done: list[dict[str, Any]] = []
    logic.submitted.connect(done.append)
    logic.submit("Ada")
    wait(logic, lambda: done)
    stored = read_volume(server.studies / "labels" / "final" / "a_ES.nii.gz")
    assert np.array_equal(stored.array, smaller.T)
    assert np.allclose(stored.affine, read_volume(server.studies / "a_ES.nii.gz").affine, atol=1e-4)
    info = json.loads((server.studies / "datastore_v2.json").read_text())["objects"]["a_ES"]["labels"]["final"]["info"]
    assert info["annotator"] == "Ada"
    assert (info["box"], info["model"], info["model_version"]) == (list(BOX), MODEL, reply["model_version"])
    logic.open_next("first")
    wait(logic, lambda: logic.open.study == "b_ED")
    show_mask(logic.open.segmentation_node, logic.open.volume_node, logic.open.labels, heart().T)
    logic.submit("Ada")
    wait(logic, lambda: len(done) == 2)
    states: list[Any] = []
    logic.training_changed.connect(states.append)
    logic.start_training(MODEL, 2)
    wait(logic, lambda: states and not states[-1].running and states[-1].result, 600)
    result = states[-1].result
    assert result["published"]
    assert result["model_version_before"] == reply["model_version"]
    opened(logic, "c_ED")
    assert predict(logic, model=MODEL)["model_version"] == result["model_version_after"]
    assert logic.said == []


def test_the_server_dies_in_the_middle(logic: PratoLabelLogic, server: LiveServer) -> None:
    study = opened(logic, "c_ED")
    show_mask(study.segmentation_node, study.volume_node, study.labels, heart().T)
    group = os.getpgid(server.process.pid)
    os.killpg(group, signal.SIGSTOP)  # so that no answer is faster than its death
    logic.predict("prato_unetr", "default", [])
    os.killpg(group, signal.SIGKILL)
    wait(logic, lambda: logic.said)
    logic.submit("Ada")
    wait(logic, lambda: len(logic.said) == 2)
    assert all(said.endswith(".") and "Traceback" not in said for said in logic.said)
    assert np.array_equal(study.mask(), heart().T)
