"""What ``--conf`` chooses at the start, as it is typed for MONAI Label's own apps."""

from __future__ import annotations

import pytest

from lib.configs.options import Options, OptionsError

OFFERED = ("a", "b", "c")


@pytest.mark.parametrize(
    ("conf", "models"), [({}, OFFERED), ({"models": "all"}, OFFERED), ({"models": " c , a,"}, ("a", "c")), ({"models": "b,all"}, OFFERED)]
)
def test_models_are_offered_in_their_own_order(conf: dict[str, str], models: tuple[str, ...]) -> None:
    assert tuple(Options.parse(conf).choose_models(OFFERED)) == models


@pytest.mark.parametrize(
    ("models", "sentence"), [("segmentation,a", "There is no model 'segmentation' here: give"), (",", "--conf models names no model: give")]
)
def test_models_that_are_not_there_are_refused(models: str, sentence: str) -> None:
    with pytest.raises(OptionsError) as refused:
        Options.parse({"models": models}).choose_models(OFFERED)
    assert str(refused.value) == f"{sentence} --conf models all, or some of a, b, c, separated by commas."


def test_trainers_are_skipped_where_it_is_said_plainly() -> None:
    assert [Options.parse({"skip_trainers": value}).skip_trainers for value in ("true", "True", True, "false")] == [True, True, True, False]
    with pytest.raises(OptionsError, match=r"--conf skip_trainers must be true or false, not 'maybe'\."):
        Options.parse({"skip_trainers": "maybe"})


def test_what_has_no_effect_is_named() -> None:
    assert Options.parse({"models": "all", "preload": "true", "scribbles": "false"}).unread == ("preload", "scribbles")
