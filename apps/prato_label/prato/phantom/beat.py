"""A generated heart over a whole beat: every phase of a cine with its exact label, beginning anywhere in the cycle."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np

from prato.data.atomic import write_bytes
from prato.data.cine import read_cine, write_cine
from prato.data.nifti import gzip_bytes, volume_bytes
from prato.data.studies.folder import Manifest, Study, save_manifest
from prato.phantom.frames import SOURCE, new_studies_folder
from prato.phantom.heart import contract
from prato.phantom.scene import Grain, Scene, oblique_affine, random_scene

#: With fewer phases in a cycle, one may lie nearest to both end-diastole and end-systole.
MIN_PHASES = 5


@dataclass(frozen=True)
class Timing:
    """When things happen in a cardiac cycle, in fractions of it, the R wave at 0.

    The ventricles keep their volume until ``opening``, eject until ``end``, keep their volume until ``filling``, fill fast until
    ``diastasis``, when all but ``kick`` of what was ejected has come back, and take the rest in from ``atrium`` to the next R wave.
    """

    rr_ms: float
    opening: float
    end: float
    filling: float
    diastasis: float
    atrium: float
    kick: float

    def ejected(self, at: np.ndarray) -> np.ndarray:
        """Share of the stroke volume that is out of the ventricle, in [0, 1], at the fractions ``at`` of the cycle, any shape."""
        at = np.asarray(at, dtype=float) % 1
        knots = (0.0, self.opening, self.end, self.filling, self.diastasis, self.atrium, 1.0)
        shares = (0.0, 0.0, 1.0, 1.0, self.kick, self.kick, 0.0)
        stage = np.clip(np.searchsorted(knots, at, side="right") - 1, 0, len(knots) - 2)
        first, last = np.take(knots, stage), np.take(knots, stage + 1)
        smooth = (1 - np.cos(np.pi * (at - first) / (last - first))) / 2  # the volume never jumps, nor does its rate
        return np.take(shares, stage) + smooth * (np.take(shares, stage + 1) - np.take(shares, stage))


def random_timing(rng: np.random.Generator) -> Timing:
    """The timing of an adult's heart at 50 to 90 beats a minute; systole takes some 300 ms whatever the rate."""
    rr = 60000 / rng.uniform(50, 90)
    opening = rng.uniform(40, 65) / rr
    end = opening + rng.uniform(240, 300) / rr
    filling = end + rng.uniform(60, 95) / rr
    diastasis = filling + rng.uniform(150, 220) / rr
    atrium = max(1 - rng.uniform(110, 150) / rr, diastasis + 0.01)
    return Timing(rr, opening, end, filling, diastasis, atrium, rng.uniform(0.1, 0.3))


@dataclass(frozen=True)
class Beat:
    """One patient over a heartbeat.

    Attributes:
        kind: of heart.
        affine: 4x4, voxel -> RAS+ mm, oblique.
        images, labels: int16 and uint8, (X, Y, Z, T).
        times_ms: float64 (T,), of each phase after the first one.
        rr_ms: length of the cycle.
        ed, es: the phases of end-diastole (the R wave) and end-systole (the valve closes), from 0.
    """

    kind: str
    affine: np.ndarray
    images: np.ndarray
    labels: np.ndarray
    times_ms: np.ndarray
    rr_ms: float
    ed: int
    es: int


def make_beat(seed: int, number: int, phases: int = 30, start: float = 0.0) -> Beat:
    """Patient ``number`` (from 1) of the series ``seed`` over a whole heartbeat; the same arguments always give the same beat.

    Args:
        phases: images of the cycle, evenly spaced.
        start: where in the cycle the first image lies: 0 for the R wave, 0.5 for half a cycle later.
    """
    rng = np.random.default_rng([seed, number])
    scene, grain, timing = _random_patient(rng, number)
    at = (start + np.arange(phases) / phases) % 1
    images = np.empty((*scene.body.shape, phases), np.int16, order="F")
    labels = np.empty(images.shape, np.uint8, order="F")
    for t, share in enumerate(timing.ejected(at)):
        painted, labels[..., t] = scene.paint(contract(scene.heart, scene.ef * share), grain)
        images[..., t] = scene.acquire(rng, painted)
    affine = oblique_affine(rng, scene)
    times = np.arange(phases) * timing.rr_ms / phases
    return Beat(scene.kind, affine, images, labels, times, timing.rr_ms, _nearest(at, 0.0), _nearest(at, timing.end))


@dataclass(frozen=True)
class BeatLabels:
    """What :func:`make_beat` labels, without images: ``labels`` uint8 (X, Y, Z, T), ``spacing`` in mm, ``ed`` and ``es`` as in ``Beat``."""

    labels: np.ndarray
    spacing: tuple[float, float, float]
    ed: int
    es: int


def make_beat_labels(seed: int, number: int, phases: int = 30, start: float = 0.0) -> BeatLabels:
    """The labels of the same beat, in a tenth of the time; arguments as for :func:`make_beat`."""
    scene, _, timing = _random_patient(np.random.default_rng([seed, number]), number)
    at = (start + np.arange(phases) / phases) % 1
    labels = np.stack([scene.label(contract(scene.heart, scene.ef * share)) for share in timing.ejected(at)], -1)
    return BeatLabels(labels, (scene.pixel, scene.pixel, scene.thickness), _nearest(at, 0.0), _nearest(at, timing.end))


def make_beats(
    target: str | os.PathLike[str],
    patients: int,
    seed: int,
    phases: int,
    progress: Callable[[range], Iterable[int]] = lambda numbers: numbers,
) -> Manifest:
    """Write the beats of ``patients`` phantoms of the series ``seed`` to the studies folder ``target`` (made if need be); its manifest.

    Each begins anywhere in its cycle. Files: ``phantomNNN_4d.nii.gz``, its label of all phases in ``labels/final``, and ``manifest.json``
    with the phases of end-diastole and end-systole. The same call gives the same bytes.

    Args:
        phases: of each cine, ``MIN_PHASES`` or more, so that end-systole is another phase than end-diastole.

    Raises:
        FileExistsError: ``target`` holds something already, so that no study or label of anybody is overwritten.
        OSError: ``target`` cannot be written to.
    """
    folder, final = new_studies_folder(target)
    manifest = Manifest(source=SOURCE)
    for number in progress(range(1, patients + 1)):
        start = float(np.random.default_rng([seed, number, phases]).random())
        beat = make_beat(seed, number, phases, start)
        patient = f"phantom{number:03d}"
        name = f"{patient}_4d"
        write_cine(folder / f"{name}.nii.gz", beat.images, beat.affine, float(beat.times_ms[1]))
        label = read_cine(folder / f"{name}.nii.gz").grid().with_array(beat.labels)
        write_bytes(final / f"{name}.nii.gz", gzip_bytes(volume_bytes(label)))
        manifest.studies[name] = Study(patient=patient, ed=beat.ed, es=beat.es, group=beat.kind)
    save_manifest(folder, manifest)
    return manifest


def _random_patient(rng: np.random.Generator, number: int) -> tuple[Scene, Grain, Timing]:
    scene = random_scene(rng, number)
    return scene, scene.grain(rng), random_timing(rng)


def _nearest(at: np.ndarray, moment: float) -> int:
    """The phase that lies nearest to ``moment`` in the cycle."""
    distance = np.abs(at - moment) % 1
    return int(np.argmin(np.minimum(distance, 1 - distance)))
