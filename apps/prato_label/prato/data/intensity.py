"""The range of grey values that networks are given, whatever fill value or artefact lies far outside of what the scanner measured."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np

from prato.data.nifti_head import VolumeError

#: Percentiles of the voxels that become the darkest and the brightest value.
_PERCENTILES = (0.5, 99.5)
#: Voxels that are looked at for outliers, and the quantiles that are taken of them: every half percent.
_SAMPLE, _STEPS = 20_000, 200
#: Half percents across which a gap in the values is looked for: interpolation leaves a few voxels between a fill value and the image.
_ACROSS = 4
#: How far below the rest a negative fill value lies, in ranges of the rest: where the rest is not negative, as in MR, and where it is.
_BELOW_ZERO, _BELOW = 0.1, 1.0
#: How far above the rest high outliers lie, in ranges of the rest, and a fill value that takes up more than a few voxels. On all ACDC
#: volumes the widest gap is 1.05.
_ABOVE, _FAR_ABOVE, _RARE = 3.0, 10.0, 0.06
#: Share of the voxels that may be outliers on one side: what is left must say what the range is.
_MOST = 0.8
#: The same in ranges of the lowest three quarters, from which the range is called wide. On ACDC it is 6.8 at most.
_WIDE = 15.0
#: Share of the image that a frame of one value takes up where it is left out, so that a padded image is shown to networks as before the
#: padding. On ACDC, where some images have a blank row, it is a hundredth at most.
_FRAME = 0.5
#: What is reported of grey values, by name; in the words of a log.
INTENSITY_WARNINGS = {
    "intensity_outliers": "a fill value or an artefact far outside its other grey values was excluded from the intensity range",
    "intensity_range_wide": "few of its voxels are far brighter than all others: the rest may be too dark to be segmented well",
    "image_is_constant": "all its voxels have the same grey value",
    "voxels_not_finite": "some of its voxels are NaN or infinite, and are treated as the darkest",
}


@dataclass(frozen=True)
class IntensityRange:
    """Grey values ``low`` and ``high`` that become -1 and 1, and ``warnings``: names of ``INTENSITY_WARNINGS``."""

    low: float
    high: float
    warnings: tuple[str, ...] = ()


def finite_voxels(array: np.ndarray, name: str) -> tuple[np.ndarray, list[str]]:
    """``array`` as ``Volume.array`` has it, and a warning where some of its values were no numbers.

    Raises:
        VolumeError: none of them is finite.
    """
    if array.dtype.kind != "f":
        return array.astype(array.dtype.newbyteorder("="), copy=False), []
    with np.errstate(over="ignore"):
        array = array.astype(np.float32, copy=False)
    finite = np.isfinite(array)
    if finite.all():
        return array, []
    if not finite.any():
        raise VolumeError(f"{name} holds no finite value, only NaN or infinite ones: export it again.")
    # programs that resample and register leave them where the scanner saw nothing
    return np.where(finite, array, array[finite].min()), ["voxels_not_finite"]


def find_intensity_range(volume: np.ndarray) -> IntensityRange:
    """From the 0.5 to the 99.5 percentile of ``volume`` (X, Y, Z), without outliers.

    Outliers are values behind a gap in the distribution that is wide beside the range of all others: what programs fill in where a turned
    or a resampled image has no voxels (-1000, -32768, 1e30), and artefacts brighter than any tissue. Where there are none, a frame of one
    value that is larger than the image in it does not count either.
    """
    values = volume.ravel(order="K")  # in the order of memory: no copy
    below, above = _find_bounds(values)
    has_outliers = np.isfinite((below, above)).any()
    values = values[(values >= below) & (values <= above)] if has_outliers else _unframed(volume).ravel(order="K")
    low, high = np.percentile(values, _PERCENTILES)
    if high <= low:
        return IntensityRange(low, low, ("image_is_constant",))
    if has_outliers:
        return IntensityRange(low, high, ("intensity_outliers",))
    upper = float(np.percentile(_sample(values), 75))
    return IntensityRange(low, high, ("intensity_range_wide",) if low < upper and high - low > _WIDE * (upper - low) else ())


def find_stack_range(stack: np.ndarray, blank: Collection[int]) -> IntensityRange:
    """As :func:`find_intensity_range`, of the slices of ``stack`` (X, Y, Z) that are not ``blank``; of all where none shows anything."""
    filled = [k for k in range(stack.shape[2]) if k not in blank]
    return find_intensity_range(stack[:, :, filled] if blank and filled else stack)


def normalise(volume: np.ndarray, limits: IntensityRange | None = None) -> np.ndarray:
    """float32 (X, Y, Z) in [-1, 1]: clipped to ``limits``, by default to the volume's own. A constant volume becomes -1."""
    limits = limits or find_intensity_range(volume)
    if limits.high <= limits.low:
        return np.full(volume.shape, -1.0, dtype=np.float32)
    with np.errstate(over="ignore"):
        scaled = (volume.astype(np.float32) - limits.low) * (2.0 / (limits.high - limits.low)) - 1.0
    return np.clip(scaled, -1.0, 1.0, out=scaled).astype(np.float32, copy=False)


def _unframed(volume: np.ndarray) -> np.ndarray:
    """The part of ``volume`` inside the frame of its first voxel's value, if that frame takes up most of it: a view."""
    differs, inner = volume != volume[0, 0, 0], volume
    for axis in range(3):
        found = np.flatnonzero(differs.any(axis=tuple({0, 1, 2} - {axis})))
        if not found.size:
            return volume
        inner = inner[(slice(None),) * axis + (slice(found[0], found[-1] + 1),)]
    return inner if inner.size < (1 - _FRAME) * volume.size else volume


def _sample(values: np.ndarray) -> np.ndarray:
    """Some of ``values``, the same whenever they are the same; at random, because every n-th may always lie in one row of the image."""
    if len(values) <= _SAMPLE:
        return values
    return values[np.random.default_rng(0).integers(0, len(values), _SAMPLE)]


def _find_bounds(values: np.ndarray) -> tuple[float, float]:
    """The values between which no outlier lies; infinite on a side without any."""
    sample = np.sort(_sample(values).astype(np.float64))
    below, above = -np.inf, np.inf
    while True:  # what lies below may hide what lies above, and the other way round
        inner = sample[(sample >= below) & (sample <= above)]
        quantiles = inner[np.rint(np.linspace(0, len(inner) - 1, _STEPS + 1)).astype(int)]
        low, high = _low_bound(quantiles), _high_bound(quantiles)
        if low is None and high is None:
            return below, above
        below, above = below if low is None else low, above if high is None else high


def _low_bound(quantiles: np.ndarray) -> float | None:
    """Below which a negative fill value lies, the same in most of the voxels there; None where there is none."""
    most = int(_MOST * _STEPS)
    outlier, rest = quantiles[1 : most - _ACROSS], quantiles[1 + _ACROSS : most]
    span = quantiles[-2] - rest
    is_fill = (outlier < 0) & (quantiles[(1 + np.arange(1, most - _ACROSS)) // 2] == quantiles[1])
    wanted = np.where(rest > 0.1 * outlier, _BELOW_ZERO, _BELOW)
    found = np.flatnonzero(is_fill & (span > 0) & (rest - outlier > wanted * span))
    if not found.size:
        return None
    last = found[-1]
    return float(rest[last] - min(0.1 * span[last], (rest[last] - outlier[last]) / 2))


def _high_bound(quantiles: np.ndarray) -> float | None:
    """Above which outliers lie; None where there are none."""
    outlier, rest = quantiles[_ACROSS:-1], quantiles[: -_ACROSS - 1]
    span, gap = rest - quantiles[1], outlier - rest
    share = 1 - np.arange(len(rest)) / _STEPS
    is_fill = (outlier == quantiles[-2]) & (gap > _FAR_ABOVE * span) & (share <= _MOST)
    found = np.flatnonzero((span > 0) & (gap > _ABOVE * span) & (gap > 0.6 * (quantiles[-2] - quantiles[1])) & ((share <= _RARE) | is_fill))
    if not found.size:
        return None
    first = found[0]
    return float(rest[first] + min(0.5 * span[first], gap[first] / 2))
