"""Labels submitted from real MRML nodes to the real server: conflicts, a training that gives a better model, and a server that dies."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import requests

slicer = pytest.importorskip("slicer", reason="slicer-core is not installed: pip install -r tests/requirements.txt")

from prato.data.nifti import read_volume
from PratoLabelLib.logic import PratoLabelLogic
from PratoLabelLib.scene.segmentation import import_mask
from PratoLabelLib.server.client import Client
from tests.app.hearts import heart
from tests.app.live import LiveServer, write_study
from tests.slicer_harness.core import new_scene
from tests.slicer_module.live_logic import (
    BOX,
    FIRST_TWO,
    MODEL,
    connected_logic,
    open_study,
    predict,
    roi_around,
    start_labelling_server,
    submit,
    wait,
)


def bases(server: LiveServer, study: str) -> list[int | None]:
    """The base version of each version."""
    reply = requests.get(f"{server.url}/datastore/label/versions", params={"image": study}, timeout=200)
    return [version["base_version"] for version in reply.json()["versions"]]


def test_a_conflict_is_reported_to_whom_it_concerns(logic: PratoLabelLogic, labelling_server: LiveServer, tmp_path: Path) -> None:
    """Ada and Bob open one study; each hears about labels submitted in between, and about nothing else."""
    Client(labelling_server.url).upload_image("shared", write_study(tmp_path / "shared.nii.gz", seed=9))
    ada = open_study(logic, "shared")
    import_mask(ada.segmentation_node, ada.volume_node, ada.labels, heart().T)
    with connected_logic(labelling_server) as bob:
        assert submit(logic, "Ada")["conflict"] is None  # version 1, made from none
        logic.forget_scene()
        slicer.mrmlScene.Clear(0)  # Bob sits at another machine
        theirs = open_study(bob, "shared")
        assert np.array_equal(theirs.mask(), heart().T)  # in spite of a list of studies from before Ada's label
        import_mask(theirs.segmentation_node, theirs.volume_node, theirs.labels, FIRST_TWO)
        assert submit(bob, "Bob")["conflict"] is None  # version 2, made from hers
        mine = open_study(logic, "shared")
        put = requests.post(
            f"{labelling_server.url}/datastore/label/restore",
            params={"image": "shared", "version": 1},
            data={"params": '{"annotator": "Cy"}'},
            timeout=200,
        )
        assert put.json()["version"] == 3
        conflict = submit(logic, "Ada")["conflict"]
        assert [(other["version"], other["annotator"]) for other in conflict["versions"]] == [(3, "Cy")]
        assert "replaces version 3 by Cy, but was not made from it" in conflict["message"]
        assert submit(logic, "Ada")["conflict"] is None  # made from the one before
        assert bases(labelling_server, "shared") == [0, 1, None, 2, 4]
        assert mine.base == (labelling_server.url, 5)
        # a scene from before the server lost its history: the work gets through
        mine.base = (labelling_server.url, 77)
        assert submit(logic, "Ada")["version"] == 6
        assert bases(labelling_server, "shared")[-1] is None
        assert logic.failures == bob.failures == []
    requests.delete(f"{labelling_server.url}/datastore/image", params={"id": "shared"}, timeout=200)


def test_the_loop(logic: PratoLabelLogic, labelling_server: LiveServer) -> None:
    """Correct, submit, train: the next prediction is the new model's."""
    labelled = open_study(logic, "a_ED")
    assert np.array_equal(labelled.mask(), heart().T)  # its label came with it
    study = open_study(logic, "a_ES")
    reply = predict(logic, roi_around(BOX, study.volume_node), model=MODEL)
    smaller = heart().T.copy()
    smaller[0] = 0
    import_mask(study.segmentation_node, study.volume_node, study.labels, smaller)
    wait(logic, lambda: "a_ED" in logic._phases.by_study)
    table = logic.cardiac_report()
    assert (table.patient, table.ed, table.es) == ("a", "a_ED", "a_ES")
    assert table.lv.ejection_fraction == pytest.approx(20.0, abs=0.5)  # one slice of five
    submit(logic, "Ada")
    stored = read_volume(labelling_server.studies / "labels" / "final" / "a_ES.nii.gz")
    assert np.array_equal(stored.array, smaller.T)
    assert np.allclose(stored.affine, read_volume(labelling_server.studies / "a_ES.nii.gz").affine, atol=1e-4)
    info = json.loads((labelling_server.studies / "datastore_v2.json").read_text())["objects"]["a_ES"]["labels"]["final"]["info"]
    assert info["annotator"] == "Ada"
    assert (info["box"], info["model"], info["model_version"]) == (list(BOX), MODEL, reply["model_version"])
    logic.open_next("first", MODEL)
    wait(logic, lambda: logic.current_study.study == "b_ED")
    import_mask(logic.current_study.segmentation_node, logic.current_study.volume_node, logic.current_study.labels, heart().T)
    submit(logic, "Ada")
    states: list[Any] = []
    logic.training_changed.connect(states.append)
    logic.start_training(MODEL, 2)
    wait(logic, lambda: states and not states[-1].running and states[-1].result)
    result = states[-1].result
    assert result["published"]
    assert result["model_version_before"] == reply["model_version"]
    open_study(logic, "c_ED")
    assert predict(logic, model=MODEL)["model_version"] == result["model_version_after"]
    assert logic.failures == []


def test_the_server_dies_in_the_middle(tmp_path: Path) -> None:
    new_scene()
    with start_labelling_server(tmp_path) as mortal, connected_logic(mortal) as logic:
        study = open_study(logic, "c_ED")
        import_mask(study.segmentation_node, study.volume_node, study.labels, heart().T)
        group = os.getpgid(mortal.process.pid)
        os.killpg(group, signal.SIGSTOP)  # so that no answer is faster than its death
        logic.predict("prato_unetr", "default", [])
        os.killpg(group, signal.SIGKILL)
        wait(logic, lambda: logic.failures)
        logic.submit("Ada")
        wait(logic, lambda: len(logic.failures) == 2)
        assert all(failure.endswith(".") and "Traceback" not in failure for failure in logic.failures)
        assert np.array_equal(study.mask(), heart().T)


def test_a_label_drawn_on_another_image_of_that_name_is_not_sent(
    logic: PratoLabelLogic, labelling_server: LiveServer, tmp_path: Path
) -> None:
    """As where a server with other studies has taken the place of the one that the study is from."""
    Client(labelling_server.url).upload_image("twin", write_study(tmp_path / "twin.nii.gz", seed=11))
    study = open_study(logic, "twin")
    import_mask(study.segmentation_node, study.volume_node, study.labels, heart().T)
    assert submit(logic, "Ada")["version"] == 1
    write_study(labelling_server.studies / "twin.nii.gz", seed=12)  # on the same grid
    import_mask(study.segmentation_node, study.volume_node, study.labels, FIRST_TWO)
    logic.submit("Ada")
    wait(logic, lambda: logic.failures)
    assert logic.failures == [
        "The server's image of twin is not the one that this label was drawn on, so nothing was sent: "
        "delete the image and the segmentation of twin in the module Data and open it again, where your edits are offered."
    ]
    assert len(bases(labelling_server, "twin")) == 1 and np.array_equal(study.mask(), FIRST_TWO)
    logic.failures.clear()
    for node in study.nodes():
        slicer.mrmlScene.RemoveNode(node)
    logic.tick()
    again = open_study(logic, "twin")
    assert again is not study and np.array_equal(again.mask(), heart().T)
    logic.autosave.recover()
    assert np.array_equal(again.mask(), FIRST_TWO)
    assert submit(logic, "Ada")["version"] == 2
    assert logic.failures == []
    requests.delete(f"{labelling_server.url}/datastore/image", params={"id": "twin"}, timeout=200)
