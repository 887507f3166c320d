"""Requests as clients send them."""

import pytest

from prato.prompts.request import RequestError, parse_request

SHAPE, SPACING = (100, 80, 10), (1.5, 1.5, 8.0)


def parse(**params):
    return parse_request(params, SHAPE, SPACING)


def test_nothing_asked_is_a_proposal():
    request = parse()
    assert request.boxes == () and request.source == "none" and request.prune is None and not request.return_tokens
    assert parse(roi=None).source == parse(roi=[]).source == "none"


def test_one_box_or_several():
    assert [b.bounds for b in parse(roi=[1, 20, 2, 30, 0, 5]).boxes] == [(1, 20, 2, 30, 0, 5)]
    two = parse(roi=[[1, 20, 2, 30, 0, 5], [60, 40, 2, 30, 9, 5]])
    assert [b.bounds for b in two.boxes] == [(1, 20, 2, 30, 0, 5), (40, 60, 2, 30, 5, 9)]
    assert two.source == "roi"


def test_points_become_a_box_with_room_round_them():
    request = parse(RV=[[40, 40, 4]], LV=[[60, 45, 6]], foreground=[])
    assert request.source == "points"
    assert request.boxes[0].bounds == (20, 81, 20, 66, 3, 8)
    # on one slice they say nothing of the others
    assert parse(**{"LV cavity": [[50, 40, 4]]}).boxes[0].bounds == (30, 71, 20, 61, 0, 10)
    # a bare point, as OHIF sends it
    assert parse(foreground=[50, 40, 4]).boxes == parse(foreground=[[50, 40, 4]]).boxes


def test_a_box_goes_before_points():
    assert parse(roi=[1, 20, 2, 30, 0, 5], RV=[[40, 40, 4]]).source == "roi"


def test_a_choice_list_sent_back_means_the_default():
    assert parse(prune=["off", "25", "50", "75"]).prune is None
    assert parse(prune="50").prune == "50"


@pytest.mark.parametrize(
    ("params", "word"),
    [
        ({"roi": [1, 2, 3]}, "6 voxel bounds"),
        ({"roi": "heart"}, "6 voxel bounds"),
        ({"roi": [[1, 20, 2, 30, 0, 5]] * 33}, "at most 32"),
        ({"roi": [[1, 20, 2, 30, 0, 5], [1, 2]]}, "6 voxel bounds"),
        ({"roi": [1, 20, 2, 30, 0, float("nan")]}, "finite"),
        ({"roi": [200, 300, 2, 30, 0, 5]}, "outside the image of 100x80x10"),
        ({"roi": [5, 5, 5, 5, 0, 5]}, "no area"),
        ({"prune": "60"}, "off, 25, 50, 75"),
        ({"prune": 50}, "off, 25, 50, 75"),
        ({"return_tokens": "yes"}, "true or false"),
        ({"RV": "here"}, "list of points"),
        ({"RV": [[1, 2]]}, "three finite voxel indices"),
        ({"RV": [[1, 2, float("nan")]]}, "three finite voxel indices"),
        ({"LV": [[1, 2, 10]]}, "outside the image"),
    ],
)
def test_what_cannot_be_answered_is_refused_in_one_sentence(params, word):
    with pytest.raises(RequestError, match=word) as caught:
        parse(**params)
    assert "\n" not in str(caught.value)
