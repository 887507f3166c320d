"""Beating short-axis hearts of no patient: generated images with exact labels, for the demo, the tests and a first try."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from scipy.ndimage import gaussian_filter, label

from prato.data.nifti import write_volume
from prato.data.phantom_body import BLOOD, FAT, over, paint_body, random_body, texture
from prato.data.phantom_heart import Distances, Heart, Points, distances, random_heart
from prato.data.structures import STRUCTURES
from prato.data.studies import Manifest, Study, save_manifest

SOURCE = "phantom"
_KINDS = ("normal", "hypertrophic", "dilated")
_PHASES: tuple[tuple[int, Literal["ED", "ES"]], ...] = ((1, "ED"), (2, "ES"))
_SUBSLICES = 3  # samples across the thickness of a slice
_MYOCARDIUM = 0.22


@dataclass(frozen=True)
class Phantom:
    """One patient: images int16 and labels uint8, (X, Y, Z), by phase ("ED", "ES"), on one oblique grid (``affine``, -> RAS+ mm)."""

    kind: str
    affine: np.ndarray
    images: dict[str, np.ndarray]
    labels: dict[str, np.ndarray]


def make_phantom(seed: int, number: int) -> Phantom:
    """Patient ``number`` (from 1) of the series ``seed``: the same two numbers always give the same patient, whatever else is made."""
    rng = np.random.default_rng([seed, number])
    kind = _KINDS[(number - 1) % len(_KINDS)]
    diastole, systole = random_heart(rng, kind)
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
    at = Points(u - shift[0], v - shift[1], z)
    images, labels = {}, {}
    for phase, heart in (("ED", diastole), ("ES", systole)):
        painted, labels[phase] = _paint_heart(rng, body, heart, at, thickness)
        images[phase] = _acquire(rng, painted, bias, noise, scale)
    return Phantom(kind, _oblique_affine(rng, (nx, ny, nz), pixel, thickness), images, labels)


def make_phantoms(
    target: str | os.PathLike[str], patients: int, seed: int, progress: Callable[[range], Iterable[int]] = lambda numbers: numbers
) -> Manifest:
    """Write ``patients`` phantoms of the series ``seed`` to the studies folder ``target`` (made if need be) and return its manifest.

    Files: ``phantomNNN_ED.nii.gz`` and ``_ES``, their labels in ``labels/final``, ``manifest.json``. The same call gives the same bytes.

    Raises:
        FileExistsError: ``target`` holds something already, so that no study or label of anybody is overwritten.
        OSError: ``target`` cannot be written to.
    """
    folder = Path(target)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise FileExistsError(f"{folder} exists and is not an empty folder: give a new folder for the phantoms.")
    final = folder / "labels" / "final"
    final.mkdir(parents=True)
    manifest = Manifest(source=SOURCE)
    for number in progress(range(1, patients + 1)):
        phantom = make_phantom(seed, number)
        patient = f"phantom{number:03d}"
        for frame, phase in _PHASES:
            name = f"{patient}_{phase}"
            write_volume(folder / f"{name}.nii.gz", phantom.images[phase], phantom.affine)
            write_volume(final / f"{name}.nii.gz", phantom.labels[phase], phantom.affine)
            manifest.studies[name] = Study(patient=patient, frame=frame, phase=phase, group=phantom.kind)
    save_manifest(folder, manifest)
    return manifest


def _paint_heart(rng: np.random.Generator, body: np.ndarray, heart: Heart, at: Points, thickness: float) -> tuple[np.ndarray, np.ndarray]:
    """The heart painted into ``body`` (float32 (X, Y, Z)), averaged over the slice thickness, and the labels at the slice centres."""
    steps = (np.arange(_SUBSLICES) - (_SUBSLICES - 1) / 2) * thickness * 0.8 / _SUBSLICES
    grain = texture(rng, body.shape, (3.5, 3.5, 0.6)), texture(rng, body.shape, (1.1, 1.1, 0.5))
    total = np.zeros_like(body)
    for step in steps:
        total += _one_layer(body, heart, at._replace(z=at.z + np.float32(step)), grain)
    return total / len(steps), _labels(distances(heart, at), at.z - heart.base)


def _one_layer(body: np.ndarray, heart: Heart, at: Points, grain: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
    """Brightness at one depth within each slice; ``grain`` is what flowing blood and rough muscle add, both of standard deviation 1."""
    flow, rough = grain
    d = distances(heart, at)
    outside = np.minimum(d.lv, d.rv - 3.5)
    # fat lies in the grooves and before the RV, and is thin over the LV's free wall; the pericardium is the dark line round it
    fat = np.clip(1.0 + 5.0 * np.clip(np.cos(d.angle + 0.5), 0, 1) ** 2 + 1.6 * flow, 0.3, 9)
    picture = over(body, outside - fat - 1.4, 0.1)
    picture = over(picture, outside - fat, FAT * 0.82 + 0.05 * rough)
    ventricles = over(picture, np.maximum(d.rv - 3.0, -d.lv), _MYOCARDIUM)
    trabeculae = 0.30 * np.clip(rough - 0.2, 0, 1.5) * (0.35 + 0.65 * np.minimum(d.depth, 1))
    ventricles = over(ventricles, np.maximum(d.rv, -d.lv), BLOOD * 0.88 + 0.08 * flow - trabeculae)
    ventricles = over(ventricles, d.lv, _MYOCARDIUM + 0.015 * rough)
    near_wall = np.clip(1 + (d.cavity + 1.0) / 5, 0, 1)
    ventricles = over(ventricles, d.cavity, BLOOD + 0.07 * flow - 1.3 * trabeculae * near_wall)
    ventricles = over(ventricles, np.minimum(*(_papillary(heart, d, side, rough) for side in (-1, 1))), _MYOCARDIUM + 0.03)
    above = np.clip(0.5 - (at.z - heart.base) / 3, 0, 1)  # 1 above the valve plane, where the atria and the great arteries lie
    if above.max() == 0:
        return ventricles
    return ventricles * (1 - above) + above * _atria(picture, heart, at, flow)


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
    # outflow tract, right and left atrium, aorta: centre towards the RV and across it, half-axes, in units of the LV's size
    for a, b, ra, rb in ((1.25, -0.95, 0.75, 0.62), (1.25, 0.75, 0.72, 0.95), (-0.1, 0.35, 0.85, 1.0), (0.52, -0.3, 0.56, 0.56)):
        cu, cv = size * (a * toward + b * aside), size * (a * aside - b * toward)
        du, dv = at.u - cu, at.v - cv
        along, across = (du * toward + dv * aside) / ra, (du * aside - dv * toward) / rb
        room = (np.hypot(along, across) - size) * min(ra, rb) + 1.5 * flow
        picture = over(picture, room - 2.0, 0.28)
        picture = over(picture, room, BLOOD * 0.92 + 0.06 * flow)
    return picture


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


def _acquire(rng: np.random.Generator, picture: np.ndarray, bias: np.ndarray, noise: float, scale: float) -> np.ndarray:
    """int16 magnitude image: point spread, coil sensitivity, Rician noise (both channels, correlated as zero filling leaves it)."""
    signal = gaussian_filter(picture, (0.55, 0.55, 0)) * bias
    real, imaginary = (noise * texture(rng, picture.shape, (0.5, 0.5, 0)) for _ in range(2))
    return np.round(np.hypot(signal + real, imaginary) * scale).astype(np.int16)


def _oblique_affine(rng: np.random.Generator, shape: tuple[int, int, int], pixel: float, thickness: float) -> np.ndarray:
    """A short-axis grid in the body, RAS+ mm: k to the apex (left, front, down), j to the feet, i to the left and the back.

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
    affine[:3, :3] = np.stack([i * pixel, j * pixel, k * thickness], axis=1)
    heart = np.array([-25.0, 20.0, 0.0]) + rng.normal(0, 10, 3)
    affine[:3, 3] = heart - affine[:3, :3] @ (np.array(shape) / 2)
    return affine
