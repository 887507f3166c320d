"""Studies and predictions on real MRML nodes against the real server: ROI, box, mask, segments, edits."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import requests

slicer = pytest.importorskip("slicer", reason="slicer-core is not installed: pip install -r tests/requirements.txt")

from prato.data.nifti import read_volume
from PratoLabelLib.logic import PratoLabelLogic
from PratoLabelLib.scene.geometry import roi_to_ijk_box
from PratoLabelLib.scene.segmentation import import_mask
from PratoLabelLib.scene.volumes import ijk_to_ras
from tests.app.hearts import heart
from tests.app.live import LiveServer, write_study
from tests.slicer_module.live_logic import (
    BOX,
    FIRST_TWO,
    LEFT_HANDED,
    MODEL,
    open_study,
    predict,
    roi_around,
    scoring_model_version,
    submit,
    wait,
)

#: Slices in reverse, of five.
TURN = np.array([[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, -1, 4], [0, 0, 0, 1.0]])


def test_what_the_server_offers(logic: PratoLabelLogic) -> None:
    assert [model.name for model in logic.info.models] == ["prato_overview_unet", "prato_swin_unetr", "prato_unetr", "prato_auto"]
    studies = {"a_ED": True, "a_ES": False, "b_ED": False, "c_ED": False, "left_handed": False}
    assert {study.id: study.labelled for study in logic.studies} == studies
    # measured soon after its start, and polled until then
    wait(logic, lambda: logic.info.has_costs)
    assert logic.find_model("prato_unetr").cost["off"].gflops > 0


@pytest.mark.parametrize("model", [MODEL, "prato_swin_unetr"])
def test_the_chosen_model_scores_the_next_study(logic: PratoLabelLogic, labelling_server: LiveServer, model: str) -> None:
    logic.open_next("entropy", model)
    wait(logic, lambda: logic.current_study)
    assert logic.current_study.study in {study.id for study in logic.studies if not study.labelled}
    assert scoring_model_version(labelling_server) == predict(logic, model=model)["model_version"]


def test_a_left_handed_image_is_right_handed_in_the_scene_alone(logic: PratoLabelLogic, labelling_server: LiveServer) -> None:
    assert np.linalg.det(LEFT_HANDED[:3, :3]) < 0
    study = open_study(logic, "left_handed")
    image = read_volume(labelling_server.studies / "left_handed.nii.gz")
    assert np.linalg.det(ijk_to_ras(study.volume_node)[:3, :3]) > 0
    assert np.allclose(ijk_to_ras(study.volume_node), image.affine @ TURN, atol=1e-4)
    assert np.array_equal(slicer.util.arrayFromVolume(study.volume_node)[::-1].T, image.array)
    box = (10, 30, 8, 28, 0, 2)  # the first two slices in the scene are the last two of the file
    roi = roi_around(box, study.volume_node)
    assert predict(logic, roi, tokens=True)["box"] == [10, 30, 8, 28, 3, 5]
    assert study.mask()[:2].any()
    assert not study.mask()[2:].any()
    kept = slicer.util.arrayFromVolume(slicer.util.getNode("left_handed tokens kept"))
    assert kept[:2].max() > 0 == kept[2:].max()
    logic.fit_roi_to_reply(roi)
    assert roi_to_ijk_box(roi, study.volume_node) == box
    import_mask(study.segmentation_node, study.volume_node, study.labels, FIRST_TWO)
    submit(logic, "Ada")
    stored = read_volume(labelling_server.studies / "labels" / "final" / "left_handed.nii.gz")
    assert np.array_equal(stored.array, FIRST_TWO[::-1].T)
    assert np.allclose(stored.affine, image.affine, atol=1e-4)
    slicer.mrmlScene.RemoveNode(study.segmentation_node)
    slicer.mrmlScene.RemoveNode(study.volume_node)
    assert np.array_equal(open_study(logic, "left_handed").mask(), FIRST_TWO)  # from the server
    assert logic.failures == []


def test_a_prediction_lands_where_the_box_is(logic: PratoLabelLogic, labelling_server: LiveServer) -> None:
    study = open_study(logic, "b_ED")
    assert np.array_equal(slicer.util.arrayFromVolume(study.volume_node).T, read_volume(labelling_server.studies / "b_ED.nii.gz").array)
    reply = predict(logic, roi_around(BOX, study.volume_node))
    assert reply["box"] == list(BOX)
    assert reply["box_source"] == "roi"
    mask = study.mask()
    assert mask.any()
    outside = mask.copy()
    outside[1:4, 8:28, 10:30] = 0
    assert not outside.any()
    # the same mask that any other client gets
    reply = labelling_server.infer("prato_swin_unetr", "b_ED", {"roi": list(BOX)}, output="image")
    path = labelling_server.log.parent / "direct.nii.gz"
    path.write_bytes(reply.file or requests_content(labelling_server, list(BOX)))
    assert np.array_equal(mask[1:4, 8:28, 10:30], read_volume(path).array.T[1:4, 8:28, 10:30])


def requests_content(server: LiveServer, roi: list[int]) -> bytes:
    url = f"{server.url}/infer/prato_swin_unetr"
    return requests.post(url, params={"image": "b_ED", "output": "image"}, data={"params": json.dumps({"roi": roi})}, timeout=200).content


def test_two_boxes_a_proposal_and_the_token_map(logic: PratoLabelLogic) -> None:
    study = open_study(logic, "b_ED")
    rois = [roi_around(BOX, study.volume_node, "one"), roi_around((20, 36, 3, 30, 4, 5), study.volume_node, "two")]
    assert predict(logic, *rois, tokens=True)["box"] == [10, 36, 3, 30, 1, 5]
    kept = slicer.util.getNode("b_ED tokens kept")
    array = slicer.util.arrayFromVolume(kept)
    assert array.shape == (5, 36, 40)
    assert array[0].max() == 0  # a slice that no box reaches
    assert 0 < array[4].max() <= 1
    reply = predict(logic, prune="50")
    assert reply["box_source"] in ("proposed", "whole_image")
    assert slicer.mrmlScene.GetFirstNodeByName("b_ED tokens kept") is None
    logic.fit_roi_to_reply(rois[0])
    assert list(roi_to_ijk_box(rois[0], study.volume_node)) == reply["box"]


def test_edits_outside_the_box_and_locked_structures_survive(logic: PratoLabelLogic) -> None:
    study = open_study(logic, "c_ED")
    drawn = heart().T
    import_mask(study.segmentation_node, study.volume_node, study.labels, drawn)
    logic.locked_structures = {"LV cavity"}
    history = slicer.vtkSegmentationHistory()  # the Segment Editor's
    history.SetSegmentation(study.segmentation_node.GetSegmentation())
    logic.segments_about_to_change.connect(lambda phases, is_edit: history.SaveState())
    predict(logic, roi_around(BOX, study.volume_node))
    after = study.mask()
    outside = np.ones(after.shape, bool)
    outside[1:4, 8:28, 10:30] = False
    assert np.array_equal(after[outside], drawn[outside])
    assert np.array_equal(after == 3, drawn == 3)
    assert not np.array_equal(after, drawn)
    history.RestorePreviousState()
    assert np.array_equal(study.mask(), drawn)
    history.RestoreNextState()
    assert np.array_equal(study.mask(), after)


def test_a_request_that_cannot_be_made_is_reported_and_changes_nothing(logic: PratoLabelLogic) -> None:
    logic.predict("prato_unetr", "default", [])
    logic.submit("me")
    study = open_study(logic, "b_ED")
    far = roi_around(BOX, study.volume_node, "elsewhere")
    far.SetCenterWorld(900.0, 0.0, 0.0)
    logic.predict("prato_unetr", "default", [far])
    logic.predict("prato_nothing", "default", [])
    wait(logic, lambda: len(logic.failures) == 4)
    logic.predict("prato_unetr", "60", [])
    wait(logic, lambda: len(logic.failures) == 5)
    logic.open_study("nobody")
    wait(logic, lambda: len(logic.failures) == 6)
    logic.submit("me")
    assert [failure.split(":")[0] for failure in logic.failures] == [
        "No study is open",
        "No study is open",
        "The ROI elsewhere lies outside b_ED",
        "There is no model 'prato_nothing' here",
        "prune must be one of off, 25, 50, 75 (as text), not '60'.",
        logic.failures[5].split(":")[0],
        "The segments are empty",
    ]
    assert "nobody" in logic.failures[5]
    assert logic.current_study is study
    assert not study.mask().any()


def test_a_prediction_for_a_study_that_was_closed_is_dropped(logic: PratoLabelLogic) -> None:
    left = open_study(logic, "b_ED")
    replies: list[Any] = []
    logic.predicted.connect(replies.append)
    logic.predict("prato_unetr", "default", [])
    logic.predict("prato_unetr", "default", [])  # the newer one replaces the older
    open_study(logic, "c_ED")
    wait(logic, lambda: not logic._worker.is_busy)
    assert replies == []
    assert not left.mask().any()
    # what the server has does not stay in the scene, and what it has not got does
    assert slicer.mrmlScene.GetFirstNodeByName("b_ED") is None
    again = open_study(logic, "b_ED")
    import_mask(again.segmentation_node, again.volume_node, again.labels, FIRST_TWO)
    open_study(logic, "c_ED")
    assert open_study(logic, "b_ED").segmentation_node is again.segmentation_node


def test_a_volume_of_the_scene_becomes_a_study(logic: PratoLabelLogic, tmp_path: Path) -> None:
    volume = slicer.util.loadVolume(str(write_study(tmp_path / "own.nii.gz", seed=8)), {"name": "own"})
    logic.send_volume(volume, "own heart")
    wait(logic, lambda: logic.current_study is not None)
    assert logic.current_study.volume_node is volume
    assert logic.current_study.study == "own heart"
    assert predict(logic, roi_around(BOX, volume))["box"] == list(BOX)
    wait(logic, lambda: any(study.id == "own heart" for study in logic.studies))


def test_deleted_nodes_and_a_closed_scene(logic: PratoLabelLogic) -> None:
    study = open_study(logic, "b_ED")
    slicer.mrmlScene.RemoveNode(study.volume_node)
    assert logic.current_study is None
    logic.predict("prato_unetr", "default", [])
    assert logic.failures == ["No study is open: open one, or send the volume that is open."]
    open_study(logic, "c_ED")
    logic.predict("prato_unetr", "default", [])
    logic.forget_scene()
    slicer.mrmlScene.Clear(0)
    wait(logic, lambda: not logic._worker.is_busy)
    assert logic.cardiac_report() is None
