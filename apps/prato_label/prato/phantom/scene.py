"""A generated patient in the scanner: trunk, heart and noise, painted and acquired slice by slice; never the picture of a person."""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
from scipy.ndimage import gaussian_filter, label

from prato.data.structures import STRUCTURES
from prato.phantom.body import BLOOD, FAT, over, paint_body, random_body, texture
from prato.phantom.heart import Distances, Heart, Points, distances, random_heart

_KINDS = ("normal", "hypertrophic", "dilated")
_SUBSLICES = 3  # samples across the thickness of a slice
_MYOCARDIUM = 0.22
#: Outflow tract, right and left atrium, aorta: centre towards the RV and across it, half-axes, in units of the LV's size.
_VESSELS = ((1.25, -0.95, 0.75, 0.62), (1.25, 0.75, 0.72, 0.95), (-0.1, 0.35, 0.85, 1.0), (0.52, -0.3, 0.56, 0.56))
#: Of the fat on the heart; and how far from the heart anything of it is painted, its rough borders included. In mm.
_THICKEST_FAT, _FAT_REACH = 9.0, 15.0
#: What flowing blood and rough muscle add to the picture, both of standard deviation 1: float32 (X, Y, Z) each.
Grain = tuple[np.ndarray, np.ndarray]


@dataclass(frozen=True)
class Scene:
    """All of a patient that does not beat, and the heart in end-diastole with the fraction ``ef`` of its LV that it ejects."""

    kind: str
    heart: Heart
    ef: float
    body: np.ndarray
    at: Points
    pixel: float
    thickness: float
    bias: np.ndarray
    scale: float
    noise: float

    def paint(self, heart: Heart, grain: Grain) -> tuple[np.ndarray, np.ndarray]:
        """``heart`` painted into the trunk, averaged over the slice thickness, float32 (X, Y, Z), and the labels at the slice centres."""
        steps = (np.arange(_SUBSLICES) - (_SUBSLICES - 1) / 2) * self.thickness * 0.8 / _SUBSLICES
        total = np.zeros_like(self.body)
        for step in steps:
            total += _one_layer(self.body, heart, self.at._replace(z=self.at.z + np.float32(step)), grain)
        return total / len(steps), self.label(heart)

    def label(self, heart: Heart) -> np.ndarray:
        """The labels of ``heart`` at the slice centres, uint8 (X, Y, Z): what is painted, in a tenth of the time."""
        return _labels(distances(heart, self.at), self.at.z - heart.base)

    def acquire(self, rng: np.random.Generator, picture: np.ndarray) -> np.ndarray:
        """int16 magnitude image: point spread, coil sensitivity, Rician noise (both channels, correlated as zero filling leaves it)."""
        signal = gaussian_filter(picture, (0.55, 0.55, 0)) * self.bias
        real, imaginary = (self.noise * texture(rng, picture.shape, (0.5, 0.5, 0)) for _ in range(2))
        return np.round(np.hypot(signal + real, imaginary) * self.scale).astype(np.int16)

    def grain(self, rng: np.random.Generator) -> Grain:
        return texture(rng, self.body.shape, (3.5, 3.5, 0.6)), texture(rng, self.body.shape, (1.1, 1.1, 0.5))


def random_scene(rng: np.random.Generator, number: int) -> Scene:
    """Patient ``number`` (from 1): the kinds of heart take turns."""
    kind = _KINDS[(number - 1) % len(_KINDS)]
    diastole, ef = random_heart(rng, kind)
    pixel, thickness = rng.uniform(1.4, 1.65), rng.choice([8.0, 9.0, 10.0])
    nx, ny = int(rng.integers(164, 185)), int(rng.integers(186, 209))
    first = rng.uniform(1.5, 4.0)  # the first slice lies just below the valve plane, the last at the apex
    nz = int(np.clip(np.ceil((diastole.length + 2 - first) / thickness), 8, 12))
    u = ((np.arange(nx) - nx * rng.uniform(0.42, 0.52)) * pixel).astype(np.float32)[:, None, None]
    v = ((np.arange(ny) - ny * rng.uniform(0.41, 0.54)) * pixel).astype(np.float32)[None, :, None]
    z = (first + thickness * np.arange(nz)).astype(np.float32)[None, None, :]

    outer = diastole.radius + diastole.wall
    front = -np.cos(diastole.rv_angle) * (outer + diastole.rv_reach)
    below = max(outer, np.sin(diastole.rv_angle) * (outer + diastole.rv_reach) * 0.9 + 8)
    body = paint_body(rng, random_body(rng, front, below), Points(u, v, z), pixel)
    shift = rng.normal(0, 0.7, (2, nz)).astype(np.float32)  # every slice is its own breath-hold: the heart is never quite where it was
    bias = _bias(rng, u, v)
    scale, noise = rng.uniform(250, 800), rng.uniform(0.012, 0.03)
    return Scene(kind, diastole, ef, body, Points(u - shift[0], v - shift[1], z), pixel, thickness, bias, scale, noise)


def oblique_affine(rng: np.random.Generator, scene: Scene) -> np.ndarray:
    """The scene's short-axis grid in the body, -> RAS+ mm: k to the apex (left, front, down), j to the feet, i to the left and the back.

    Seen from the apex with the feet below, the screen's depth points to the base, so (i, j, k) is left-handed, as it is on scanners
    that number slices from base to apex.
    """
    k = np.array([-0.66, 0.62, -0.42]) + rng.normal(0, 0.07, 3)
    k /= np.linalg.norm(k)
    down = np.array([0.0, 0.0, -1.0]) + rng.normal(0, 0.07, 3)
    j = down - (down @ k) * k
    j /= np.linalg.norm(j)
    i = np.cross(k, j)
    affine = np.eye(4)
    affine[:3, :3] = np.stack([i * scene.pixel, j * scene.pixel, k * scene.thickness], axis=1)
    heart = np.array([-25.0, 20.0, 0.0]) + rng.normal(0, 10, 3)
    affine[:3, 3] = heart - affine[:3, :3] @ (np.array(scene.body.shape) / 2)
    return affine


def _one_layer(body: np.ndarray, heart: Heart, at: Points, grain: Grain) -> np.ndarray:
    """Brightness at one depth within each slice."""
    above = np.clip(0.5 - (at.z - heart.base) / 3, 0, 1)  # 1 above the valve plane, where the atria and the great arteries lie
    with_atria = above.max() > 0
    picture = body * (1 - above) + above * body if with_atria else body.copy()
    d = distances(heart, at)
    window = _reach(heart, d, at, with_atria)
    flow, rough = (part[window] for part in grain)
    d = Distances(*(getattr(d, each.name)[window] for each in fields(d)))
    around, ventricles = _ventricles(body[window], heart, d, flow, rough)
    if with_atria:
        at = Points(at.u[window[0]], at.v[:, window[1]], at.z)
        ventricles = ventricles * (1 - above) + above * _atria(around, heart, at, flow)
    picture[window] = ventricles
    return picture


def _reach(heart: Heart, d: Distances, at: Points, with_atria: bool) -> tuple[slice, slice]:
    """The rows and columns that the heart and what lies close to it reach: beyond them the picture is the trunk's, to the last bit."""
    near = (np.minimum(d.lv, d.rv - 3.5) < _FAT_REACH).any(axis=2)
    if with_atria:
        size = heart.radius + 0.5 * heart.wall
        for a, b, ra, rb in _VESSELS:
            cu, cv = _vessel_centre(heart, a, b)
            reach = max(ra, rb) * (size + _FAT_REACH / min(ra, rb))
            near |= ((np.abs(at.u - cu) < reach) & (np.abs(at.v - cv) < reach)).any(axis=2)
    rows, columns = (np.flatnonzero(near.any(axis=axis)) for axis in (1, 0))
    if not len(rows):
        return slice(0), slice(0)
    return slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)


def _ventricles(body: np.ndarray, heart: Heart, d: Distances, flow: np.ndarray, rough: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The trunk with the fat and the pericardium round the heart, and that with the ventricles in it."""
    outside = np.minimum(d.lv, d.rv - 3.5)
    # fat lies in the grooves and before the RV, and is thin over the LV's free wall; the pericardium is the dark line round it
    fat = np.clip(1.0 + 5.0 * np.clip(np.cos(d.angle + 0.5), 0, 1) ** 2 + 1.6 * flow, 0.3, _THICKEST_FAT)
    picture = over(body, outside - fat - 1.4, 0.1)
    picture = over(picture, outside - fat, FAT * 0.82 + 0.05 * rough)
    ventricles = over(picture, np.maximum(d.rv - 3.0, -d.lv), _MYOCARDIUM)
    trabeculae = 0.30 * np.clip(rough - 0.2, 0, 1.5) * (0.35 + 0.65 * np.minimum(d.depth, 1))
    ventricles = over(ventricles, np.maximum(d.rv, -d.lv), BLOOD * 0.88 + 0.08 * flow - trabeculae)
    ventricles = over(ventricles, d.lv, _MYOCARDIUM + 0.015 * rough)
    near_wall = np.clip(1 + (d.cavity + 1.0) / 5, 0, 1)
    ventricles = over(ventricles, d.cavity, BLOOD + 0.07 * flow - 1.3 * trabeculae * near_wall)
    ventricles = over(ventricles, np.minimum(*(_papillary(heart, d, side, rough) for side in (-1, 1))), _MYOCARDIUM + 0.03)
    return picture, ventricles


def _papillary(heart: Heart, d: Distances, side: int, rough: np.ndarray) -> np.ndarray:
    """Signed distance to one papillary muscle: free in the blood at mid-level, grown into the wall towards the apex, none at the base."""
    inner = np.maximum(heart.radius * np.sqrt(np.clip(1 - (d.depth / 1.03) ** 2.6, 0.01, 1)), 1)
    size = (4.6 + 0.7 * side) * np.sqrt(np.clip(1 - ((d.depth - 0.54) / 0.27) ** 2, 0, 1))
    centre = inner - 4.5 + 4 * np.clip((d.depth - 0.5) / 0.3, 0, 1)
    turn = d.angle - side * np.radians(118 if side > 0 else 106)
    rho = d.cavity + inner
    # longer along the radius than across it, and never smooth
    muscle = np.hypot((rho * np.cos(turn) - centre) / 1.25, rho * np.sin(turn)) - size - 0.8 * rough
    return np.where(np.abs(d.depth - 0.54) < 0.27, muscle, 9).astype(np.float32)


def _atria(picture: np.ndarray, heart: Heart, at: Points, flow: np.ndarray) -> np.ndarray:
    """The level above the valves: atria, outflow tract and root of the aorta; bright blood in thin walls within fat, not labelled."""
    size = heart.radius + 0.5 * heart.wall
    toward, aside = np.cos(heart.rv_angle), np.sin(heart.rv_angle)
    for a, b, ra, rb in _VESSELS:
        cu, cv = _vessel_centre(heart, a, b)
        du, dv = at.u - cu, at.v - cv
        along, across = (du * toward + dv * aside) / ra, (du * aside - dv * toward) / rb
        room = (np.hypot(along, across) - size) * min(ra, rb) + 1.5 * flow
        picture = over(picture, room - 2.0, 0.28)
        picture = over(picture, room, BLOOD * 0.92 + 0.06 * flow)
    return picture


def _vessel_centre(heart: Heart, a: float, b: float) -> tuple[float, float]:
    """In u and v, mm, of what lies ``a`` times the LV's size towards the RV and ``b`` times across it."""
    size = heart.radius + 0.5 * heart.wall
    toward, aside = np.cos(heart.rv_angle), np.sin(heart.rv_angle)
    return size * (a * toward + b * aside), size * (a * aside - b * toward)


def _labels(d: Distances, below: np.ndarray) -> np.ndarray:
    """uint8 (X, Y, Z) at the slice centres. Papillary muscles count as LV cavity, the thin RV wall as background, as ACDC's experts do."""
    mask = np.zeros(d.lv.shape, np.uint8)
    mask[(d.rv < 0) & (d.lv >= 0)] = STRUCTURES["RV cavity"]
    mask[d.lv < 0] = STRUCTURES["myocardium"]
    mask[d.cavity < 0] = STRUCTURES["LV cavity"]
    mask[:, :, below[0, 0] < 0] = 0
    for k in range(mask.shape[2]):  # the LV may cut the tip off the crescent: a detached piece is not drawn
        parts, count = label(mask[:, :, k] == STRUCTURES["RV cavity"])
        if count > 1:
            largest = 1 + int(np.argmax(np.bincount(parts.ravel())[1:]))
            mask[:, :, k][(parts > 0) & (parts != largest)] = 0
    return mask


def _bias(rng: np.random.Generator, u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """Sensitivity of the surface coil, about 1 at the heart, stronger at the chest wall and weaker at the back; (X, Y, 1)."""
    x, y = u / 130, v / 130
    return np.exp(
        -rng.uniform(0.12, 0.4) * x + rng.uniform(-0.15, 0.15) * y + rng.uniform(-0.12, 0.12) * x * y - rng.uniform(0, 0.12) * (x**2 + y**2)
    ).astype(np.float32)
