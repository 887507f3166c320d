"""A cine from the real server into real sequence nodes, and back: two labellers correct different phases."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import requests

slicer = pytest.importorskip("slicer", reason="slicer-core is not installed: pip install -r tests/requirements.txt")

from PratoLabelLib.logic import PratoLabelLogic
from PratoLabelLib.scene.geometry import ijk_box_to_roi, roi_to_ijk_box
from PratoLabelLib.scene.phase_boxes import key_box, show_box
from PratoLabelLib.scene.segmentation import import_mask
from PratoLabelLib.scene.volumes import to_file_order
from PratoLabelLib.server.client import Client
from PratoLabelLib.server.progress import Progress
from tests.app.hearts import heart
from tests.app.live import LiveServer, write_study
from tests.slicer_module.live_logic import BOX, LEFT_HANDED, connected_logic, open_study, predict, roi_around, submit, wait

pytestmark = pytest.mark.slow
CINE, WHOLE = "beating_4d", (0, 40, 0, 36, 0, 5)


@pytest.fixture
def cine(labelling_server: LiveServer, tmp_path: Path) -> Iterator[str]:
    path = write_study(tmp_path / "cine.nii.gz", shape=(40, 36, 5, 3), affine=LEFT_HANDED, seed=5)
    Client(labelling_server.url).upload_image(CINE, path)
    yield CINE
    requests.delete(f"{labelling_server.url}/datastore/image", params={"id": CINE}, timeout=200)


def states(server: LiveServer) -> dict[str, str]:
    """The state of each phase of the current label."""
    reply = requests.get(f"{server.url}/datastore/label/versions", params={"image": CINE}, timeout=200).json()
    return {phase: known["state"] for phase, known in reply["versions"][-1]["phases"].items()}


def segment_all(logic: PratoLabelLogic, *rois: Any) -> dict[str, Any]:
    replies: list[dict[str, Any]] = []
    logic.predicted.connect(replies.append)
    logic.predict_all_phases("prato_swin_unetr", "default", rois)
    wait(logic, lambda: replies)
    logic.predicted.disconnect(replies.append)
    return replies[0]


def paint(study: Any, phase: int, mask: np.ndarray) -> None:
    study.cine.show(phase)
    import_mask(study.segmentation_node, study.volume_node, study.labels, mask)


def test_a_cine_is_segmented_corrected_and_submitted(cine: str, logic: PratoLabelLogic, labelling_server: LiveServer) -> None:
    wanted = np.asanyarray(nib.load(labelling_server.studies / f"{CINE}.nii.gz").dataobj)
    logic.refresh_studies()
    wait(logic, lambda: any(study.phases == 3 for study in logic.studies))
    study = open_study(logic, CINE)
    for phase in range(3):  # left-handed: the slices are the other way round
        study.cine.show(phase)
        assert np.allclose(slicer.util.arrayFromVolume(study.volume_node)[::-1].T, wanted[..., phase])
    study.cine.show(1)
    one = predict(logic, roi_around(BOX, study.volume_node))
    assert one["mask_phase"] == 1 and one["phases"] == [1]
    reply = segment_all(logic, roi_around(WHOLE, study.volume_node, "whole"))
    assert reply["phases"] == [0, 1, 2] and logic.progress is None
    ml = float(np.prod(study.volume_node.GetSpacing())) / 1000
    for phase, volumes in study.volumes().items():
        assert abs(volumes.lv_ml - reply["volumes_ml"]["LV cavity"][phase]) < ml
    paint(study, 2, heart().T)
    assert study.edited == {2}
    logic.mark_phases(2, 0, "Ada")
    assert submit(logic, "Ada")["conflict"] is None
    assert states(labelling_server)["2"] == "corrected"
    stored = np.asanyarray(nib.load(labelling_server.studies / "labels" / "final" / f"{CINE}.nii.gz").dataobj)
    assert np.array_equal(stored[..., 2][..., ::-1], heart())
    wait(logic, lambda: 2 in logic.versions.drawn_phases())

    with connected_logic(labelling_server) as bob:  # at another machine, whose submission touches his phase alone
        logic.forget_scene()
        slicer.mrmlScene.Clear(0)
        theirs = open_study(bob, CINE)
        assert theirs.ed_es() == (2, 0) and theirs.phase == 2
        assert np.array_equal(theirs.mask(), heart().T)
        paint(theirs, 1, heart().T)
        segment_all(bob)
        assert np.array_equal(theirs.cine.mask(2, theirs.labels), heart().T)  # Ada's
        assert submit(bob, "Bob")["conflict"] is None
        assert {states(labelling_server)[phase] for phase in "12"} == {"corrected"}
        review(bob, labelling_server)


def review(bob: PratoLabelLogic, server: LiveServer) -> None:
    """Bob may decide about what Ada drew, and not about his own."""
    decided: list[Any] = []
    bob.decided.connect(lambda *told: decided.append(told))
    bob.decide([2], None, "Bob")
    wait(bob, lambda: decided and bob.versions.states[2].state == "final")
    assert decided == [([2], True, [])] and states(server)["2"] == "final" and bob.versions.states[2].approved_by == "Bob"
    bob.decide([1], None, "Bob")
    wait(bob, lambda: bob.failures)
    assert bob.failures.pop() == "Phase 1 was drawn by Bob: somebody else has to approve it."
    bob.decide([2], "the base is missing", "Bob")
    wait(bob, lambda: len(decided) == 2 and bob.versions.states[2].reason)
    assert states(server)["2"] == "proposed" and bob.versions.states[2].reason == "the base is missing"
    assert 2 in bob.versions.drawn_phases() and states(server)["1"] == "corrected"


def test_a_keyed_box_is_where_the_server_moves_it(cine: str, logic: PratoLabelLogic) -> None:
    logic.refresh_studies()
    wait(logic, lambda: any(study.phases == 3 for study in logic.studies))
    study = open_study(logic, CINE)
    roi = roi_around(BOX, study.volume_node)
    key_box(roi, study.volume_node, 0, 3)
    ijk_box_to_roi((5, 25, 4, 33, 0, 3), study.volume_node, roi)
    key_box(roi, study.volume_node, 1, 3)
    for phase in range(3):
        study.cine.show(phase)
        show_box(roi, study.volume_node, phase, 3)
        used = predict(logic, roi)["box"]
        assert to_file_order(used, study.volume_node) == [*roi_to_ijk_box(roi, study.volume_node)]
    assert segment_all(logic, roi)["box"] == [5, 30, 4, 33, 1, 5]


def test_how_far_a_request_is_comes_meanwhile(cine: str, labelling_server: LiveServer) -> None:
    client, progress = Client(labelling_server.url), Progress()
    prediction = client.infer_phases("prato_swin_unetr", CINE, {"phases": "all"}, progress)
    assert prediction.mask.startswith(b"\x1f\x8b") and prediction.reply["phases"] == [0, 1, 2]
    assert progress.phases in (0, 3)  # it may be over before it was asked for
