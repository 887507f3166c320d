"""Which study stands for most of an archive, against cases worked out by hand."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from prato.checkpoint import load_model, save_model
from prato.image_stack import ImageStack
from prato.pipeline import Pipeline
from prato.usefulness.coverage import Look, NoSummaryError, covering, look


def on_a_line(*places: float, entropies: Sequence[float] = (), voxels: Sequence[int] = ()) -> list[Look]:
    """Hearts whose summaries differ in one number alone; a second one is the same for all."""
    count = len(places)
    return [Look(np.array([place, 5.0]), *more) for place, *more in zip(places, entropies or [0.5] * count, voxels or [100] * count)]


def covered(count: int, *which: int) -> np.ndarray:
    return np.isin(np.arange(count), which)


def test_a_label_is_worth_what_it_takes_away_from_all_doubts_beside_its_own() -> None:
    # the farthest others are 10, 9, 8 and 10 away; a label of the second brings that to 1, 0, 1 and 9
    gain = 9 / 10 + 9 / 9 + 7 / 8 + 1 / 10
    assert covering(on_a_line(0, 1, 2, 10), covered(4))[1] == pytest.approx(gain / (gain + 1))


def test_the_middle_of_many_is_worth_more_than_an_outlier_and_than_what_is_like_a_labelled_one() -> None:
    hearts = on_a_line(0, 0, *[4, 5, 6] * 4, 30)
    worth = covering(hearts, covered(15, 0))
    assert worth[0] == worth[1] == 0 and 0 < worth[14] < worth[3]
    assert np.all(covering(hearts, covered(15, 0, 3)) <= worth)


def test_of_two_alike_the_easier_one_comes_first_and_the_smaller_one_does_not() -> None:
    easy, hard = covering(on_a_line(0, 5, 5, entropies=(0.2, 0.1, 0.2)), covered(3, 0))[1:]
    assert easy > hard > 0
    small, large = covering(on_a_line(0, 5, 5, voxels=(9, 10, 90)), covered(3, 0))[1:]
    assert small == large > 0


def test_who_is_like_the_large_ones_is_worth_more() -> None:
    few, many = covering(on_a_line(0, -5, 5, voxels=(9, 10, 90)), covered(3, 0))[1:]
    assert many > few


def test_where_no_heart_is_found_all_of_one_may_have_to_be_drawn() -> None:
    none, large = (covering(on_a_line(0, 5, 6, voxels=(10, voxels, 30)), covered(3, 0)) for voxels in (0, 30))
    assert np.array_equal(none, large)


def test_where_all_are_alike_or_nobody_is_unsure_nothing_is_worth_a_label() -> None:
    assert not covering(on_a_line(3, 3), covered(2, 0)).any()
    assert not covering(on_a_line(0, 1, entropies=(0.0, 0.0)), covered(2)).any()
    assert not covering(on_a_line(7), covered(1, 0)).any()


@pytest.mark.parametrize("name", ["swin_unetr", "unetr"])
def test_a_look_is_what_the_last_stage_sees_in_the_box(model_files, heart, name: str) -> None:
    pipeline, image = Pipeline(model_files[name], None, "cpu"), ImageStack(heart)
    one, two = look(pipeline.predict, image), look(pipeline.predict, image)
    network = pipeline.segmenter.network
    assert one.summary.shape == (network.relevance[str(max(pipeline.plan.after))].project_token.in_features,)
    assert np.array_equal(one.summary, two.summary) and (one.entropy, one.voxels) == (two.entropy, two.voxels)
    assert 0 < one.entropy < 1
    assert not any(module._forward_hooks for module in network.modules())


def test_a_model_that_does_not_prune_has_no_summary(model_files, heart, tmp_path) -> None:
    network, spec, _ = load_model(model_files["swin_unetr"])
    save_model(tmp_path / "dense.safetensors", network, spec.with_plan(None))
    with pytest.raises(NoSummaryError, match="without pruning"):
        look(Pipeline(tmp_path / "dense.safetensors", None, "cpu").predict, ImageStack(heart))
