"""Which study stands for most of an archive, against cases worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest

from prato.acquisition.facility_location import NoSummaryError, StudySummary, facility_location, summarise
from prato.inference.image_stack import ImageStack
from prato.inference.predictor import Predictor
from prato.models.checkpoint import load_model, save_model


def on_a_line(*places: float, doubts: tuple[float, ...] | None = None) -> list[StudySummary]:
    """Hearts that differ in one number alone; a second one is the same for all."""
    return [StudySummary(np.array([place, 5.0]), doubt) for place, doubt in zip(places, doubts or (1.0,) * len(places))]


def covered(count: int, *which: int) -> np.ndarray:
    return np.isin(np.arange(count), which)


def test_a_label_is_worth_what_it_takes_away_from_all_doubts_beside_its_own() -> None:
    # the farthest others are 10, 9, 8 and 10 away; a label of the second brings that to 1, 0, 1 and 9
    gain = 9 / 10 + 9 / 9 + 7 / 8 + 1 / 10
    assert facility_location(on_a_line(0, 1, 2, 10), covered(4))[1] == pytest.approx(gain / (gain + 1))


def test_the_middle_of_many_is_worth_more_than_an_outlier_and_than_what_is_like_a_labelled_one() -> None:
    hearts = on_a_line(0, 0, *[4, 5, 6] * 4, 30)
    worth = facility_location(hearts, covered(15, 0))
    assert worth[0] == worth[1] == 0 and 0 < worth[14] < worth[3]
    assert np.all(facility_location(hearts, covered(15, 0, 3)) <= worth)


def test_the_cheaper_one_of_two_alike_comes_first() -> None:
    cheap, dear = facility_location(on_a_line(0, 5, 5, doubts=(1.0, 1.0, 2.0)), covered(3, 0))[1:]
    assert cheap > dear > 0


def test_where_no_heart_is_found_all_may_have_to_be_drawn() -> None:
    none, worst = (facility_location(on_a_line(0, 5, 6, doubts=(1.0, doubt, 3.0)), covered(3, 0)) for doubt in (0.0, 3.0))
    assert np.array_equal(none, worst)


def test_where_all_are_alike_or_nobody_is_unsure_nothing_is_worth_a_label() -> None:
    assert not facility_location(on_a_line(3, 3), covered(2, 0)).any()
    assert not facility_location(on_a_line(0, 1, doubts=(0.0, 0.0)), covered(2)).any()
    assert not facility_location(on_a_line(7), covered(1, 0)).any()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["swin_unetr", "unetr"])
def test_a_look_is_what_the_last_stage_sees_in_the_box(model_files, heart, name: str) -> None:
    predictor, image = Predictor.from_files(model_files[name]), ImageStack(heart)
    one, two = summarise(predictor, image), summarise(predictor, image)
    network = predictor.segmenter.network
    assert one.features.shape == (network.relevance[str(max(predictor.plan.prune_after))].project_token.in_features,)
    assert np.array_equal(one.features, two.features) and one.uncertainty == two.uncertainty > 0
    assert not any(module._forward_hooks for module in network.modules())


@pytest.mark.slow
def test_a_model_that_does_not_prune_has_no_summary(model_files, heart, tmp_path) -> None:
    network, spec, _ = load_model(model_files["swin_unetr"])
    save_model(tmp_path / "dense.safetensors", network, spec.with_plan(None))
    with pytest.raises(NoSummaryError, match="without pruning"):
        summarise(Predictor.from_files(tmp_path / "dense.safetensors"), ImageStack(heart))
