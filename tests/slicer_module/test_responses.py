"""The server's replies as plain classes, value by value."""

from __future__ import annotations

from typing import Any

import pytest

from PratoLabelLib.server.responses import NextStudy, parse_next_study, parse_studies, parse_training_state


def test_the_next_study_of_a_cine_comes_with_its_phase() -> None:
    assert parse_next_study({"id": "beat", "phase": 12}) == NextStudy("beat", 12)
    assert parse_next_study({"id": "still"}) == NextStudy("still", None)
    with pytest.raises(TypeError):
        parse_next_study({"id": "beat", "phase": "12"})


def test_whoever_labelled_a_study_is_named_if_known() -> None:
    labels = {"a": {"final": {"info": {"annotator": "Ada"}}}, "b": {"final": {"info": {"annotator": 7}}}, "c": {}, "d": {"original": {}}}
    found = parse_studies({"objects": {study: {"labels": own} for study, own in labels.items()}})
    assert [(study.id, study.labelled, study.annotator) for study in found] == [
        *(("a", True, "Ada"), ("b", True, "")),
        *(("c", False, ""), ("d", False, "")),
    ]


@pytest.mark.parametrize(
    ("stats", "dice"),
    [({}, None), ({"dice_before": 0.8}, 0.8), ({"dice_before": 0.8, "validation": {"mean": 0.85}}, 0.85)],
)
def test_a_training_has_the_dice_of_its_start_until_it_has_one_of_its_own(stats: dict[str, Any], dice: float | None) -> None:
    task = {"request": {"model": "heart"}, "status": "RUNNING", "details": ["step 3/10"]}
    state = parse_training_state("heart", [task], {"train_stats": {"heart": {**stats, "step": 3, "total_steps": 10}}})
    assert (state.dice, state.running, state.message, state.result) == (dice, True, "Step 3 of 10.", {})
