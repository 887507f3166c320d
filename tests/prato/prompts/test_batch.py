"""Prompts of a batch on a network's input, degenerate boxes among them."""

import pytest
import torch

from prato.prompts.base import Prompt, list_prompts, register_prompt
from prato.prompts.batch import PixelGrid, PromptBatch
from prato.prompts.box import Box, BoxPrompt
from prato.prompts.points import PointsPrompt
from prato.pruning.plan import PruningPlan
from prato.runtime.region import Region

SIZE = (100, 80)


def build(*per_sample):
    return PromptBatch.of(BoxPrompt, per_sample, SIZE)


def test_boxes_keep_their_sample():
    prompts = build([((0, 0), (10, 10))], [], [((5, 5), (9, 9)), ((20, 20), (30, 40))])
    (group,) = prompts.groups
    assert group.sample.tolist() == [0, 2, 2]
    assert prompts.prompted.tolist() == [True, False, True]
    assert group.coordinates[2].tolist() == [[20.0, 20.0], [30.0, 40.0]]


@pytest.mark.parametrize(
    "box",
    [
        ((10.0, 10.0), (10.5, 10.5)),  # less than a pixel
        ((10.0, 10.0), (10.0, 10.0)),  # a point
        ((100.5, 10.0), (140.0, 30.0)),  # outside
        ((-20.0, 10.0), (-1.0, 30.0)),
        ((100.0, 10.0), (140.0, 30.0)),  # touches it from outside
        ((-20.0, 10.0), (0.0, 30.0)),
        ((99.6, 10.0), (140.0, 11.0)),  # less than a pixel is left inside
    ],
)
def test_a_box_with_less_than_a_pixel_inside_is_no_box(box):
    assert not build([box]).prompted.any()
    assert build([box]).is_empty


def test_boxes_are_sorted_and_clipped():
    assert build([((90.0, 20.0), (120.0, 10.0))]).groups[0].coordinates[0].tolist() == [[90.0, 10.0], [100.0, 20.0]]


def test_a_line_is_a_box():
    assert build([((10.0, 20.0), (10.0, 40.0))]).prompted.all()


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_not_a_number_is_refused(value):
    with pytest.raises(ValueError, match="finite"):
        build([((0.0, value), (10.0, 10.0))])


def test_a_volume_box_is_refused_on_a_plane():
    with pytest.raises(ValueError, match="2 axes"):
        build([((0, 0, 0), (5, 5, 5))])


def test_an_empty_batch_prompts_nobody():
    empty = PromptBatch.empty(3, SIZE)
    assert empty.prompted.tolist() == [False] * 3 and empty.is_empty and build([], [], []) == empty
    assert not empty.protected((10, 8)).any() and empty.guidance() is None
    queries, valid = empty.queries(torch.randn(3, 4, 10, 8), 5)
    assert queries.shape[::2] == (3, 4) and not valid.any()


def test_voxels_become_pixels_in_one_conversion():
    """Two pixels a voxel along the first axis; the input begins 10 pixels into the image."""
    prompts = [BoxPrompt(Box((10, 20, 3), (30, 50, 4))), PointsPrompt(Box((5, 6, 0), (40, 46, 9)))]
    place = SIZE, PixelGrid((0, 1), (2.0, 1.0), (10, 0))
    placed = PromptBatch.from_voxels([prompts, [prompts[0]]], *place)
    boxes, points = placed.groups
    assert (boxes.kind, points.kind) == (BoxPrompt, PointsPrompt)
    assert boxes.coordinates.tolist() == [[[10.0, 20.0], [50.0, 50.0]]] * 2 and boxes.sample.tolist() == [0, 1]
    assert points.coordinates.tolist() == [[[0.0, 6.0], [70.0, 46.0]]]
    assert not placed.is_one_each and PromptBatch.from_voxels([[p] for p in prompts[:1]], *place).is_one_each
    turned = PromptBatch.from_voxels([prompts[:1]], SIZE, PixelGrid((2, 0), (4.0, 1.0), (0, 0)))
    assert turned.groups[0].coordinates.tolist() == [[[12.0, 10.0], [16.0, 30.0]]]


def test_tokens_that_a_prompt_touches_are_protected_and_its_footprint_holds_them():
    prompts = build([((10.5, 0.0), (20.0, 15.0))], [], [((90.0, 70.0), (100.0, 80.0))])
    protected = prompts.protected((10, 8)).unflatten(1, (10, 8))
    assert protected[0].nonzero().tolist() == [[1, 0], [1, 1]]
    assert not protected[1].any() and protected[2].nonzero().tolist() == [[9, 7]]
    assert prompts.protected((10, 8), 0.6).unflatten(1, (10, 8))[0].nonzero().tolist() == [[i, j] for i in (0, 1, 2) for j in (0, 1)]
    assert prompts.footprint(SIZE) == Region((10, 0), (100, 80), SIZE)
    assert build([((10.5, 0.0), (20.0, 15.0))]).footprint((10, 8), 5.0) == Region((0, 0), (3, 2), (10, 8))


@pytest.mark.parametrize("place", [20.0, 19.999, 0.0, 99.5])
def test_a_line_touches_the_tokens_that_it_lies_in_also_between_two(place):
    line = build([((place, 8.0), (place, 24.0))])
    row = int(place // 10)
    assert line.protected((10, 8)).unflatten(1, (10, 8))[0].nonzero().tolist() == [[row, j] for j in (0, 1, 2)]
    assert line.footprint((10, 8)) == Region((row, 0), (row + 1, 3), (10, 8))
    assert PruningPlan(prune_after=(1,), margin=0.0).start(line, (10, 8)).sum() == 3  # no block may be left without tokens


def test_one_prompt_each_gives_what_the_general_way_gives():
    boxes = [((10.5, 3.0), (44.0, 50.0)), ((0.0, 0.0), (30.2, 31.0))]
    each = build(*([box] for box in boxes))
    general = PromptBatch(each.groups, each.batch, each.size)
    assert each.is_one_each
    features = torch.randn(2, 4, 10, 8)
    assert all(torch.equal(a, b) for a, b in zip(each.queries(features, 3), general.queries(features, 3)))
    assert torch.equal(each.protected((10, 8), 2.0), general.protected((10, 8), 2.0))
    assert torch.equal(each.prompted, general.prompted) and each.seed == general.seed
    again = PromptBatch.one_each(BoxPrompt, each.groups[0].coordinates, SIZE)
    assert torch.equal(again.queries(features, 3)[0], each.queries(features, 3)[0])


def test_on_a_part_of_the_input_prompts_are_where_they_were():
    part = build([((30.0, 20.0), (50.0, 44.0))]).crop((20, 10), (40, 40))
    assert part.size == (40, 40) and part.groups[0].coordinates.tolist() == [[[10.0, 10.0], [30.0, 34.0]]]


def test_a_box_is_a_picture_for_networks_that_take_one():
    picture = build([((1.0, 2.5), (3.0, 5.6)), ((6, 6), (8, 8))], []).guidance()
    assert picture.shape == (2, 1, *SIZE) and not picture[1].any()
    assert picture[0, 0].nonzero().tolist() == [[i, j] for i in (1, 2) for j in (2, 3, 4, 5)] + [[i, j] for i in (6, 7) for j in (6, 7)]


def test_kinds_that_answer_differently_share_a_batch():
    """A kind of its own: two clicks, of which each is one query; nothing outside its class knows."""

    class Clicks(BoxPrompt):
        @staticmethod
        def clip(coordinates, size):
            return Prompt.clip(coordinates, size)

        @staticmethod
        def queries(features, coordinates, sample, k):
            i, j = coordinates.long().unbind(-1)
            return torch.stack([features[s, :, i[n], j[n]].T for n, s in enumerate(sample.tolist())])

    features = torch.randn(2, 3, 10, 8)
    mixed = PromptBatch.from_pixels([[(Clicks, [[15.0, 25.0], [95.0, 5.0]]), (BoxPrompt, [[0, 0], [50, 40]])], []], SIZE)
    queries, valid = mixed.queries(features, 2)
    assert queries.shape == (2, 2 + 4, 3) and valid.tolist() == [[True] * 6, [False] * 6]
    assert torch.equal(queries[0, :2], torch.stack([features[0, :, 1, 2], features[0, :, 9, 0]]))
    assert mixed.prompted.tolist() == [True, False]
    assert PromptBatch.of(Clicks, [[[[-5.0, 5.0], [-2.0, 60.0]]]], SIZE).is_empty  # beside the input


def test_a_kind_that_is_but_a_box_is_a_prompt_on_an_input_that_is_smaller_than_it():
    class Ellipse(Prompt):
        fields = ("ellipse",)

        @classmethod
        def from_request(cls, params, shape, spacing):
            return ()

        @staticmethod
        def queries(features, coordinates, sample, k):
            return BoxPrompt.queries(features, coordinates, sample, k)

    drawn = Ellipse(Box((0, 0, 1), (300, 300, 2)))
    prompts = PromptBatch.from_voxels([[drawn]], SIZE, PixelGrid((0, 1), (1.0, 1.0), (100, 110)))
    assert prompts.prompted.all() and prompts.groups[0].coordinates.tolist() == [[[0.0, 0.0], list(SIZE)]]


def test_kinds_are_found_by_name_boxes_first():
    names = [kind.name for kind in list_prompts()]
    assert names[0] == "roi" and {"clicks", "points"} <= {*names} and names[1:] == sorted(names[1:])
    with pytest.raises(ValueError, match="registered as 'roi'"):
        register_prompt("roi")(PointsPrompt)
    assert BoxPrompt.name == "roi" and PointsPrompt.name == "points"


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ("scribble", r"Scribble.fields must be a tuple .* such as \('scribble',\)"),
        (None, "Scribble.fields must be a tuple"),
        (("scribble", "LV"), "'points' and 'scribble' are both read from 'LV'"),
    ],
)
def test_a_kind_says_which_parameters_are_its_own(fields, said):
    scribble = type("Scribble", (PointsPrompt,), {"fields": fields})
    with pytest.raises((TypeError, ValueError), match=said):
        register_prompt("scribble")(scribble)
    assert scribble not in list_prompts()
