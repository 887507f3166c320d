"""The anatomy of a phantom heart: two ventricles as implicit surfaces, in end-diastole and end-systole.

Coordinates are millimetres in the short-axis frame: u runs along image axis i (to the left lung and the back), v along j (towards the
feet), z along k from the valve plane of end-diastole to the apex. The sizes are those of adults with a healthy, dilated or hypertrophied
heart; the layout in (i, j, k) is that of ACDC's stored arrays: right ventricle at low i, base at low k.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

_TAPER = 2.6  # exponent of the ventricle's profile: nearly a cylinder at the base, round at the apex


class Points(NamedTuple):
    """Where voxels lie, mm, float32 arrays that broadcast to (X, Y, n): ``u``, ``v`` from the heart's axis, ``z`` from the valve plane."""

    u: np.ndarray
    v: np.ndarray
    z: np.ndarray


@dataclass(frozen=True)
class Heart:
    """One heart at one moment. Lengths in mm, angles in radians from +u towards +v."""

    base: float  # z of the valve plane: 0 in end-diastole, further down when the heart contracts
    length: float  # valve plane to the inner apex
    radius: float  # LV cavity at the base
    wall: float  # free wall of the LV at the base
    septal: float  # how much thicker the septum is than the free wall, as a fraction
    rv_reach: float  # from the septum's outer face to the RV free wall, at the base
    rv_height: float  # half of the RV's extent along the septum, at the base
    rv_angle: float  # direction from the LV's to the RV's centre
    lean: tuple[float, float]  # shift of the centre from base to apex in u and v
    ovality: tuple[float, float]  # strength and direction of the LV's oval shape


@dataclass(frozen=True)
class Distances:
    """Signed distances in mm (negative inside), float32 of shape (X, Y, n): LV cavity, LV with its wall, RV without regard to the LV;
    ``angle`` round the LV relative to the RV's direction (0 = septum) and ``depth`` along the LV, 0 at the valve plane, 1 at the apex."""

    cavity: np.ndarray
    lv: np.ndarray
    rv: np.ndarray
    angle: np.ndarray
    depth: np.ndarray


def random_heart(rng: np.random.Generator, kind: str) -> tuple[Heart, float]:
    """A heart in end-diastole and its ejection fraction.

    ``kind`` is "normal" (0.55 to 0.68), "dilated" (0.35 to 0.45) or "hypertrophic" (0.60 to 0.70).
    """
    radius, wall, ef, septal = {
        "normal": ((23.5, 27.5), (7.2, 9.0), (0.55, 0.68), (0.0, 0.15)),
        "dilated": ((31.0, 35.0), (7.0, 8.5), (0.35, 0.45), (0.0, 0.1)),
        "hypertrophic": ((21.0, 24.5), (11.0, 13.5), (0.60, 0.70), (0.2, 0.6)),
    }[kind]
    diastole = Heart(
        base=0.0,
        length=rng.uniform(82, 94),
        radius=rng.uniform(*radius),
        wall=rng.uniform(*wall),
        septal=rng.uniform(*septal),
        rv_reach=rng.uniform(26, 40),
        rv_height=rng.uniform(38, 45),
        rv_angle=np.radians(rng.uniform(136, 200)),
        lean=(rng.uniform(-12, -2), rng.uniform(0, 10)),
        ovality=(rng.uniform(0.0, 0.05), rng.uniform(0, np.pi)),
    )
    return diastole, rng.uniform(*ef)


def contract(heart: Heart, ef: float) -> Heart:
    """``heart`` (end-diastole) after it has ejected the fraction ``ef`` of its LV cavity.

    The muscle keeps its volume, so the wall thickens as the cavity empties and the valve plane comes down.
    """
    descent = heart.length * 0.22 * ef
    length = heart.length - descent
    squeeze = heart.length / length
    radius = heart.radius * np.sqrt((1 - ef) * squeeze)
    muscle = ((heart.radius + heart.wall) ** 2 - heart.radius**2) * squeeze
    return replace(
        heart,
        base=heart.base + descent,
        length=length,
        radius=radius,
        wall=np.sqrt(radius**2 + muscle) - radius,
        rv_reach=heart.rv_reach * (1 - 0.55 * ef),
        rv_height=heart.rv_height * (1 - 0.2 * ef),
    )


def distances(heart: Heart, at: Points) -> Distances:
    """Signed distances at the points ``at``; exact near the surfaces, which is all they are for."""
    u, v, z = at.u, at.v, at.z - heart.base
    depth = np.clip(z / heart.length, 0, 1.3)
    du, dv = u - heart.lean[0] * (depth - 0.4), v - heart.lean[1] * (depth - 0.4)
    angle = np.arctan2(dv, du) - np.float32(heart.rv_angle)
    angle = (angle + np.pi) % (2 * np.pi) - np.pi
    oval = 1 + heart.ovality[0] * (np.cos(2 * (angle - heart.ovality[1])) + 0.5 * np.cos(3 * angle - heart.ovality[1] + 2 * depth))
    rho = np.hypot(du, dv) / oval

    wall = (
        heart.wall * (1 - 0.3 * np.minimum(depth, 1)) * (1 + heart.septal * np.clip(np.cos(angle), 0, 1) * (1 - 0.6 * np.minimum(depth, 1)))
    )
    inner = _profile(heart.radius, depth * heart.length, heart.length * 1.03)
    outer = _profile(heart.radius, depth * heart.length, heart.length * 1.03 + 0.6 * heart.wall)
    cavity = rho - inner
    lv = rho - np.where(outer > 0, outer + wall * np.clip(outer / (0.3 * heart.radius), 0, 1), -9)

    # The RV is an oval beside the LV; what the LV does not fill of it is the crescent. It narrows early and ends short of the apex.
    d = np.clip(depth, 0, 1)
    lv_face = np.maximum(outer, 0) + heart.wall * (1 + heart.septal) * (1 - 0.3 * d)
    reach = heart.rv_reach * (1 - 0.72 * d**1.5)
    height = np.maximum(heart.rv_height * (1 - 0.66 * d**1.7), 4)
    far, near = lv_face + reach, 0.15 * lv_face
    along = du * np.cos(heart.rv_angle) + dv * np.sin(heart.rv_angle) - (far + near) / 2
    across = dv * np.cos(heart.rv_angle) - du * np.sin(heart.rv_angle)
    half = (far - near) / 2
    # a rounded triangle rather than an ellipse: the free wall bulges towards the diaphragm, away from the outflow tract
    across = across + 0.12 * along
    rv = ((np.abs(along / half) ** 2.3 + np.abs(across / height) ** 2.3) ** (1 / 2.3) - 1) * np.minimum(half, height)
    rv = np.maximum(rv, (depth - 0.93) * heart.length)
    return Distances(*(np.broadcast_to(a, rv.shape).astype(np.float32) for a in (cavity, lv, rv, angle, depth)))


def _profile(radius: float, z: np.ndarray, length: float) -> np.ndarray:
    """Radius at ``z`` mm below the base of a ventricle of ``length`` mm; negative below its apex."""
    left = 1 - (z / length) ** _TAPER
    return np.where(left > 0, radius * np.sqrt(np.maximum(left, 0)), -9.0)
