"""What people's images do to the shipped network: the mask of a generated heart, stored and disturbed in many ways, stays the same."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from prato.data.nifti import Volume
from prato.inference.prediction import Prediction
from prato.inference.predictor import Predictor
from prato.models.registry import DEFAULT_MODEL
from prato.phantom.frames import make_phantom
from prato.prompts.box import Box, BoxPrompt

pytestmark = pytest.mark.slow
MODEL = Path(__file__).parents[3] / "apps" / "prato_label" / "model" / f"{DEFAULT_MODEL}.safetensors"


@pytest.fixture(scope="module")
def predictor() -> Predictor:
    return Predictor.from_files(MODEL)


@pytest.fixture(scope="module")
def heart() -> tuple[Volume, np.ndarray]:
    """Four slices of a generated heart and their true mask."""
    phantom = make_phantom(5, 1)
    return Volume(phantom.images["ED"][:, :, 3:7].astype(np.float32), phantom.affine), phantom.labels["ED"][:, :, 3:7]


def segment(predictor: Predictor, image: Volume, truth: np.ndarray) -> tuple[Prediction, float]:
    """The prediction in the tight box of ``truth``, and their mean Dice."""
    predictor.set_image(image)
    tight = Box.around(truth)
    assert tight is not None
    found = predictor.predict([BoxPrompt(tight)])
    shares = [2 * ((found.mask == v) & (truth == v)).sum() / ((found.mask == v).sum() + (truth == v).sum()) for v in (1, 2, 3)]
    return found, float(np.mean(shares))


@pytest.fixture(scope="module")
def clean(predictor: Predictor, heart: tuple[Volume, np.ndarray]) -> float:
    _, dice = segment(predictor, *heart)
    assert dice > 0.85
    return dice


def filled(value: float, share: float = 0.03) -> object:
    def fill(array: np.ndarray) -> np.ndarray:
        out = array.copy()
        edge = max(1, round(share * len(out)))
        out[:edge] = out[-edge:] = value
        return out

    return fill


DISTURBED = {
    "-1000 at the edges": (filled(-1000), True),
    "-32768 at the edges": (filled(-32768, 0.1), True),
    "1e30 at the edges": (filled(1e30), True),
    "a bright band": (lambda a: np.where(np.arange(len(a))[:, None, None] < 0.03 * len(a), 12 * a.max(), a), True),
    "floats from 0 to 1": (lambda a: (a - a.min()) / np.ptp(a), False),
    "scaled and shifted": (lambda a: a * 0.25 - 512, False),
}


@pytest.mark.parametrize("case", DISTURBED)
def test_the_mask_is_as_good(predictor: Predictor, heart: tuple[Volume, np.ndarray], clean: float, case: str) -> None:
    disturb, is_warned_of = DISTURBED[case]
    image, truth = heart
    found, dice = segment(predictor, replace(image, array=disturb(image.array).astype(np.float32)), truth)
    assert dice > clean - 0.02
    assert ("intensity_outliers" in found.warnings) == is_warned_of


def in_all_of_it(predictor: Predictor, image: Volume, is_drawn: bool) -> Prediction:
    """Without a prompt, or with a box round the whole image."""
    predictor.set_image(image)
    return predictor.predict([BoxPrompt(Box.whole(image.array.shape))] if is_drawn else [])


@pytest.fixture(scope="module")
def as_it_is(predictor: Predictor, heart: tuple[Volume, np.ndarray]) -> list[Prediction]:
    return [in_all_of_it(predictor, heart[0], is_drawn) for is_drawn in (False, True)]


@pytest.mark.parametrize(("before", "after", "value"), [(3, 2, 0), (0, 5, 7)])
def test_blank_slices_that_were_added_change_nothing(
    predictor: Predictor, heart: tuple[Volume, np.ndarray], as_it_is: list[Prediction], before: int, after: int, value: int
) -> None:
    image, _ = heart
    added = [(0, 0), (0, 0), (before, after)]
    longer = replace(image, array=np.pad(image.array, added, constant_values=value))
    for is_drawn, plain in zip((False, True), as_it_is):
        found = in_all_of_it(predictor, longer, is_drawn)
        assert plain.mask.any()
        assert np.array_equal(np.pad(plain.mask, added), found.mask)
        if not is_drawn:
            assert plain.box and found.box
            assert [*found.box.bounds] == [*(plain.box.bounds + np.array([0, 0, 0, 0, before, before]))]


@pytest.mark.parametrize("name", ["prato_unetr", "prato_swin_unetr"])
def test_nor_do_they_for_networks_that_look_at_windows(heart: tuple[Volume, np.ndarray], name: str) -> None:
    predictor = Predictor.from_files(MODEL.with_name(f"{name}.safetensors"), MODEL)
    image, truth = heart
    added = [(0, 0), (0, 0), (2, 3)]
    plain, _ = segment(predictor, image, truth)
    found, _ = segment(predictor, replace(image, array=np.pad(image.array, added)), np.pad(truth, added))
    assert plain.mask.any() and np.array_equal(np.pad(plain.mask, added), found.mask)


def test_a_box_on_blank_slices_alone_is_answered(predictor: Predictor, heart: tuple[Volume, np.ndarray]) -> None:
    image, _ = heart
    predictor.set_image(replace(image, array=np.pad(image.array, [(0, 0), (0, 0), (2, 0)])))
    prediction = predictor.predict([BoxPrompt(Box((20, 20, 0), (60, 60, 1)))])
    assert prediction.mask.shape == (*image.array.shape[:2], image.array.shape[2] + 2)
    assert not prediction.mask.any() and "mask_is_empty" in prediction.warnings  # nor is anything there


@pytest.mark.parametrize("is_drawn", [False, True])
def test_an_image_that_shows_nothing_has_no_heart(is_drawn: bool) -> None:
    small = Predictor.from_files(MODEL.with_name("prato_overview_unet_small.safetensors"))  # which sees one there
    nothing = Volume(np.zeros((60, 50, 5), np.float32), np.diag([1.4, 1.4, 8.0, 1.0]))
    found = in_all_of_it(small, nothing, is_drawn)
    assert not found.mask.any() and {"image_is_constant", "mask_is_empty"} <= {*found.warnings}


@pytest.mark.parametrize("order", [(2, 0, 1), (0, 2, 1)])
def test_the_order_of_the_axes_does_not_matter(
    predictor: Predictor, heart: tuple[Volume, np.ndarray], clean: float, order: tuple[int, ...]
) -> None:
    image, truth = heart
    moved = Volume(image.array.transpose(order), image.affine[:, [*order, 3]])
    assert segment(predictor, moved, truth.transpose(order))[1] == pytest.approx(clean, abs=0.01)


@pytest.mark.parametrize("axis", [0, 1])
def test_a_single_slice_is_segmented_along_any_axis(predictor: Predictor, heart: tuple[Volume, np.ndarray], axis: int) -> None:
    image, truth = heart
    k = truth.shape[2] // 2
    masks = []
    for place in (2, axis):
        array, label = (np.moveaxis(a[:, :, k : k + 1], 2, place) for a in (image.array, truth))
        columns = np.moveaxis(image.affine[:, :3], 1, 0)
        columns = np.insert(np.delete(columns, 2, 0), place, columns[2], axis=0)
        found, dice = segment(predictor, Volume(array, np.column_stack([*columns, image.affine[:, 3]])), label)
        assert dice > 0.75
        masks.append(np.moveaxis(found.mask, place, 2))
    assert np.array_equal(*masks)
