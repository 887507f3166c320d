"""An image that takes another's place on the real server, on the same grid: no mask of it is shown over the one in the scene."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import requests

slicer = pytest.importorskip("slicer", reason="slicer-core is not installed: pip install -r tests/requirements.txt")

from PratoLabelLib.logic import PratoLabelLogic
from PratoLabelLib.scene.segmentation import import_mask
from PratoLabelLib.server.client import Client
from tests.app.live import LiveServer, write_study
from tests.slicer_module.live_logic import BOX, FIRST_TWO, open_study, predict, roi_around, wait


def refused(logic: PratoLabelLogic, study: Any) -> None:
    """Wait for the refusal."""
    wait(logic, lambda: logic.failures)
    assert logic.failures == [
        f"The server has another image of {study.study} by now, so its mask does not belong to this one: "
        f"delete the image and the segmentation of {study.study} in the module Data and open it again, where your edits are offered."
    ]
    logic.failures.clear()


def open_anew(logic: PratoLabelLogic, study: Any) -> Any:
    for node in study.nodes():
        slicer.mrmlScene.RemoveNode(node)
    logic.tick()
    return open_study(logic, study.study)


def test_a_mask_of_another_image_is_not_shown_and_the_study_can_be_opened_again(
    logic: PratoLabelLogic, labelling_server: LiveServer, tmp_path: Path
) -> None:
    Client(labelling_server.url).upload_image("twin", write_study(tmp_path / "twin.nii.gz", seed=11))
    study = open_study(logic, "twin")
    roi = roi_around(BOX, study.volume_node)
    first = predict(logic, roi)
    import_mask(study.segmentation_node, study.volume_node, study.labels, FIRST_TWO)
    write_study(labelling_server.studies / "twin.nii.gz", seed=12)
    logic.predict("prato_swin_unetr", "default", [roi])
    refused(logic, study)
    logic.click("LV cavity", np.array([[20.2, 17.9, 1]]))
    refused(logic, study)
    assert np.array_equal(study.mask(), FIRST_TWO) and study.reply["image_sha256"] == first["image_sha256"]
    again = open_anew(logic, study)
    assert predict(logic, roi_around(BOX, again.volume_node))["image_sha256"] != first["image_sha256"]
    assert again.mask().any() and logic.failures == []
    requests.delete(f"{labelling_server.url}/datastore/image", params={"id": "twin"}, timeout=200)


@pytest.mark.slow
def test_masks_of_all_phases_of_another_cine_are_not_shown(logic: PratoLabelLogic, labelling_server: LiveServer, tmp_path: Path) -> None:
    shape = (40, 36, 5, 3)
    Client(labelling_server.url).upload_image("twins_4d", write_study(tmp_path / "cine.nii.gz", shape=shape, seed=5))
    study = open_study(logic, "twins_4d")
    import_mask(study.segmentation_node, study.volume_node, study.labels, FIRST_TWO)
    write_study(labelling_server.studies / "twins_4d.nii.gz", shape=shape, seed=6)
    logic.predict_all_phases("prato_swin_unetr", "default", [])
    refused(logic, study)
    logic.propagate("prato_swin_unetr", "default", [])
    refused(logic, study)
    logic.predict("prato_swin_unetr", "default", [])
    refused(logic, study)
    assert np.array_equal(study.mask_of(0), FIRST_TWO) and not any(study.mask_of(phase).any() for phase in (1, 2))
    requests.delete(f"{labelling_server.url}/datastore/image", params={"id": "twins_4d"}, timeout=200)
