"""Which study stands for most of an archive, against cases worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest

from prato.checkpoint import load_model, save_model
from prato.image_stack import ImageStack
from prato.pipeline import Pipeline
from prato.usefulness.coverage import Look, NoSummaryError, covering, look


def on_a_line(*places: float, doubts: tuple[float, ...] | None = None) -> list[Look]:
    """Hearts that differ in one number alone; a second one is the same for all."""
    return [Look(np.array([place, 5.0]), doubt) for place, doubt in zip(places, doubts or (1.0,) * len(places))]


def covered(count: int, *which: int) -> np.ndarray:
    return np.isin(np.arange(count), which)


def test_the_middle_of_many_covers_more_than_an_outlier() -> None:
    gains = covering(on_a_line(0, 1, 2, 10), covered(4))
    # the farthest others are 10, 9, 8 and 10 away; a label of the second brings that to 1, 0, 1 and 9
    assert gains == pytest.approx([24 / 37, 26 / 37, 26 / 37, 10 / 37])


def test_what_is_like_a_labelled_one_teaches_nothing() -> None:
    gains = covering(on_a_line(0, 0, 4, 5, 6), covered(5, 0))
    assert gains[0] == gains[1] == 0 and gains.argmax() == 3
    assert np.all(covering(on_a_line(0, 0, 4, 5, 6), covered(5, 0, 3)) <= gains)


def test_doubt_weighs() -> None:
    places = (0, -5, 5)
    sure, unsure = (covering(on_a_line(*places, doubts=(1.0, one, 1.0)), covered(3, 0)) for one in (0.5, 2.0))
    assert sure.argmax() == 2 and unsure.argmax() == 1


def test_where_all_are_alike_or_nobody_is_unsure_there_is_nothing_to_gain() -> None:
    assert not covering(on_a_line(3, 3), covered(2)).any()
    assert not covering(on_a_line(0, 1, doubts=(0.0, 0.0)), covered(2)).any()
    assert not covering(on_a_line(7), covered(1)).any()


@pytest.mark.parametrize("name", ["swin_unetr", "unetr"])
def test_a_look_is_what_the_last_stage_sees_in_the_box(model_files, heart, name: str) -> None:
    pipeline, image = Pipeline(model_files[name], None, "cpu"), ImageStack(heart)
    one, two = look(pipeline.predict, image), look(pipeline.predict, image)
    network = pipeline.segmenter.network
    assert one.summary.shape == (network.relevance[str(max(pipeline.plan.after))].project_token.in_features,)
    assert np.array_equal(one.summary, two.summary) and one.doubt == two.doubt > 0
    assert not any(module._forward_hooks for module in network.modules())


def test_a_model_that_does_not_prune_has_no_summary(model_files, heart, tmp_path) -> None:
    network, spec, _ = load_model(model_files["swin_unetr"])
    save_model(tmp_path / "dense.safetensors", network, spec.with_plan(None))
    with pytest.raises(NoSummaryError, match="without pruning"):
        look(Pipeline(tmp_path / "dense.safetensors", None, "cpu").predict, ImageStack(heart))
