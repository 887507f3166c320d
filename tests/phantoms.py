"""Phantoms with few slices: a test that needs hearts seldom needs all of one."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib

from prato.data.phantom import make_phantoms
from prato.data.studies import Manifest


def make_thin_phantoms(folder: Path, patients: int, slices: int = 4) -> Manifest:
    """What ``make_phantoms(folder, patients, 0)`` writes, of each image and label the ``slices`` in the middle."""
    manifest = make_phantoms(folder, patients, 0)
    for path in folder.rglob("*.nii.gz"):
        image = nib.load(path)
        first = (image.shape[2] - slices) // 2
        thin = nib.Nifti1Image.from_bytes(image.slicer[:, :, first : first + slices].to_bytes())
        nib.save(thin, path)
    return manifest
