"""The real server with small hearts for the logic's tests, and their recurring steps: wait, open, predict, submit."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import slicer

from prato.data.nifti import write_volume
from PratoLabelLib.logic import PratoLabelLogic
from PratoLabelLib.scene.geometry import ijk_box_to_roi
from tests.app.hearts import app_that_learns, heart
from tests.app.live import LiveServer, oblique, start_server, write_study
from tests.waiting import wait_until

MODEL = "prato_unetr"
BOX = (10, 30, 8, 28, 1, 4)
#: Slicer turns the slices of such an image round when it reads it.
LEFT_HANDED = oblique((4.0, 4.0, 9.0)) @ np.diag([1.0, 1.0, -1.0, 1.0])
FIRST_TWO = heart().T.copy()
FIRST_TWO[2:] = 0


@contextmanager
def start_labelling_server(folder: Path) -> Iterator[LiveServer]:
    """Studies of three patients, the first labelled, and one left-handed."""
    app, studies = app_that_learns(folder / "app"), folder / "studies"
    (studies / "labels" / "final").mkdir(parents=True)
    for n, name in enumerate(("a_ED", "a_ES", "b_ED", "c_ED")):
        write_study(studies / f"{name}.nii.gz", seed=n)
    write_study(studies / "left_handed.nii.gz", affine=LEFT_HANDED, seed=7)
    write_volume(studies / "labels" / "final" / "a_ED.nii.gz", heart(), oblique((4.0, 4.0, 9.0)))
    with start_server(app, studies, folder / "server.log") as running:
        yield running


@contextmanager
def connected_logic(server: LiveServer) -> Iterator[PratoLabelLogic]:
    """Connected until the block ends; what ``failed`` emits is collected in ``failures``."""
    connected = PratoLabelLogic()
    connected.failures = []
    connected.failed.connect(connected.failures.append)
    connected.connect_to(server.url)
    wait(connected, lambda: connected.info is not None and connected.studies)
    yield connected
    connected.close()
    assert not connected._worker._thread.is_alive()


def wait(logic: PratoLabelLogic, until: Callable[[], Any]) -> None:
    wait_until(until, logic.tick, lambda: logic.failures)


def open_study(logic: PratoLabelLogic, study: str) -> Any:
    logic.open_study(study)
    wait(logic, lambda: logic.current_study is not None and logic.current_study.study == study)
    return logic.current_study


def roi_around(box: tuple[int, ...], volume: Any, name: str = "heart") -> Any:
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


def scoring_model_version(server: LiveServer) -> str:
    """The version of the model that scored the study which the server picked last."""
    named = [line for line in server.log.read_text().splitlines() if "Next sample: " in line]
    return re.search(r"'model_version': '(\w+)'", named[-1])[1]


def submit(logic: PratoLabelLogic, annotator: str) -> dict[str, Any]:
    replies: list[dict[str, Any]] = []
    logic.submitted.connect(replies.append)
    logic.submit(annotator)
    wait(logic, lambda: replies)
    logic.submitted.disconnect(replies.append)
    return replies[0]
