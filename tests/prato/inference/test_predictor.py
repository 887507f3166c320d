"""From a request to a mask on the native grid."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from prato.data.nifti import Volume
from prato.inference.prediction_warnings import box_warnings
from prato.inference.predictor import Predictor
from prato.inference.segmenter import Segmentation
from prato.models.checkpoint import save_model
from prato.prompts.box import Box, BoxPrompt
from prato.prompts.points import PointsPrompt
from prato.runtime.batch_runner import BatchRunner
from prato.runtime.cancel_token import CancelledError, CancelToken
from tests.prato.conftest import predict, small_spec

BOX = Box((15, 5, 1), (45, 35, 4))


@pytest.fixture(scope="module", params=["unetr", "swin_unetr"])
def predictor(request, model_files) -> Predictor:
    return Predictor.from_files(model_files[request.param])


def test_the_mask_lies_on_the_image_s_own_grid(predictor, heart):
    prediction = predict(predictor, heart, BOX)
    assert prediction.mask.shape == heart.array.shape and prediction.mask.dtype == np.uint8
    # slices outside the box are never computed
    assert not prediction.mask[:, :, [0, 4]].any()
    assert prediction.box == BOX and prediction.box_source == "roi"
    assert prediction.tokens is None


def test_the_reply_says_what_it_took(predictor, heart):
    reply = predict(predictor, heart, BOX).reply()
    assert reply["label_names"] == {"RV cavity": 1, "myocardium": 2, "LV cavity": 3}
    assert reply["box"] == [15, 45, 5, 35, 1, 4]
    shares = list(reply["kept_fraction"].values())
    assert len(shares) == 3 and shares == sorted(shares, reverse=True) and shares[-1] <= 0.5
    assert 0 < reply["gflops"] < reply["gflops_dense"]
    assert set(reply["latency_ms"]) == {"locate", "preprocess", "network", "postprocess"}
    assert reply["model_version"] == predictor.version


def test_off_keeps_every_token_and_costs_the_dense_network(predictor, heart):
    reply = predict(predictor, heart, BOX, prune="off").reply()
    assert reply["kept_fraction"] == {}
    assert reply["gflops"] == pytest.approx(reply["gflops_dense"], rel=1e-6)


def test_more_pruning_costs_less(predictor, heart):
    costs = [predict(predictor, heart, BOX, prune=prune).gflops for prune in ("25", "50", "75")]
    assert costs[0] > costs[1] > costs[2]


def test_whatever_the_box_the_window_is_the_same(predictor, heart):
    wide = replace(heart, array=np.zeros((160, 160, 1), np.float32), affine=np.diag([1.5, 1.5, 8, 1]))
    boxes = [Box((80 - half, 60, 0), (80 + half, 100, 1)) for half in (20, 41, 60, 80)]
    costs = [predict(predictor, wide, box, prune="off").gflops for box in boxes]
    assert costs == [costs[0]] * 4


@pytest.mark.slow
def test_a_slice_costs_what_it_costs_in_a_request(predictor, heart):
    """The box is the one that is measured with: central, half as wide as the window."""
    segmenter = predictor.segmenter
    mm = segmenter.spec.pixel
    wide = replace(heart, array=np.random.default_rng(0).normal(size=(160, 160, 1)).astype(np.float32), affine=np.diag([mm, mm, 8, 1]))
    box = Box((48, 48, 0), (112, 112, 1))
    for prune in (None, "off", "25", "50", "75"):
        gflops, ms = segmenter.slice_cost(prune)
        # which tokens stay decides how much is decoded
        assert gflops == pytest.approx(predict(predictor, wide, box, prune=prune).gflops, rel=0.25)
        assert ms > 0
    assert segmenter.slice_cost("off")[0] == pytest.approx(segmenter.dense_gflops(segmenter.spec.window))
    assert segmenter.slice_cost(None)[0] == segmenter.slice_cost(None)[0]


def test_a_model_without_a_plan_costs_the_same_however_it_is_asked(tmp_path):
    spec = small_spec("unetr").with_plan(None)
    save_model(tmp_path / "dense.safetensors", spec.build(), spec)
    segmenter = Predictor.from_files(tmp_path / "dense.safetensors").segmenter
    assert segmenter.slice_cost(None)[0] == segmenter.slice_cost("75")[0] == segmenter.dense_gflops(segmenter.spec.window)


def test_the_token_map_is_1_near_the_box_s_kind_and_0_where_nothing_was_computed(predictor, heart):
    tokens = predict(predictor, heart, BOX, return_tokens=True).tokens
    assert tokens.shape == heart.array.shape and tokens.dtype == np.float32
    assert tokens.min() == 0 and 0 < tokens.max() <= 1
    assert not tokens[:, :, 0].any()


def test_the_same_request_gives_the_same_mask(predictor, heart):
    masks = [predict(predictor, heart, BOX).mask for _ in range(2)]
    assert np.array_equal(*masks)


@pytest.mark.parametrize("network", ["unetr", "overview_unet"])
def test_torch_s_default_precision_changes_nothing(model_files, network, heart):
    expected = predict(Predictor.from_files(model_files[network]), heart, BOX, return_uncertainty=True)
    torch.set_default_dtype(torch.float64)
    try:
        found = predict(Predictor.from_files(model_files[network]), heart, BOX, return_uncertainty=True)
    finally:
        torch.set_default_dtype(torch.float32)
    assert np.array_equal(found.mask, expected.mask) and (found.gflops, found.entropy) == (expected.gflops, expected.entropy)


def test_several_boxes_on_different_slices(predictor, heart):
    low, high = Box((15, 5, 0), (45, 35, 1)), Box((10, 5, 3), (45, 35, 4))
    prediction = predict(predictor, heart, low, high)
    assert prediction.box.bounds == (10, 45, 5, 35, 0, 4)
    assert not prediction.mask[:, :, 1:3].any()


@pytest.mark.slow
def test_no_box_is_proposed_or_the_whole_image(model_files, heart, monkeypatch):
    predictor = Predictor.from_files(model_files["unetr"], model_files["overview_unet"])
    monkeypatch.setattr(predictor.locator, "propose", lambda image, runner: (BOX, 0.0))
    proposed = predict(predictor, heart)
    # what is found beyond the box that nobody drew belongs to it: a client that takes the mask inside the box takes all of it
    assert (proposed.box_source, proposed.box) == ("proposed", Box.union([BOX, Box.around(proposed.mask)]))
    monkeypatch.setattr(predictor.locator, "propose", lambda image, runner: (None, 0.0))
    whole = predict(predictor, heart)
    assert (whole.box_source, whole.box) == ("whole_image", Box.whole(heart.array.shape))
    assert "whole_image" in whole.warnings and "whole_image" not in proposed.warnings
    without = predict(Predictor.from_files(model_files["unetr"]), heart)
    assert np.array_equal(without.mask, whole.mask)


def test_a_box_wider_than_the_window_is_searched_for_the_heart(model_files, heart, monkeypatch):
    wide = replace(heart, affine=heart.affine @ np.diag([4.0, 4.0, 1.0, 1.0]))  # 480 x 400 mm
    predictor = Predictor.from_files(model_files["unetr"], model_files["overview_unet"])
    seen = []
    segment = predictor.segmenter.segment
    monkeypatch.setattr(predictor.locator, "propose", lambda image, runner: (Box((8, 5, 0), (20, 20, 5)), 0.0))
    monkeypatch.setattr(
        predictor.segmenter, "segment", lambda image, prompts, focus, *more: seen.append(focus) or segment(image, prompts, focus, *more)
    )
    prediction = predict(predictor, wide, Box((10, 0, 0), (60, 50, 5)))
    assert seen[0] == Box((10, 5, 0), (20, 20, 5))
    assert prediction.box_source == "roi" and prediction.box.bounds == (10, 60, 0, 50, 0, 5)


HEART = Box((18, 8, 0), (32, 22, 4))


@pytest.mark.parametrize(
    ("drawn", "looked_at"),
    [
        (Box((40, 30, 1), (55, 45, 5)), Box((18, 8, 1), (32, 22, 4))),  # beside it: what is proposed, in the prompt's slices
        (Box((28, 8, 1), (45, 22, 4)), Box((18, 8, 1), (32, 22, 4))),  # so for a box that touches it
        (Box((24, 8, 1), (34, 22, 4)), Box((24, 8, 1), (34, 22, 4))),  # half of it
        (Box((18, 8, 1), (28, 16, 4)), Box((18, 8, 1), (28, 16, 4))),  # a part of it
        (Box((0, 0, 0), (60, 50, 5)), Box((0, 0, 0), (60, 50, 5))),  # all there is
        (Box((40, 30, 4), (55, 45, 5)), Box((40, 30, 4), (55, 45, 5))),  # beside it, where no slice holds any
    ],
)
def test_a_box_beside_the_heart_is_not_what_a_window_is_cut_for(model_files, heart, monkeypatch, drawn, looked_at):
    predictor = Predictor.from_files(model_files["unetr"], model_files["overview_unet"])
    seen = []

    def segment(image, prompts, focus, *more):
        seen.append(([prompt.box for prompt in prompts], focus))
        mask = np.zeros(image.volume.array.shape, np.uint8)
        mask[20:30, 10:20, 2] = 2
        return Segmentation(mask, None, {}, 1.5, 2.0, {"network": 10.0})

    monkeypatch.setattr(predictor.segmenter, "segment", segment)
    monkeypatch.setattr(predictor.locator, "propose", lambda image, runner: (HEART, 0.5))
    prediction = predict(predictor, heart, drawn)
    assert seen == [([looked_at], looked_at)]
    assert (prediction.box, prediction.box_source) == (drawn, "roi")  # the labeller's remains the labeller's
    assert ("box_misses_target" in prediction.warnings) == (drawn.start[0] >= 28)
    assert (prediction.gflops, prediction.gflops_dense) == (2.0, 2.5)  # to find the heart costs the same with pruning and without


def test_a_model_that_looks_at_windows_itself_proposes_nothing(model_files, heart):
    predictor = Predictor.from_files(model_files["unetr"], model_files["swin_unetr"])
    assert predictor.locator is None and predict(predictor, heart).box_source == "whole_image"


def test_without_an_image_there_is_nothing_to_segment(model_files):
    with pytest.raises(ValueError, match="set_image"):
        Predictor.from_files(model_files["unetr"]).predict()


@pytest.mark.parametrize("box", [Box((15, 5, 1), (61, 35, 4)), Box((15, 5, -1), (45, 35, 4)), Box((70, 60, 1), (80, 70, 4))])
def test_a_prompt_beyond_the_image_is_refused(predictor, heart, box):
    with pytest.raises(ValueError, match=r"the image has \(60, 50, 5\) voxels: draw inside it"):
        predict(predictor, heart, box)


def test_an_image_is_segmented_for_one_prompt_after_another_until_the_next_is_set(predictor, heart):
    own = Predictor(predictor.segmenter)
    own.set_image(heart)
    first = own.predict([BoxPrompt(BOX)])
    assert own.predict([BoxPrompt(BOX)]).gflops < first.gflops  # what depends on no prompt is there already
    own.set_image(replace(heart, array=heart.array[:, :, :2]))
    assert own.predict().mask.shape == (60, 50, 2)


def test_points_answer_as_the_box_that_they_stand_for(predictor, heart):
    own = Predictor(predictor.segmenter)
    own.set_image(heart)
    points = own.predict(PointsPrompt.from_request({"LV": [[30, 20, 2], [34, 22, 3]]}, heart.array.shape, heart.spacing))
    box = own.predict([BoxPrompt(points.box)])
    assert (points.box_source, box.box_source) == ("points", "roi")
    assert np.array_equal(points.mask, box.mask) and points.warnings == [name for name in box.warnings if not name.startswith("box_")]


def test_a_blank_or_tiny_image_gives_a_mask_not_an_error(predictor, heart):
    for array in (np.zeros((60, 50, 5), np.float32), np.ones((1, 1, 1), np.int16), np.zeros((3, 200, 2), np.uint8)):
        prediction = predict(predictor, replace(heart, array=array), Box.whole(array.shape))
        assert prediction.mask.shape == array.shape


def test_what_is_given_up_ends_in_the_middle_of_the_network_and_the_next_is_as_ever(predictor, heart):
    before, asked = predict(predictor, heart, BOX).mask, []

    def after_fifty_steps() -> bool:
        asked.append(None)
        return len(asked) > 50

    with pytest.raises(CancelledError):
        predict(predictor, heart, BOX, runner=BatchRunner(CancelToken(after_fifty_steps)))  # three slices: one call of the network
    assert len(asked) == 51
    assert np.array_equal(predict(predictor, heart, BOX).mask, before)


def mask_with(box: Box) -> np.ndarray:
    mask = np.zeros((60, 50, 5), dtype=np.uint8)
    mask[box.slices] = 2
    return mask


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        (Box((16, 6, 1), (44, 34, 4)), []),
        (Box((16, 6, 1), (50, 34, 4)), ["box_cut_by_target"]),
        (Box((16, 6, 1), (24, 14, 4)), ["box_far_larger_than_target"]),
        (Box((46, 36, 1), (55, 45, 4)), ["box_misses_target"]),
    ],
)
def test_warnings_say_what_is_wrong_with_the_box(target, expected):
    assert box_warnings([BOX], mask_with(target)) == expected


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        (Box((16, 6, 1), (55, 45, 4)), []),
        (Box((30, 20, 2), (31, 21, 3)), []),
        (Box((0, 0, 0), (3, 3, 1)), ["box_misses_target"]),
    ],
)
def test_a_box_round_points_that_nobody_drew_is_neither_too_small_nor_too_large(predictor, heart, target, expected, monkeypatch):
    monkeypatch.setattr(predictor.segmenter, "segment", lambda *_: Segmentation(mask_with(target), None))
    predictor.set_image(heart)
    points = PointsPrompt.from_request({"LV": [[30, 20, 2]]}, heart.array.shape, heart.spacing)
    assert [name for name in predictor.predict(points).warnings if name.startswith("box_")] == expected


def test_an_empty_mask_means_the_box_missed():
    assert box_warnings([BOX], np.zeros((60, 50, 5), np.uint8)) == ["box_misses_target"]


@pytest.mark.parametrize("boxes", [(), (BOX,)])
def test_an_empty_mask_is_warned_of_whatever_was_drawn(predictor, heart, boxes, monkeypatch):
    monkeypatch.setattr(predictor.segmenter, "segment", lambda image, *_: Segmentation(np.zeros(image.volume.array.shape, np.uint8), None))
    assert "mask_is_empty" in predict(predictor, heart, *boxes).warnings


def test_what_was_repaired_of_the_image_stands_before_what_is_said_of_the_box(predictor, heart):
    fill = heart.array.copy()
    fill[:3] = -1000
    found = predict(predictor, replace(heart, array=fill, warnings=("orientation_unknown",)), Box((0, 0, 0), (3, 3, 1)))
    assert found.warnings[:2] == ["orientation_unknown", "intensity_outliers"] and found.warnings[-1] == "box_misses_target"


def test_not_a_number_becomes_background(model_files, heart, monkeypatch):
    predictor = Predictor.from_files(model_files["unetr"])
    run = predictor.segmenter._run

    def broken(*args):
        output = run(*args)
        return replace(output, logits=torch.full_like(output.logits, float("nan")))

    monkeypatch.setattr(predictor.segmenter, "_run", broken)
    assert not predict(predictor, heart, BOX).mask.any()


def test_slices_without_a_usable_prompt_keep_all_their_tokens(model_files):
    """Sixteen slices are one call of the network; the seventeenth has only a box that lies outside the window."""
    volume = Volume(np.random.default_rng(0).normal(size=(300, 100, 17)).astype(np.float32), np.diag([1.5, 1.5, 8.0, 1.0]))
    predictor = Predictor.from_files(model_files["unetr"])
    kept = predict(predictor, volume, Box((0, 10, 0), (120, 60, 16)), Box((280, 10, 16), (300, 60, 17))).kept_fraction
    assert list(kept) == ["block 4", "block 7", "block 10"]
    assert kept["block 4"] == pytest.approx((16 * 0.75 + 1) / 17)


@pytest.mark.slow
@pytest.mark.parametrize("width", [40, 70, 100, 112, 120, 128])
def test_no_box_sticks_out_of_its_window(model_files, width, monkeypatch):
    volume = Volume(np.random.default_rng(0).normal(size=(200, 200, 1)).astype(np.float32), np.diag([1.5, 1.5, 8.0, 1.0]))
    predictor = Predictor.from_files(model_files["unetr"])
    edge = predictor.segmenter.spec.window
    seen = []
    monkeypatch.setattr(
        predictor.segmenter, "_slices", lambda image, window, planes: seen.append(window) or torch.zeros(1, 3, *(window.size,) * 2)
    )
    for start in range(10, 26):
        width_here = min(width, edge)
        predict(predictor, volume, Box((start, start + 3, 0), (start + width_here, start + 3 + width_here, 1)))
        low, high = (np.array([start + more, start + 3 + more]) * seen[-1].scale - seen[-1].corner for more in (0, width_here))
        size = seen[-1].size
        room = min(4, (size - width_here) // 2)
        assert min(low) >= room and max(high) <= size - room
