"""Corrections carried through a cine by the real server: what was corrected here leads, and stays."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

slicer = pytest.importorskip("slicer", reason="slicer-core is not installed: pip install -r tests/requirements.txt")

from PratoLabelLib.logic import PratoLabelLogic
from tests.app.hearts import heart
from tests.app.live import LiveServer
from tests.slicer_module.live_logic import open_study, submit, wait
from tests.slicer_module.test_logic_cine_live import CINE, cine, paint, states  # noqa: F401

pytestmark = pytest.mark.slow


def test_other_phases_follow(cine: str, logic: PratoLabelLogic, labelling_server: LiveServer) -> None:  # noqa: F811
    logic.refresh_studies()
    wait(logic, lambda: any(study.phases == 3 for study in logic.studies))
    study = open_study(logic, CINE)
    paint(study, 0, heart().T)
    paint(study, 2, heart().T)
    followed: list[Any] = []
    logic.phases_followed.connect(lambda phases, keys: followed.append((phases, keys)))
    logic.propagate("prato_swin_unetr", "default", [])
    wait(logic, lambda: followed or logic.failures)
    assert logic.failures == [] and followed == [([1], [0, 2])] and study.edited == {0, 2}
    assert all(np.array_equal(study.cine.mask(phase, study.labels), heart().T) for phase in (0, 2))
    assert study.cine.mask(1, study.labels).any() and logic.progress is None
    submit(logic, "Ada")
    assert states(labelling_server) == {"0": "corrected", "1": "proposed", "2": "corrected"}
