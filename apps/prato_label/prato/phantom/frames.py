"""Generated hearts in end-diastole and end-systole: images with exact labels, for the demo, the tests and a first try."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from prato.data.nifti import write_volume
from prato.data.studies.folder import Manifest, Study, save_manifest
from prato.phantom.heart import contract
from prato.phantom.scene import oblique_affine, random_scene

SOURCE = "phantom"
_PHASES: tuple[tuple[int, Literal["ED", "ES"]], ...] = ((1, "ED"), (2, "ES"))


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
    scene = random_scene(rng, number)
    images, labels = {}, {}
    for phase, heart in (("ED", scene.heart), ("ES", contract(scene.heart, scene.ef))):
        painted, labels[phase] = scene.paint(heart, scene.grain(rng))
        images[phase] = scene.acquire(rng, painted)
    return Phantom(scene.kind, oblique_affine(rng, scene), images, labels)


def make_phantoms(
    target: str | os.PathLike[str], patients: int, seed: int, progress: Callable[[range], Iterable[int]] = lambda numbers: numbers
) -> Manifest:
    """Write ``patients`` phantoms of the series ``seed`` to the studies folder ``target`` (made if need be) and return its manifest.

    Files: ``phantomNNN_ED.nii.gz`` and ``_ES``, their labels in ``labels/final``, ``manifest.json``. The same call gives the same bytes.

    Raises:
        FileExistsError: ``target`` holds something already, so that no study or label of anybody is overwritten.
        OSError: ``target`` cannot be written to.
    """
    folder, final = new_studies_folder(target)
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


def new_studies_folder(target: str | os.PathLike[str]) -> tuple[Path, Path]:
    """The studies folder ``target``, made if need be, and the folder of its final labels.

    Raises:
        FileExistsError, OSError: as :func:`make_phantoms`.
    """
    folder = Path(target)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise FileExistsError(f"{folder} exists and is not an empty folder: give a new folder for the phantoms.")
    final = folder / "labels" / "final"
    final.mkdir(parents=True)
    return folder, final
