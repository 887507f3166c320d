"""The range of grey values: what lies far outside is left out, ordinary images keep theirs."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from prato.data.intensity import find_intensity_range, normalise
from prato.phantom.frames import Phantom, make_phantom

OUTLIERS = ("intensity_outliers",)


@pytest.fixture(scope="module")
def heart() -> np.ndarray:
    phantom: Phantom = make_phantom(1, 3)
    return phantom.images["ED"].astype(np.float32)


def covered(image: np.ndarray, value: float, share: float) -> np.ndarray:
    """``image`` with so much of its first axis filled with ``value``."""
    filled = image.copy()
    filled[: max(1, round(share * len(image)))] = value
    return filled


@pytest.mark.slow
def test_an_ordinary_image_keeps_its_percentiles(heart: np.ndarray) -> None:
    found = find_intensity_range(heart)
    assert (found.low, found.high) == tuple(np.percentile(heart, (0.5, 99.5))) and not found.warnings


@pytest.mark.slow
@settings(max_examples=60, deadline=None)
@given(st.sampled_from([-1000, -1024, -32768, 65535, 1e30, -1e30]), st.floats(0.01, 0.6), st.sampled_from([1.0, 1 / 4096, 7.5]))
def test_a_fill_value_changes_next_to_nothing(heart_module: np.ndarray, fill: float, share: float, scale: float) -> None:
    image = covered(heart_module * scale, fill, share)
    rest = image[image != np.float32(fill)]
    found = find_intensity_range(image)
    assert found.warnings == OUTLIERS
    wanted = np.percentile(rest, (0.5, 99.5))
    np.testing.assert_allclose((found.low, found.high), wanted, atol=0.02 * (wanted[1] - wanted[0]))
    assert normalise(image)[image == np.float32(fill)].mean() == np.sign(fill)


@pytest.fixture(scope="module")
def heart_module(heart: np.ndarray) -> np.ndarray:
    return heart


@pytest.mark.parametrize("fill", [-1000, -32768])
@pytest.mark.parametrize("degrees", [3, 25])
def test_a_fill_value_that_interpolation_mixes_with_the_image_is_left_out(heart: np.ndarray, fill: float, degrees: float) -> None:
    turned = ndimage.rotate(heart, degrees, (0, 1), reshape=True, order=1, cval=fill)
    found, plain = find_intensity_range(turned), find_intensity_range(heart)
    assert found.warnings == OUTLIERS and found.low > -0.25 * (plain.high - plain.low)
    assert found.high == pytest.approx(plain.high, rel=0.1)


@pytest.mark.parametrize("times", [6, 12, 100])
@pytest.mark.parametrize("noise", [0.0, 0.2])
def test_a_bright_band_is_left_out(heart: np.ndarray, times: float, noise: float) -> None:
    band = covered(heart, 1.0, 0.03) == 1.0
    bright = np.where(band, times * heart.max() * (1 + noise * np.random.default_rng(0).normal(size=heart.shape)), heart)
    found, plain = find_intensity_range(bright), find_intensity_range(heart)
    assert found.warnings == OUTLIERS and found.high < 1.6 * plain.high


def test_low_and_high_outliers_together(heart: np.ndarray) -> None:
    both = covered(heart, -32768, 0.2)
    both[-8:] = 65535
    found, plain = find_intensity_range(both), find_intensity_range(heart[40:-8])
    assert found.warnings == OUTLIERS and found.low == pytest.approx(plain.low, abs=20) and found.high == pytest.approx(plain.high, rel=0.1)


@settings(max_examples=60, deadline=None)
@given(
    st.integers(0, 10**6),
    st.sampled_from(["normal", "uniform", "gamma", "masked", "masked closely", "two tissues", "a bright disc in the dark", "z-scores"]),
    st.sampled_from([1, 1 / 4096, 300]),
)
def test_tissue_is_no_outlier(seed: int, kind: str, scale: float) -> None:
    rng = np.random.default_rng(seed)
    image = {
        "normal": lambda: rng.normal(size=(20, 20, 5)),
        "uniform": lambda: rng.uniform(-1, 1, (20, 20, 5)),
        "gamma": lambda: rng.gamma(1.5, size=(20, 20, 5)),
        "masked": lambda: np.where(rng.random((20, 20, 5)) < 0.5, 0, rng.uniform(50, 200, (20, 20, 5))),
        "masked closely": lambda: np.where(rng.random((20, 20, 5)) < 0.8, 0, rng.uniform(50, 200, (20, 20, 5))),
        "two tissues": lambda: np.where(rng.random((20, 20, 5)) < 0.15, 150, 0) + rng.normal(60, 15, (20, 20, 5)),
        "a bright disc in the dark": lambda: np.where(rng.random((20, 20, 5)) < 0.2, 200, 0) + rng.normal(0, 5, (20, 20, 5)),
        "z-scores": lambda: np.where(rng.random((20, 20, 5)) < 0.6, rng.normal(-0.8, 0.05, (20, 20, 5)), rng.normal(1.2, 0.4, (20, 20, 5))),
    }[kind]()
    found = find_intensity_range((image * scale).astype(np.float32))
    assert not found.warnings
    out = normalise((image * scale).astype(np.float32))
    assert out.min() == -1 and out.max() == 1 and len(np.unique(out)) > 100


@pytest.mark.parametrize("value", [0, 7, -1000, 1e30])
def test_a_constant_image_is_named(value: float) -> None:
    image = np.full((6, 5, 4), value, np.float32)
    assert find_intensity_range(image).warnings == ("image_is_constant",) and (normalise(image) == -1).all()


def test_few_voxels_far_brighter_than_all_others_are_warned_of() -> None:
    """Coils, metal: the values rise without a gap, so nothing says where the artefact begins."""
    ramp = np.random.default_rng(0).uniform(0, 1, 20_000) ** 40 * 1000
    image = (np.random.default_rng(1).uniform(0, 10, 20_000) + ramp).reshape(50, 40, 10)
    assert find_intensity_range(image).warnings == ("intensity_range_wide",)


@pytest.mark.parametrize("fill", [0, 400])
@pytest.mark.parametrize("width", [(80, 90), (10, 500)])
def test_padding_larger_than_the_image_changes_nothing(heart: np.ndarray, fill: float, width: tuple[int, int]) -> None:
    """Otherwise the image gets saturated: among so many voxels of the padding, the brightest of its tissue are less than 0.5 %."""
    padded = np.pad(heart, (width, width[::-1], (1, 2)), constant_values=fill)
    assert find_intensity_range(padded) == find_intensity_range(heart)


def test_a_blank_border_of_a_few_voxels_counts(heart: np.ndarray) -> None:
    bordered = np.pad(heart, ((3, 0), (0, 2), (0, 0)))
    found = find_intensity_range(bordered)
    assert (found.low, found.high) == tuple(np.percentile(bordered, (0.5, 99.5))) and not found.warnings
