"""From a request to a mask on the native grid."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from prato.data.nifti import Volume
from prato.inference.predictor import Pipeline, _warnings
from prato.inference.segmenter import Segmentation
from prato.inference.window import window_edges
from prato.models.checkpoint import save_model
from prato.prompts.box import Box
from prato.prompts.request import Request
from prato.runtime.batch_runner import Calls
from prato.runtime.cancel_token import CancelledError
from tests.prato.conftest import small_spec

BOX = Box((15, 5, 1), (45, 35, 4))


@pytest.fixture(scope="module", params=["unetr", "swin_unetr"])
def pipeline(request, model_files) -> Pipeline:
    return Pipeline(model_files[request.param], model_files["locator"], "cpu")


def test_the_mask_lies_on_the_image_s_own_grid(pipeline, heart):
    prediction = pipeline.predict(heart, Request((BOX,), "roi"))
    assert prediction.mask.shape == heart.array.shape and prediction.mask.dtype == np.uint8
    # slices outside the box are never computed
    assert not prediction.mask[:, :, [0, 4]].any()
    assert prediction.box == BOX and prediction.box_source == "roi"
    assert prediction.tokens is None


def test_the_reply_says_what_it_took(pipeline, heart):
    reply = pipeline.predict(heart, Request((BOX,), "roi")).reply()
    assert reply["label_names"] == {"RV cavity": 1, "myocardium": 2, "LV cavity": 3}
    assert reply["box"] == [15, 45, 5, 35, 1, 4]
    shares = list(reply["kept_fraction"].values())
    assert len(shares) == 3 and shares == sorted(shares, reverse=True) and shares[-1] <= 0.5
    assert 0 < reply["gflops"] < reply["gflops_dense"]
    assert set(reply["latency_ms"]) == {"locate", "preprocess", "network", "postprocess"}
    assert reply["model_version"] == pipeline.version


def test_off_keeps_every_token_and_costs_the_dense_network(pipeline, heart):
    reply = pipeline.predict(heart, Request((BOX,), "roi", prune="off")).reply()
    assert reply["kept_fraction"] == {}
    assert reply["gflops"] == pytest.approx(reply["gflops_dense"], rel=1e-6)


def test_more_pruning_costs_less(pipeline, heart):
    costs = [pipeline.predict(heart, Request((BOX,), "roi", prune=prune)).gflops for prune in ("25", "50", "75")]
    assert costs[0] > costs[1] > costs[2]


def test_a_wider_box_takes_a_larger_window(pipeline, heart):
    wide = replace(heart, array=np.zeros((160, 160, 1), np.float32), affine=np.diag([1.5, 1.5, 8, 1]))
    boxes = [Box((80 - half, 60, 0), (80 + half, 100, 1)) for half in (20, 39, 41, 60)]
    costs = [pipeline.predict(wide, Request((box,), "roi", prune="off")).gflops for box in boxes]
    assert costs[0] == costs[1] < costs[2] == costs[3]


def test_a_slice_costs_what_it_costs_in_a_request(pipeline, heart):
    """The box is the one that is measured with: central, two thirds as wide as the smallest window."""
    segmenter = pipeline.segmenter
    mm = segmenter.spec.pixel
    wide = replace(heart, array=np.random.default_rng(0).normal(size=(160, 160, 1)).astype(np.float32), affine=np.diag([mm, mm, 8, 1]))
    box = Box((48, 48, 0), (112, 112, 1))
    for prune in (None, "off", "25", "50", "75"):
        gflops, ms = segmenter.slice_cost(prune)
        # which tokens stay decides how much is decoded
        assert gflops == pytest.approx(pipeline.predict(wide, Request((box,), "roi", prune=prune)).gflops, rel=0.25)
        assert ms > 0
    assert segmenter.slice_cost("off")[0] == pytest.approx(segmenter.dense_gflops(window_edges(segmenter.spec.window)[0]))
    assert segmenter.slice_cost(None)[0] == segmenter.slice_cost(None)[0]


def test_a_model_without_a_plan_costs_the_same_however_it_is_asked(tmp_path):
    spec = small_spec("unetr").with_plan(None)
    save_model(tmp_path / "dense.safetensors", spec.build(), spec)
    segmenter = Pipeline(tmp_path / "dense.safetensors", None, "cpu").segmenter
    assert segmenter.slice_cost(None)[0] == segmenter.slice_cost("75")[0] == segmenter.dense_gflops(window_edges(segmenter.spec.window)[0])


def test_the_token_map_is_1_near_the_box_s_kind_and_0_where_nothing_was_computed(pipeline, heart):
    tokens = pipeline.predict(heart, Request((BOX,), "roi", return_tokens=True)).tokens
    assert tokens.shape == heart.array.shape and tokens.dtype == np.float32
    assert tokens.min() == 0 and 0 < tokens.max() <= 1
    assert not tokens[:, :, 0].any()


def test_the_same_request_gives_the_same_mask(pipeline, heart):
    masks = [pipeline.predict(heart, Request((BOX,), "roi")).mask for _ in range(2)]
    assert np.array_equal(*masks)


def test_several_boxes_on_different_slices(pipeline, heart):
    low, high = Box((15, 5, 0), (45, 35, 1)), Box((10, 5, 3), (45, 35, 4))
    prediction = pipeline.predict(heart, Request((low, high), "roi"))
    assert prediction.box.bounds == (10, 45, 5, 35, 0, 4)
    assert not prediction.mask[:, :, 1:3].any()


def test_no_box_is_proposed_or_the_whole_image(model_files, heart, monkeypatch):
    pipeline = Pipeline(model_files["unetr"], model_files["locator"], "cpu")
    monkeypatch.setattr(pipeline.locator, "propose", lambda volume, calls: BOX)
    proposed = pipeline.predict(heart, Request())
    assert (proposed.box_source, proposed.box) == ("proposed", BOX)
    monkeypatch.setattr(pipeline.locator, "propose", lambda volume, calls: None)
    whole = pipeline.predict(heart, Request())
    assert (whole.box_source, whole.box) == ("whole_image", Box.whole(heart.array.shape))
    without = Pipeline(model_files["unetr"], None, "cpu").predict(heart, Request())
    assert np.array_equal(without.mask, whole.mask)


def test_a_box_wider_than_the_window_is_searched_for_the_heart(model_files, heart, monkeypatch):
    wide = replace(heart, affine=heart.affine @ np.diag([4.0, 4.0, 1.0, 1.0]))  # 480 x 400 mm
    pipeline = Pipeline(model_files["unetr"], model_files["locator"], "cpu")
    seen = []
    segment = pipeline.segmenter.segment
    monkeypatch.setattr(pipeline.locator, "propose", lambda volume, calls: Box((5, 5, 0), (20, 20, 5)))
    monkeypatch.setattr(
        pipeline.segmenter, "segment", lambda volume, boxes, focus, *rest: seen.append(focus) or segment(volume, boxes, focus, *rest)
    )
    prediction = pipeline.predict(wide, Request((Box((10, 0, 0), (60, 50, 5)),), "roi"))
    assert seen[0] == Box((10, 5, 0), (20, 20, 5))
    assert prediction.box_source == "roi" and prediction.box.bounds == (10, 60, 0, 50, 0, 5)


def test_a_box_that_holds_no_heart_sends_the_search_elsewhere(model_files, heart, monkeypatch):
    pipeline = Pipeline(model_files["unetr"], model_files["locator"], "cpu")
    seen = []

    def segment(stack, boxes, focus, *rest):
        seen.append(boxes)
        mask = np.zeros(stack.volume.array.shape, np.uint8)
        mask[20:30, 10:20, 2] = 2  # the heart, wherever one looks from
        return Segmentation(mask, None, {}, 1.5, 2.0, {"network": 10.0})

    monkeypatch.setattr(pipeline.segmenter, "segment", segment)
    monkeypatch.setattr(pipeline.locator, "propose", lambda volume, calls: Box((18, 8, 0), (32, 22, 4)))
    beside = Box((40, 30, 1), (55, 45, 5))
    prediction = pipeline.predict(heart, Request((beside,), "roi"))
    assert seen == [[beside], [Box((18, 8, 1), (32, 22, 4))]]  # the proposal, in the prompt's slices
    assert (prediction.box, prediction.box_source, prediction.warnings) == (beside, "roi", ["box_misses_target"])
    assert (prediction.gflops, prediction.gflops_dense, prediction.latency_ms["network"]) == (3.0, 4.0, 20.0)
    seen.clear()
    around = Box((18, 8, 1), (32, 22, 4))
    assert pipeline.predict(heart, Request((around,), "roi")).warnings == []
    assert seen == [[around]]
    seen.clear()  # other slices than the locator's: nowhere to look
    pipeline.predict(heart, Request((Box((40, 30, 4), (55, 45, 5)),), "roi"))
    assert len(seen) == 1


@pytest.mark.parametrize(
    ("start", "found", "looks"),
    [(40, 7, 2), (40, 12, 1), (22, 7, 1)],
    ids=["little, beside the locator's heart", "half full", "little, round the locator's heart"],
)
def test_what_little_is_found_beside_the_locator_s_heart_is_doubted(model_files, heart, monkeypatch, start, found, looks):
    pipeline = Pipeline(model_files["unetr"], model_files["locator"], "cpu")
    seen = []

    def segment(stack, boxes, focus, *rest):
        seen.append(boxes)
        mask = np.zeros(stack.volume.array.shape, np.uint8)
        mask[start : start + found, 30 : 30 + found, 2] = 2
        return Segmentation(mask, None, {}, 1.0, 1.0, {"network": 1.0})

    monkeypatch.setattr(pipeline.segmenter, "segment", segment)
    monkeypatch.setattr(pipeline.locator, "propose", lambda volume, calls: Box((18, 26, 0), (38, 46, 4)))
    pipeline.predict(heart, Request((Box((start, 30, 2), (start + 16, 46, 3)),), "roi"))
    assert len(seen) == looks


def test_a_blank_or_tiny_image_gives_a_mask_not_an_error(pipeline, heart):
    for array in (np.zeros((60, 50, 5), np.float32), np.ones((1, 1, 1), np.int16), np.zeros((3, 200, 2), np.uint8)):
        prediction = pipeline.predict(replace(heart, array=array), Request((Box.whole(array.shape),), "roi"))
        assert prediction.mask.shape == array.shape


def test_what_is_given_up_ends_in_the_middle_of_the_network_and_the_next_is_as_ever(pipeline, heart):
    before, asked = pipeline.predict(heart, Request((BOX,), "roi")).mask, []

    def after_fifty_steps() -> bool:
        asked.append(None)
        return len(asked) > 50

    with pytest.raises(CancelledError):
        pipeline.predict(heart, Request((BOX,), "roi"), Calls(after_fifty_steps))  # three slices: one call of the network
    assert len(asked) == 51
    assert np.array_equal(pipeline.predict(heart, Request((BOX,), "roi")).mask, before)


def mask_with(box: Box) -> Segmentation:
    mask = np.zeros((60, 50, 5), dtype=np.uint8)
    mask[box.slices] = 2
    return Segmentation(mask, None)


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
    assert _warnings([BOX], mask_with(target)) == expected


def test_an_empty_mask_means_the_box_missed():
    assert _warnings([BOX], Segmentation(np.zeros((60, 50, 5), np.uint8), None)) == ["box_misses_target"]


def test_not_a_number_becomes_background(model_files, heart, monkeypatch):
    pipeline = Pipeline(model_files["unetr"], None, "cpu")
    run = pipeline.segmenter._run

    def broken(*args):
        output = run(*args)
        return replace(output, logits=torch.full_like(output.logits, float("nan")))

    monkeypatch.setattr(pipeline.segmenter, "_run", broken)
    assert not pipeline.predict(heart, Request((BOX,), "roi")).mask.any()


def test_slices_without_a_usable_prompt_keep_all_their_tokens(model_files):
    """Sixteen slices are one call of the network; the seventeenth has only a box that lies outside the window."""
    volume = Volume(np.random.default_rng(0).normal(size=(300, 100, 17)).astype(np.float32), np.diag([1.5, 1.5, 8.0, 1.0]))
    pipeline = Pipeline(model_files["unetr"], None, "cpu")
    request = Request((Box((0, 10, 0), (120, 60, 16)), Box((280, 10, 16), (300, 60, 17))), "roi")
    kept = pipeline.predict(volume, request).kept_fraction
    assert list(kept) == ["block 4", "block 7", "block 10"]
    assert kept["block 4"] == pytest.approx((16 * 0.75 + 1) / 17)


@pytest.mark.parametrize("width", [40, 70, 100, 112, 120, 128])
def test_no_box_sticks_out_of_its_window(model_files, width, monkeypatch):
    volume = Volume(np.random.default_rng(0).normal(size=(200, 200, 1)).astype(np.float32), np.diag([1.5, 1.5, 8.0, 1.0]))
    pipeline = Pipeline(model_files["unetr"], None, "cpu")
    edge = pipeline.segmenter.spec.window
    seen = []
    monkeypatch.setattr(
        pipeline.segmenter, "_input", lambda stack, window, planes: seen.append(window) or torch.zeros(1, 3, *(window.size,) * 2)
    )
    for start in range(10, 26):
        width_here = min(width, edge)
        pipeline.predict(volume, Request((Box((start, start + 3, 0), (start + width_here, start + 3 + width_here, 1)),), "roi"))
        (low, high), size = seen[-1].to_window(Box((start, start + 3), (start + width_here, start + 3 + width_here))), seen[-1].size
        room = min(4, (size - width_here) // 2)
        assert min(low) >= room and max(high) <= size - room
