"""Labels that are handed in on real MRML nodes, to the real server: overtaken, trained on for a better model, and a server that dies."""

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

from hearts import heart
from live import LiveServer, write_study
from logic_loop import BOX, FIRST_TWO, MODEL, connected_logic, opened, predict, roi_round, submitted, wait

from prato.data.nifti import read_volume
from PratoLabelLib.client import Client
from PratoLabelLib.logic import PratoLabelLogic
from PratoLabelLib.segmentation import show_mask


def bases(server: LiveServer, study: str) -> list[int | None]:
    """What each version was said to be made from."""
    reply = requests.get(f"{server.url}/datastore/label/versions", params={"image": study}, timeout=200)
    return [version["base_version"] for version in reply.json()["versions"]]


def test_who_was_overtaken_is_told(logic: PratoLabelLogic, server: LiveServer, tmp_path: Path) -> None:
    """Ada and Bob open one study; each learns of what came between, and of nothing else."""
    Client(server.url).upload_image("shared", write_study(tmp_path / "shared.nii.gz", seed=9))
    ada = opened(logic, "shared")
    show_mask(ada.segmentation_node, ada.volume_node, ada.labels, heart().T)
    with connected_logic(server) as bob:
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
    wait(logic, lambda: "a_ED" in logic._phases.volumes)
    table = logic.cardiac()
    assert (table.patient, table.ed, table.es) == ("a", "a_ED", "a_ES")
    assert table.lv.ejection_fraction == pytest.approx(20.0, abs=0.5)  # one slice of five
    submitted(logic, "Ada")
    stored = read_volume(server.studies / "labels" / "final" / "a_ES.nii.gz")
    assert np.array_equal(stored.array, smaller.T)
    assert np.allclose(stored.affine, read_volume(server.studies / "a_ES.nii.gz").affine, atol=1e-4)
    info = json.loads((server.studies / "datastore_v2.json").read_text())["objects"]["a_ES"]["labels"]["final"]["info"]
    assert info["annotator"] == "Ada"
    assert (info["box"], info["model"], info["model_version"]) == (list(BOX), MODEL, reply["model_version"])
    logic.open_next("first", MODEL)
    wait(logic, lambda: logic.open.study == "b_ED")
    show_mask(logic.open.segmentation_node, logic.open.volume_node, logic.open.labels, heart().T)
    submitted(logic, "Ada")
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
