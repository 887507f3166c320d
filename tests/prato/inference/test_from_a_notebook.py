"""What somebody hands the predictor in a notebook: an image of any dtype and layout, a copy for another process, and what is no image."""

from __future__ import annotations

import copy
import json
import pickle
from typing import Any

import numpy as np
import pytest
import torch

from prato.data.nifti import Volume, VolumeError
from prato.inference.predictor import Predictor
from prato.prompts.base import PromptError
from prato.prompts.box import Box, BoxPrompt

BOX = Box((15, 5, 1), (45, 35, 4))


@pytest.fixture(scope="module")
def predictor(model_files: Any) -> Predictor:
    return Predictor.from_files(model_files["unetr"], device=torch.device("cpu"))


def segment(predictor: Predictor, array: Any, affine: Any) -> np.ndarray:
    predictor.set_image(Volume(array, affine))
    return predictor.predict([BoxPrompt(BOX)]).mask


def test_dtype_and_layout_make_no_difference(predictor: Predictor, heart: Volume) -> None:
    whole = heart.array.round().astype(np.int16)
    expected = segment(predictor, whole, heart.affine)
    for array in (
        *(whole.astype(dtype) for dtype in (np.float64, np.int64, ">i2", ">f4")),
        *(np.asfortranarray(whole), np.repeat(whole, 2, axis=0)[::2], whole.tolist(), torch.from_numpy(whole)),
    ):
        assert (segment(predictor, array, heart.affine.tolist()) == expected).all()


def test_values_that_are_no_numbers_are_taken_as_they_are_from_a_file(predictor: Predictor, heart: Volume) -> None:
    array = heart.array.copy()
    array[0, 0, 0] = array.min()
    expected = segment(predictor, array, heart.affine)
    array[0, 0, 0] = np.nan
    assert (segment(predictor, array, heart.affine) == expected).all()
    assert "voxels_not_finite" in predictor.predict([BoxPrompt(BOX)]).warnings


@pytest.mark.parametrize(
    ("array", "affine", "said"),
    [
        (np.zeros((8, 8)), np.eye(4), r"three axes \(X, Y, Z\) of numbers, not float64 of shape \(8, 8\)"),
        (np.zeros((8, 8, 4, 2)), np.eye(4), r"not float64 of shape \(8, 8, 4, 2\)"),
        (np.zeros((0, 8, 4)), np.eye(4), r"not float64 of shape \(0, 8, 4\)"),
        (np.zeros((8, 8, 4), complex), np.eye(4), "not complex128"),
        (np.full((8, 8, 4), np.nan), np.eye(4), "no finite value"),
        (np.zeros((8, 8, 4)), np.eye(3), r"an affine of shape \(3, 3\)"),
        (np.zeros((8, 8, 4)), np.zeros((4, 4)), "without a voxel size"),
    ],
)
def test_what_is_no_image_is_refused_and_the_one_before_stays(
    predictor: Predictor, heart: Volume, array: np.ndarray, affine: np.ndarray, said: str
) -> None:
    expected = segment(predictor, heart.array, heart.affine)
    with pytest.raises(VolumeError, match=said):
        predictor.set_image(Volume(array, affine))
    assert (predictor.predict([BoxPrompt(BOX)]).mask == expected).all()


@pytest.mark.parametrize("image", [np.zeros((8, 8, 4)), "heart.nii.gz", None])
def test_an_image_without_a_grid_is_told_how_to_become_a_volume(predictor: Predictor, image: Any) -> None:
    with pytest.raises(VolumeError, match=r"An image must be a Volume, not \w+: make it by read_volume"):
        predictor.set_image(image)


@pytest.mark.parametrize("prompts", [BoxPrompt(BOX), [BOX], [15, 45, 5, 35, 1, 4], None])
def test_what_is_no_list_of_prompts_is_refused(predictor: Predictor, heart: Volume, prompts: Any) -> None:
    predictor.set_image(heart)
    with pytest.raises(PromptError, match=r"Prompts must be a list such as \[BoxPrompt"):
        predictor.predict(prompts)


def test_boxes_are_of_whole_voxels_on_three_axes(predictor: Predictor, heart: Volume) -> None:
    predictor.set_image(heart)
    counted = Box(tuple(np.array(BOX.start)), tuple(torch.tensor(BOX.stop)))
    found = predictor.predict(BoxPrompt(box) for box in [counted])
    assert counted == BOX and json.loads(json.dumps(found.reply()))["box"] == [15, 45, 5, 35, 1, 4]
    with pytest.raises(PromptError, match="whole voxels"):
        Box((15.5, 5, 1), (45, 35, 4))  # type: ignore[arg-type]
    with pytest.raises(PromptError, match=r"with boxes of three axes, not \[BoxPrompt"):
        predictor.predict([BoxPrompt(BOX.in_plane)])


def test_a_copy_answers_the_same(predictor: Predictor, heart: Volume) -> None:
    expected = segment(predictor, heart.array, heart.affine)
    for copied in (copy.deepcopy(predictor), pickle.loads(pickle.dumps(predictor))):
        assert (copied.predict([BoxPrompt(BOX)]).mask == expected).all()
