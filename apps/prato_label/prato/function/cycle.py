"""Where in a cine its cardiac cycle begins and its ejection ends, from the shape of its volume curves.

A ventricle's volume rests before and after ejection, so its extremes are chance: one voxel of noise moves them by several phases. What it
does between them is no chance. A curve is compared with those of many hearts, drawn over what is known of the timing of a beat, at every
place where the beat may begin; each counts as much as the curve is like it.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np

#: Hearts that a curve is compared with, and the seed by which they are drawn.
_HEARTS, _SEED = 500, 0
#: A volume's first harmonics hold its shape; what lies beyond is noise from phase to phase.
_HARMONICS = 10
#: Places in the cycle where a heart is sampled, and where a beat may begin in a cine, about.
_SAMPLES, _PLACES = 120, 120
#: Errors of neighbouring phases are alike, and no heart is just like one of the drawn ones: so much less does a curve tell than if it were.
_TRUST = 0.5
#: Share of a curve's variance that no drawn heart is expected to explain.
_UNLIKE = 1e-3
#: Least correlation of a beat's volumes with the most similar heart: of noisy generated beats, the extremes are nearer to the true ejection
#: fraction below it, and what the shape tells above. Contours moved by 4.5 mm leave .90 and more; six of seven shuffled cines have less.
_LIKE = 0.7
#: Share of a volume below which its harmonics are the rounding of a volume that never changes, which is like one heart or another.
_ROUNDING = 1e-9


def phase_probabilities(volumes: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """How probably each phase lies nearest to end-diastole (the R wave), and to end-systole (ejection ends), float64 (T,) each.

    Args:
        volumes: (T,), of one or more cavities that beat together, over one whole cycle that may begin anywhere; at least 8 phases. Those
            that never change say nothing.
    """
    count = len(volumes[0])
    evidence = np.zeros((_HEARTS, _places(count)))
    for likeness in _compare(volumes):
        evidence -= _TRUST * (_harmonics(count) - 1) * np.log(1 + _UNLIKE - np.clip(likeness, 0, 1) ** 2)
    weights = np.exp(evidence - evidence.max())
    weights /= weights.sum()
    begins = np.arange(evidence.shape[1]) / evidence.shape[1] * count
    found = [np.broadcast_to(begins, weights.shape), begins + _draw_hearts()[1][:, None] * count]
    ed, es = (np.bincount((np.rint(at).astype(int) % count).ravel(), weights.ravel(), count) for at in found)
    return ed, es


def is_heartbeat(volumes: list[np.ndarray]) -> bool:
    """Whether ``volumes``, as for :func:`phase_probabilities`, have a heartbeat's shape; phases out of order have not."""
    likeness = _compare(volumes)
    return bool(likeness) and float(np.mean(likeness, axis=0).max()) >= _LIKE


def _compare(volumes: list[np.ndarray]) -> list[np.ndarray]:
    """The correlation of each volume that changes with every heart, begun at every place: float64 (M, places) each."""
    count, compared = len(volumes[0]), []
    harmonics, places = _harmonics(count), _places(count)
    hearts = _draw_hearts()[0][:, :harmonics]
    for volume in volumes:
        spectrum = np.fft.rfft(volume)[1 : harmonics + 1]
        size = np.linalg.norm(spectrum)
        if size > _ROUNDING * np.linalg.norm(volume):
            products = np.zeros((len(hearts), places // 2 + 1), complex)
            products[:, 1 : harmonics + 1] = hearts.conj() * spectrum
            compared.append(np.fft.irfft(products, places, axis=1) * places / 2 / (np.linalg.norm(hearts, axis=1) * size)[:, None])
    return compared


def _harmonics(count: int) -> int:
    return min(_HARMONICS, (count - 1) // 2)


def _places(count: int) -> int:
    """As many for each of ``count`` phases, and an odd number, so that none lies half-way between two: turning the cine round turns the
    answer."""
    return count * (-(-_PLACES // count) | 1)


@lru_cache(maxsize=1)
def _draw_hearts() -> tuple[np.ndarray, np.ndarray]:
    """The harmonics of the volumes of beats that begin with the R wave, complex128 (M, _HARMONICS), and where ejection ends, (M,).

    Timing in ms as textbooks of echocardiography have it for adults at rest, 42 to 120 beats a minute: 30 to 70 from the R wave to the
    opening of the aortic valve, 210 to 360 of ejection, 40 to 110 until the mitral valve opens, and 80 to 170 for the atrium, which fills
    up to .4 of the stroke volume. Fast filling is anything between an S of 120 to 260 ms and an exponential.
    """
    rng = np.random.default_rng(_SEED)

    def draw(low: float, high: float) -> np.ndarray:
        return rng.uniform(low, high, (_HEARTS, 1))

    at = np.arange(_SAMPLES)[None] / _SAMPLES
    rr = 60000 / draw(42, 120)
    opening = draw(30, 70) / rr
    end = opening + draw(210, 360) / rr
    filling = end + draw(40, 110) / rr
    kick, kick_takes = draw(0, 0.4), draw(80, 170) / rr
    atrium = 1 - kick_takes
    left = np.maximum(atrium - filling, 0.02)  # of the cycle, for filling without the atrium
    quick = np.clip(draw(120, 260) / rr, 0.02, left)
    ejected = _ramp((at - opening) / (end - opening), draw(0, 1)) ** (2 ** draw(-0.3, 0.3))
    rounded = draw(0, 1)
    returned = rounded * _ramp((at - filling) / quick, 1) + (1 - rounded) * _relax((at - filling) / left)
    volume = -ejected + (1 - kick) * returned + kick * _ramp((at - atrium) / kick_takes, draw(0, 1))
    return np.fft.rfft(volume, axis=1)[:, 1 : _HARMONICS + 1], end[:, 0]


def _ramp(at: np.ndarray, rounded: np.ndarray | float) -> np.ndarray:
    """From 0 at 0 to 1 at 1: a straight line, or as much as it is ``rounded`` a half wave."""
    at = np.clip(at, 0, 1)
    return (1 - rounded) * at + rounded * (1 - np.cos(np.pi * at)) / 2


def _relax(at: np.ndarray) -> np.ndarray:
    """From 0 at 0 to 1 at 1, in three time constants."""
    return (1 - np.exp(-3 * np.clip(at, 0, 1))) / (1 - np.exp(-3))
