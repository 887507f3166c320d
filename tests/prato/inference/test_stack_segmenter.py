"""A network that looks at whole stacks, through the predictor: native grids, prompts of all kinds and none, and what a labeller is told."""

import numpy as np
import pytest
import torch

from prato.data.nifti import Volume
from prato.inference import stack_slices
from prato.inference.image_stack import ImageStack
from prato.inference.predictor import Predictor
from prato.inference.stack_segmenter import StackSegmenter
from prato.models.checkpoint import model_preset, save_model
from prato.prompts.box import Box, BoxPrompt
from prato.prompts.clicks import ClickPrompt, Stroke
from prato.runtime.batch_runner import IMMEDIATE, BatchRunner
from prato.runtime.cancel_token import CancelledError, CancelToken

BOX = BoxPrompt(Box((14, 5, 1), (46, 35, 4)))


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """Untrained, but for a relevance that finds what is bright: enough to see where it looks."""
    spec = model_preset("overview_unet")
    small = {"filters": (8, 8, 12, 16, 16), "overview_dim": 16, "overview_depth": 1}
    spec = spec.model_copy(update={"arguments": {**spec.arguments, **small}})
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("model") / "stack.safetensors"
    save_model(path, spec.build(), spec)
    return path


@pytest.fixture
def predictor(model):
    return Predictor.from_files(model)


def seen_at(predictor, monkeypatch, *places):
    """Have the overview find the heart in these tokens (row, column) of every slice."""

    def relevance(tokens, box, has_box):
        logits = torch.full(tokens.shape[:-1], -9.0)
        for row, column in places:
            logits[:, :, row, column] = 9.0
        return logits

    monkeypatch.setattr(predictor.segmenter.network.heart_relevance, "forward", relevance)


def test_the_model_file_says_which_way_its_network_looks(predictor):
    assert isinstance(predictor.segmenter, StackSegmenter) and predictor.plan.threshold == 0.1


@pytest.mark.slow
def test_a_box_gives_a_mask_on_the_image_s_own_grid(predictor, heart):
    predictor.set_image(heart)
    found = predictor.predict([BOX], return_tokens=True, return_uncertainty=True)
    assert found.mask.shape == heart.array.shape and found.mask.dtype == np.uint8 and found.tokens.shape == heart.array.shape
    assert not found.mask[:, :, [0, 4]].any() and found.box == BOX.box and found.box_source == "roi"
    assert set(found.kept_fraction) == {"overview"} and 0 <= found.entropy <= 1
    again = predictor.predict([BOX])
    assert np.array_equal(again.mask, found.mask) and again.gflops < found.gflops  # what depends on no prompt was at hand


def test_without_a_prompt_it_looks_where_the_overview_sees_the_heart(predictor, heart, monkeypatch):
    monkeypatch.setattr(stack_slices, "FIELD", 0.0)  # the image is seen as it is
    seen_at(predictor, monkeypatch, (3, 4), (4, 4))
    predictor.set_image(heart)
    found = predictor.predict(return_tokens=True)
    # tokens of 12 mm: rows 36 to 60 mm, columns 48 to 60 mm, of voxels of 2 mm, to whole voxels outwards
    seen = Box((18, 23, 0), (30, 30, 5))
    assert predictor.locator.propose(ImageStack(heart), BatchRunner())[0] == seen
    assert found.box_source == "proposed" and found.box == Box.union([seen, Box.around(found.mask)])
    assert found.tokens[24, 27, 2] == 1 and found.warnings == []


def test_to_find_the_heart_costs_what_the_overview_computes(predictor, heart, monkeypatch):
    seen_at(predictor, monkeypatch, (3, 4), (4, 4))
    boxed = Box((0, 0, 0), heart.array.shape)

    def cost(*prompts):
        predictor.set_image(heart)
        return predictor.predict(prompts).gflops

    found, drawn, again = cost(), cost(BoxPrompt(boxed)), predictor.predict([BoxPrompt(boxed)]).gflops
    assert found == pytest.approx(drawn, rel=0.02) and found > 1.005 * again  # each computes the overview once; the last has it at hand


def test_where_no_heart_is_seen_the_whole_image_is(predictor, heart, monkeypatch):
    seen_at(predictor, monkeypatch)
    predictor.set_image(heart)
    found = predictor.predict()
    assert found.box_source == "whole_image" and found.box == Box.whole(heart.array.shape) and found.kept_fraction == {"overview": 1.0}


@pytest.mark.parametrize(
    ("voxels", "mm", "field", "token", "box"),
    [
        (10, 30.0, 0.0, 0, (0, 1)),  # tokens of 12 mm in voxels of 30 mm
        (65, 1.5, 0.0, 9, (64, 65)),  # 65 pixels, to which 15 are added: the last token lies in these
        (65, 1.5, 200.0, 9, (38, 46)),  # 34 of its mirror image before it
        (65, 1.5, 200.0, 4, (0, 6)),  # partly in the mirror image
        (65, 1.5, 200.0, 2, (0, 1)),  # in that alone
    ],
)
def test_a_heart_that_is_seen_in_one_token_lies_in_a_voxel_of_the_image(predictor, monkeypatch, voxels, mm, field, token, box):
    monkeypatch.setattr(stack_slices, "FIELD", field)
    image = np.random.default_rng(0).normal(size=(voxels, voxels, 3)).astype(np.float32)
    monkeypatch.setattr(predictor.segmenter.spec, "pixel", 1.5)
    seen_at(predictor, monkeypatch, (token, token))
    stack = ImageStack(Volume(image, np.diag([mm, mm, 4 * mm, 1.0])))
    found, _ = predictor.segmenter.propose(stack, IMMEDIATE)
    assert found == Box((box[0], box[0], 0), (box[1], box[1], 3))


def test_a_voxel_has_the_token_that_its_centre_lies_in(predictor, monkeypatch):
    seen_at(predictor, monkeypatch, (8, 9))
    voxels, pixels = 187, 240  # of 1.54 mm and 1.2 mm
    mm = pixels * predictor.segmenter.spec.pixel / voxels
    image = np.random.default_rng(0).normal(size=(voxels, voxels, 2)).astype(np.float32)
    predictor.set_image(Volume(image, np.diag([mm, mm, 8.0, 1.0])))
    tokens = predictor.predict(return_tokens=True).tokens
    centres = (np.arange(voxels) + 0.5) * pixels / voxels
    rows, columns = (np.flatnonzero(tokens[:, :, 0].any(axis)) for axis in (1, 0))
    for kept, middle in ((rows, 68), (columns, 76)):  # 96 pixels round the token's middle, on the grid of tokens
        start = round((middle - 48) / 8) * 8
        assert kept.tolist() == np.flatnonzero((centres >= start) & (centres < start + 96)).tolist()


def test_slices_may_lie_along_any_axis(predictor, heart):
    predictor.set_image(heart)
    straight = predictor.predict([BOX])
    turned = Volume(np.ascontiguousarray(heart.array.transpose(2, 0, 1)), heart.affine[:, [2, 0, 1, 3]])
    predictor.set_image(turned)
    box = BoxPrompt(Box((1, 14, 5), (4, 46, 35)))
    assert np.array_equal(predictor.predict([box]).mask.transpose(1, 2, 0), straight.mask)


@pytest.mark.parametrize("prune", ["off", "25", "50", "75", None])
def test_every_level_of_pruning_answers(predictor, heart, prune):
    predictor.set_image(heart)
    found = predictor.predict([BOX], prune)
    assert found.mask.shape == heart.array.shape and (found.kept_fraction == {}) == (prune == "off")


@pytest.mark.slow
def test_costs_of_a_slice(predictor):
    pruned, dense = predictor.segmenter.slice_cost(None), predictor.segmenter.slice_cost("off")
    assert 0 < pruned[0] <= dense[0] + 0.001 and pruned[1] > 0  # it sees hearts everywhere: nothing leaves, and asking is not free


def test_a_cancelled_request_ends(predictor, heart):
    predictor.set_image(heart)
    with pytest.raises(CancelledError):
        predictor.predict([BOX], runner=BatchRunner(CancelToken(lambda: True)))


def test_a_prompt_beyond_the_image_is_refused(predictor, heart):
    predictor.set_image(heart)
    with pytest.raises(ValueError, match="draw inside it"):
        predictor.predict([BoxPrompt(Box((14, 5, 1), (46, 35, 9)))])


@pytest.mark.parametrize("prune", ["off", None])
def test_a_long_stack_is_computed_in_parts_with_the_same_answer(predictor, heart, monkeypatch, prune):
    predictor.set_image(heart)
    whole = predictor.predict([BOX], prune, return_tokens=True, return_uncertainty=True)
    calls = []
    monkeypatch.setattr("prato.models.overview_network.CPU_PIXELS", 1)

    class Runner(BatchRunner):
        def __call__(self, call):
            calls.append(call)
            return call(self.token)

    parts = predictor.predict([BOX], prune, return_tokens=True, return_uncertainty=True, runner=Runner())
    assert len(calls) >= 1 + 3, "a labeller who waits comes between any two parts"
    assert np.array_equal(parts.mask, whole.mask) and np.array_equal(parts.tokens, whole.tokens)
    assert parts.entropy == pytest.approx(whole.entropy, abs=1e-6) and parts.kept_fraction == whole.kept_fraction


def test_what_the_network_thought_is_kept_with_the_image_and_the_same_when_computed_again(predictor, heart):
    predictor.set_image(ImageStack(heart))
    mask = predictor.predict([BOX], keep_scores=True).mask
    kept = predictor.scores([BOX])
    assert kept is predictor.scores([BOX]) and kept is not predictor.scores()
    again = Predictor(predictor.segmenter)
    again.set_image(ImageStack(heart))
    computed = again.scores([BOX])
    assert computed is not kept and computed.planes == kept.planes == (1, 2, 3) and np.array_equal(computed.values, kept.values)
    assert (kept.values.max(1) == 255).all() and mask.any()
    beyond = kept.cut(0, (-4, 0), 8, kept.pixels)
    assert beyond.shape == (4, 8, 8) and (beyond[0] == 1).all() and (beyond[1:] == 0).all()


def test_a_network_for_windows_has_no_scores_without_one_that_sees_the_stack(model_files, heart):
    alone = Predictor.from_files(model_files["unetr"])
    alone.set_image(heart)
    assert alone.scores() is None


def test_a_click_keeps_its_token_and_neither_moves_the_box_nor_leaves_slices_out(predictor, heart, monkeypatch):
    seen_at(predictor, monkeypatch, (0, 0))
    predictor.set_image(heart)
    (click,) = ClickPrompt.from_strokes([Stroke(3, np.array([[59, 49, 3]])), Stroke(0, np.array([[0, 0, 0]]))])
    plain, clicked = (predictor.predict(prompts, return_tokens=True) for prompts in ((), (click,)))
    assert (clicked.box, clicked.box_source) == (Box.union((plain.box, Box.around(clicked.mask))), plain.box_source)
    assert clicked.tokens[59, 49, 3] == 1 and clicked.kept_fraction["overview"] >= plain.kept_fraction["overview"]
    boxed = predictor.predict((BOX, click), return_tokens=True)
    assert boxed.box == BOX.box and boxed.tokens[59, 49, 3] == 1
