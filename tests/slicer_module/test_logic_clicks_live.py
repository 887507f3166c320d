"""Clicks on real MRML nodes against the real server, also of an image whose slices Slicer turns round."""

from __future__ import annotations

import numpy as np
import pytest

slicer = pytest.importorskip("slicer", reason="slicer-core is not installed: pip install -r tests/requirements.txt")

from PratoLabelLib.logic import PratoLabelLogic
from tests.slicer_module.live_logic import BOX, open_study, predict, roi_around, wait


@pytest.mark.slow
@pytest.mark.parametrize("name", ["c_ED", "left_handed"])
def test_a_click_is_followed_on_its_slice_and_taken_back(logic: PratoLabelLogic, name: str) -> None:
    study = open_study(logic, name)
    predict(logic, roi_around(BOX, study.volume_node))
    before, k = study.mask(), 1  # not the middle slice: it would be the same the other way round
    logic.click("LV cavity", np.array([[20.2, 17.9, k]]))
    logic.click("background", np.array([[25.0, 18.0, k], [27.0, 18.0, k]]))
    wait(logic, lambda: not logic.clicks_waiting)
    after = study.mask()
    assert logic.failures == []
    assert after[k, 18, 20] == study.labels["LV cavity"] and not after[k, 18, 25:28].any()
    assert np.array_equal(np.delete(after, k, 0), np.delete(before, k, 0))
    sent = logic.clicks_sent()
    assert [len(click["points"]) for click in sent] == [1, 3]
    for click in sent:  # where each looked, how much it changed, and by which network
        point, box = click["points"][0], click["box"]
        assert box is None or all(low <= at < high for at, low, high in zip(point, box[::2], box[1::2]))
        assert len(click["model_version"]) == 12
    assert sum(click["changed_voxels"] for click in sent) >= np.count_nonzero(after != before) > 0
    logic.undo_click()
    logic.undo_click()
    assert np.array_equal(study.mask(), before)
    logic.redo_click()
    logic.redo_click()
    assert np.array_equal(study.mask(), after)
    logic.click("myocardium", np.array([[20, 17, k], [20, 17, k + 1]]))
    assert logic.failures == ["A scribble lies on one slice: draw it in the view that shows the slices as they were acquired."]
