"""Requests as clients send them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prato.inference.request import CONTRACT, InferenceRequest, RequestError

SHAPE, SPACING = (100, 80, 10), (1.5, 1.5, 8.0)


def prompts(**params):
    return InferenceRequest.parse(params).prompts(SHAPE, SPACING)


def parse(**params):
    return InferenceRequest.parse(params)


def test_no_prompt_is_a_proposal():
    request = parse()
    assert request.prune is None and not request.return_tokens and request.image is None
    assert prompts() == prompts(roi=None) == prompts(roi=[]) == prompts(RV=None, foreground=[]) == ()


def test_one_box_or_several():
    assert [p.box.bounds for p in prompts(roi=[1, 20, 2, 30, 0, 5])] == [(1, 20, 2, 30, 0, 5)]
    two = prompts(roi=[[1, 20, 2, 30, 0, 5], [60, 40, 2, 30, 9, 5]])
    assert [p.box.bounds for p in two] == [(1, 20, 2, 30, 0, 5), (40, 60, 2, 30, 5, 9)]
    assert {p.name for p in two} == {"roi"}


def test_points_become_a_box_with_room_round_them():
    (found,) = prompts(foreground=[[40, 40, 4], [60, 45, 6]], RV=[])
    assert found.name == "points"
    assert found.box.bounds == (20, 81, 20, 66, 3, 8)
    # on one slice they say nothing of the others, and on structures they say what is there
    assert prompts(RV=[[40, 40, 4]], LV=[[60, 45, 6]], foreground=[])[0].box.bounds == (20, 81, 20, 66, 0, 10)
    assert prompts(**{"LV cavity": [[50, 40, 4]]})[0].box.bounds == (30, 71, 20, 61, 0, 10)
    # a bare point, as OHIF sends it
    assert prompts(foreground=[50, 40, 4]) == prompts(foreground=[[50, 40, 4]])


def test_a_box_goes_before_points():
    assert prompts(roi=[1, 20, 2, 30, 0, 5], RV=[[40, 40, 4]])[0].name == "roi"


def test_what_a_client_sends_back_untouched_means_the_default():
    assert parse(prune=["off", "25", "50", "75"]).prune is None
    assert parse(prune="default").prune is None
    assert parse(prune="50").prune == "50"
    assert (parse().result_extension, parse(result_extension="", result_dtype=None).result_dtype) == (".nii.gz", "uint8")
    assert (parse(result_extension=".nrrd").result_extension, parse(result_dtype="uint16").result_dtype) == (".nrrd", "uint16")


def test_what_stock_clients_and_the_server_send_along_is_let_through():
    request = parse(
        model="m", image="/a/b.nii", client_id="x", slice=3, points=[], label_info=[], save_label=False, result_write_to_file=False
    )
    assert request.image == "/a/b.nii" and request.drawn == {}
    assert parse(roi=[1, 2], background=[[1, 2, 3]]).drawn == {"roi": [1, 2], "background": [[1, 2, 3]]}


@pytest.mark.parametrize("name", ["highress", "prunee", "drawn", "prompts"])
def test_a_parameter_that_nobody_knows_is_refused(name):
    wanted = f"use {', '.join(CONTRACT)}, or points .i,j,k. under RV cavity, myocardium, LV cavity"
    with pytest.raises(RequestError, match=f"'{name}' is not a parameter here: {wanted}"):
        parse(**{name: 1})


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
        ({"result_extension": ".mha"}, "result_extension must be one of .nii.gz, .nii, .nrrd, not '.mha'"),
        ({"result_dtype": "float"}, "result_dtype must be one of uint8, uint16, not 'float'"),
        ({"prune": {"a": 1}}, "off, 25, 50, 75"),
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
        prompts(**params)
    assert "\n" not in str(caught.value)


@given(st.permutations([0, 1, 2]), st.lists(st.tuples(st.integers(0, 99), st.integers(0, 79), st.integers(0, 9)), min_size=1, max_size=4))
def test_clicks_mean_the_same_whichever_axis_the_slices_lie_along(order, points):
    shape, spacing = (100, 80, 10), (1.5, 2.0, 8.0)

    def box(axes):
        params = {"LV cavity": [[point[a] for a in axes] for point in points]}
        (prompt,) = InferenceRequest.parse(params).prompts(tuple(shape[a] for a in axes), tuple(spacing[a] for a in axes))
        return prompt.box

    assert box(order) == box([0, 1, 2]).rearrange(order, (1, 1, 1), (0, 0, 0))


def test_what_is_drawn_and_read_by_nobody_is_named():
    drawn = {"roi": [0, 9, 0, 9, 0, 5], "foreground": [[1, 2, 3]], "LV": [[1, 2, 3]], "background": [[1, 1, 1]], "points": []}
    assert InferenceRequest.parse(drawn).warnings == ("parameter_ignored: foreground",)
    assert InferenceRequest.parse({"previous": {}, "foreground": [[1, 2, 3]]}).warnings == ()
    assert InferenceRequest.parse({"previous": {"box": []}, "foreground": [[1, 2, 3]]}).warnings == ("parameter_ignored: foreground",)
    for default in (["default", "off"], "default", None):  # of the list that clients show
        assert InferenceRequest.parse({"previous": {"box": []}, "return_tokens": False, "prune": default}).warnings == ()
    named = ("parameter_ignored: return_tokens", "parameter_ignored: prune")
    assert InferenceRequest.parse({"previous": {"box": []}, "return_tokens": True, "prune": "off"}).warnings == named
    assert InferenceRequest.parse({"return_tokens": True, "prune": "off"}).warnings == ()
    with pytest.raises(RequestError, match="'warnings' is not a parameter"):
        InferenceRequest.parse({"warnings": []})


def test_points_are_unused_beside_a_box_and_clicks_always():
    drawn = {
        "clicks": [{"structure": "LV", "points": [[1, 2, 3]]}],
        "LV": [[1, 2, 3]],
        "foreground": [[1, 2, 3]],
        "background": [[4, 5, 6]],
    }
    assert parse(**drawn).unused_clicks == ["clicks", "background"]
    boxed = parse(roi=[1, 20, 2, 30, 0, 5], **drawn)
    assert boxed.unused_clicks == ["clicks", "LV", "background"] and boxed.warnings == ("parameter_ignored: foreground",)
    assert parse(roi=[1, 20, 2, 30, 0, 5], clicks=[], LV=None).unused_clicks == []


@pytest.mark.parametrize("point", [[-1, 0, 0], [100, 0, 0], [0, -0.5, 0], [0, 80, 0], [0, 0, -1], [0, 0, 10]])
def test_a_point_outside_the_image_is_refused_and_its_corners_are_not(point):
    assert prompts(foreground=[[0, 0, 0], [99.9, 79.9, 9.9]])[0].box.bounds == (0, 100, 0, 80, 0, 10)
    with pytest.raises(RequestError, match=r"The point .* of foreground lies outside the image of 100x80x10 voxels"):
        prompts(foreground=[[50, 40, 5], point])
