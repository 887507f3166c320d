"""What surrounds a phantom heart in a short-axis picture: chest wall, lungs, diaphragm, liver, stomach, spleen, aorta, spine.

Brightness is that of balanced steady-state (bSSFP) cine: fat and blood bright, muscle dark, lung and air nearly black; 1.0 is fat.
Coordinates as in ``heart``.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import gaussian_filter

from prato.phantom.heart import Points

FAT, MUSCLE, LUNG, AIR, LIVER, BLOOD, BONE = 0.92, 0.17, 0.035, 0.008, 0.27, 0.78, 0.5


@dataclass(frozen=True)
class Body:
    """A trunk. Lengths in mm: ``front`` is the skin's distance before the heart, ``fat`` and ``muscle`` the layers of the chest wall,
    ``dome`` how far the lung reaches above the heart, ``floor`` how far below the heart's centre the diaphragm lies."""

    front: float
    half_width: float
    fat: float
    muscle: float
    dome: float
    floor: float
    tilt: float
    stomach: float  # brightness of what is in it
    organs: tuple[tuple[float, float], ...]  # how far liver, stomach, spleen, aorta and spine lie from where they mostly are, in u and v


def random_body(rng: np.random.Generator, heart_reach: float, heart_below: float) -> Body:
    """A trunk for a heart that reaches ``heart_reach`` mm to the front and ``heart_below`` mm to the feet."""
    fat, muscle = rng.uniform(8, 20), rng.uniform(9, 13)
    return Body(
        front=heart_reach + rng.uniform(5, 10) + fat + muscle,
        half_width=rng.uniform(116, 128),
        fat=fat,
        muscle=muscle,
        dome=rng.uniform(80, 95),
        floor=heart_below + rng.uniform(2, 6),
        tilt=np.radians(rng.uniform(-5, 5)),
        stomach=rng.choice([0.22, 0.85]),
        organs=tuple((rng.normal(0, 7), rng.normal(0, 5)) for _ in range(5)),
    )


def over(picture: np.ndarray, inside: np.ndarray, value: float | np.ndarray, edge: float = 1.0) -> np.ndarray:
    """``picture`` with ``value`` where the signed distance ``inside`` (mm, negative inside) is negative, blended over ``edge`` mm each way:
    a voxel that a border crosses holds a part of both tissues."""
    share = np.clip(0.5 - inside / np.float32(2 * edge), 0, 1)
    return picture + share * (value - picture)


def texture(rng: np.random.Generator, shape: tuple[int, ...], sigma: tuple[float, float, float]) -> np.ndarray:
    """Smooth random field, float32, mean 0 and standard deviation 1; ``sigma`` in voxels."""
    field = gaussian_filter(rng.standard_normal(shape, dtype=np.float32), sigma, mode="wrap")
    return field / field.std()


def paint_body(rng: np.random.Generator, body: Body, at: Points, pixel: float) -> np.ndarray:
    """Brightness of the trunk without its heart, float32 (X, Y, Z), at the points ``at``; ``pixel`` is the in-plane voxel size in mm."""
    # Towards the apex the slices lie further to the front and the feet: the chest wall comes nearer and the belly rises.
    c, s = np.cos(body.tilt), np.sin(body.tilt)
    x, y = c * at.u + s * at.v, c * at.v - s * at.u
    x, y = np.broadcast_arrays(x - 0.08 * at.z, y + 0.18 * at.z)
    x, y = x.astype(np.float32), y.astype(np.float32)
    plane, shape = (x, y), x.shape
    waves = texture(rng, shape, (14, 14, 3)) * 1.6

    skin = _oval(plane, (body.half_width - body.front, 62), (body.half_width, 235), 2.6) + waves
    fat = body.fat * (1 + 0.35 * np.clip((y - 20) / 120, -0.6, 1))
    wall = skin + fat
    cage = _oval(plane, (126 - body.front, 40), (116, body.dome + 40), 2.1) + waves  # the ribs close to a dome over the lung
    inner = np.maximum(wall + body.muscle, cage)
    picture = np.full(shape, AIR, np.float32)
    picture = over(picture, skin, MUSCLE)
    picture = over(picture, skin + 1.8, FAT)
    picture = over(picture, wall, MUSCLE + 0.05 * texture(rng, shape, (3, 3, 1)))
    streaks = np.abs(skin + fat + body.muscle * 0.45 + 1.5 * waves) - 0.7
    picture = over(picture, np.maximum(streaks, wall), 0.6)
    # the shoulder: fat planes between muscles above the lung
    shoulder = np.maximum(np.maximum(wall, 7 - cage), 3 - 6 * texture(rng, shape, (9, 4, 2)))
    picture = over(picture, shoulder, FAT * 0.9)
    picture = over(picture, inner, LUNG)
    # fat of the mediastinum fills the corner between chest wall, heart and diaphragm
    corner = np.maximum(_oval(plane, (-body.front + body.fat + 18, body.floor - 14), (34, 44), 2.0) + 3 * waves, inner + 0.5)
    picture = over(picture, corner, FAT * 0.8 + 0.06 * texture(rng, shape, (3, 3, 1)))

    round_wall = np.arctan2(y - 30, x - 20) * 120
    rib = np.hypot((round_wall + 0.9 * at.z) % 27 - 13.5, (inner - 3.5) * 1.6) - 5
    ribbed = np.maximum(rib, y - body.floor - 20)
    picture = over(picture, ribbed, 0.06)
    picture = over(picture, ribbed + 2.2, BONE)

    lung = np.clip(0.5 - (inner + 5) / 2, 0, 1)
    picture = picture + lung * _vessels(rng, shape, pixel, 0.004, 1.0) * np.exp(-((np.hypot(x - 30, y + 30) / 60) ** 2))

    # the diaphragm rises from the front, under the heart, to the dome over stomach and spleen, and falls off to the back
    roof = body.floor - 16 * np.exp(-(((x - 78) / 44) ** 2)) + 0.0016 * np.clip(x - 95, 0, None) ** 2 * 2 + 0.25 * np.clip(-x - 20, 0, None)
    belly = np.maximum(inner, roof - y)
    bowel = texture(rng, shape, (4, 4, 0.8))
    picture = over(picture, belly, np.clip(0.5 + 0.35 * np.tanh(2 * bowel), 0.1, 0.95))
    (lx, ly), (gx, gy), (sx, sy), (ax, ay), (bx, by) = body.organs
    liver = np.maximum(_oval(plane, (lx - 38, ly + body.floor + 46), (62, 50), 2.4), belly + 1.5) + waves
    picture = over(picture, liver, LIVER + 0.03 * texture(rng, shape, (2, 2, 0.5)))
    picture = picture + np.clip(0.5 - (liver + 4) / 2, 0, 1) * _vessels(rng, shape, pixel, 0.0016, 0.5)
    stomach = np.maximum(_oval(plane, (gx + 70, gy + body.floor + 16), (33, 26), 2.2), belly + 2) + 2 * waves
    picture = over(picture, stomach, 0.2)
    picture = over(picture, stomach + 3, body.stomach + 0.07 * texture(rng, shape, (4, 4, 1)))
    picture = over(picture, np.maximum(_oval(plane, (sx + 119, sy + body.floor + 24), (19, 36), 2.2), belly + 2) + waves, 0.33)
    picture = over(picture, np.abs(belly + 0.8) - 0.8, 0.12, 0.7)

    spine = _oval(plane, (bx + 68, by + body.floor + 96), (24, 21), 3.0)
    picture = over(picture, spine - 12, MUSCLE + 0.04 * texture(rng, shape, (2, 2, 1)))
    picture = over(picture, spine, 0.08)
    picture = over(picture, spine + 2, 0.42 + 0.04 * bowel)
    picture = over(picture, _oval(plane, (bx + 100, by + body.floor + 104), (8, 8), 2), 0.9)
    aorta = np.hypot(x - ax - 34, y - ay - body.floor - 64) - 11
    picture = over(picture, aorta - 1.8, 0.12)
    return over(picture, aorta, BLOOD + 0.12 * np.tanh(texture(rng, shape, (3, 3, 1))))


def _oval(plane: tuple[np.ndarray, np.ndarray], centre: tuple[float, float], half_axes: tuple[float, float], power: float) -> np.ndarray:
    """Signed distance (mm, exact to first order near the border) to a superellipse."""
    px, py = (np.abs((p - c) / h) for p, c, h in zip(plane, centre, half_axes))
    level = (px**power + py**power) ** (1 / power)
    slope = np.hypot(px ** (power - 1) / half_axes[0], py ** (power - 1) / half_axes[1]) / np.maximum(level, 1e-3) ** (power - 1)
    return ((level - 1) / np.maximum(slope, 1e-3)).astype(np.float32)


def _vessels(rng: np.random.Generator, shape: tuple[int, ...], pixel: float, density: float, brightness: float) -> np.ndarray:
    """Bright dots, the vessels that a slice cuts across, on average ``density`` of them a voxel."""
    dots = (rng.random(shape, dtype=np.float32) < density) * rng.uniform(0.3, 1.0, shape).astype(np.float32)
    width = 1.3 / pixel
    return np.minimum(gaussian_filter(dots, (width, width, 0.3)) * (2 * np.pi * width**2) * brightness, brightness)
