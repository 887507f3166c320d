"""Studies folders with final labels, and what must come back from a round trip."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np

from prato.data.image_files import read_exact, write_exact
from prato.data.labels.names import LABEL_INFO
from prato.data.nifti import Volume, read_volume
from prato.data.structures import STRUCTURES
from prato.data.studies.folder import Manifest, Study, find_files, save_manifest
from prato.labelling.versions import LabelVersions
from scripts import convert
from tests.app.live import oblique
from tests.scripts.cli import run_script

RV, MYO, LV = STRUCTURES.values()
SHAPE = (24, 22, 3)
AFFINE = oblique((1.5, 1.4, 8.0))
#: Our value -> that of M&Ms and UK Biobank.
THEIRS = np.array([0, 3, 2, 1], np.uint8)


def heart(shape: tuple[int, ...] = SHAPE, shift: int = 0) -> np.ndarray:
    """A cavity within its wall, and another cavity beside it."""
    x, y = np.meshgrid(np.arange(shape[0]) - 14 + shift, np.arange(shape[1]) - 11, indexing="ij")
    mask = np.zeros(shape, np.uint8)
    mask[np.hypot(x, y) < 6] = MYO
    mask[np.hypot(x, y) < 4] = LV
    mask[(np.hypot(x + 7, y) < 4) & (np.hypot(x, y) >= 6)] = RV
    return mask


def picture(seed: int, dtype: Any = np.int16, shape: tuple[int, ...] = SHAPE) -> np.ndarray:
    """Noise that fills the range of ``dtype``."""
    rng = np.random.default_rng(seed)
    if np.dtype(dtype).kind == "f":
        return (rng.standard_normal(shape) * 1000).astype(dtype)
    bounds = np.iinfo(dtype)
    return rng.integers(max(bounds.min, -(2**40)), min(bounds.max, 2**40), shape, dtype, endpoint=True)


def make_studies(folder: Path, patients: int = 3, dtype: Any = np.int16, affine: np.ndarray | None = None) -> dict[str, np.ndarray]:
    """Two phases of each of ``patients``, with final labels and a manifest; returns the images by study."""
    folder.mkdir(parents=True)
    affine = oblique((1.5, 1.4, 8.0)) if affine is None else affine
    about, images = {}, {}
    for n in range(patients):
        for frame, phase in ((1, "ED"), (2, "ES")):
            study = f"case {n}_frame{frame:02d}"
            images[study] = picture(10 * n + frame, dtype)
            write_exact(folder / f"{study}.nii.gz", images[study], affine)
            LabelVersions(folder, study).save(Volume(heart(shift=n % 3), affine), {"annotator": "Ada", "label_info": LABEL_INFO})
            about[study] = Study.model_validate({"patient": f"case {n}", "frame": frame, "phase": phase, "group": "NOR"})
    save_manifest(folder, Manifest(source="test", studies=about))
    return images


def same_studies(one: Path, other: Path, names: dict[str, str] | None = None) -> None:
    """Both folders hold the same images and final labels; ``names`` maps the studies of ``one`` to those of ``other``."""
    for place in (".", "labels/final"):
        ours, theirs = find_files(one / place).files, find_files(other / place).files
        named = {study: (names or {}).get(study, study) for study in ours}
        assert sorted(named.values()) == sorted(theirs)
        for study, path in ours.items():
            a, b = read_exact(path), read_exact(theirs[named[study]])
            assert a.array.dtype == b.array.dtype and np.array_equal(a.array, b.array), study
            assert np.allclose(a.affine, b.affine, rtol=1e-6, atol=1e-5), study
            stored, again = nib.load(path), nib.load(theirs[named[study]])
            assert np.array_equal(np.asarray(stored.dataobj), np.asarray(again.dataobj))
            assert np.allclose(read_volume(theirs[named[study]]).affine, again.get_sform(), atol=1e-5)


def tree(folder: Path) -> dict[str, bytes]:
    """Every file below ``folder``."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def import_folder(source: Path, target: Path, layout: str, *options: object) -> tuple[int, str]:
    """Exit code and output of ``convert.py import``."""
    done = run_script(convert.app, "import", source, target, "--layout", layout, *options)
    return done.exit_code, done.output


def label_of(studies: Path, study: str) -> np.ndarray:
    """The first version of a study's label."""
    return LabelVersions(studies, study).read_volume(1).array
