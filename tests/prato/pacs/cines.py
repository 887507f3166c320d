"""A small cine for a PACS, listed and labelled."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from prato.data.cine import read_cine
from prato.labelling.versions import LabelVersions
from prato.pacs.catalog import Catalog, RemoteCine
from prato.pacs.web import Pacs
from tests.prato.dicom.scans import Scan

SCAN = Scan(slices=3, phases=6)
FILTERS = {"Modality": "MR"}


def only_cine(pacs: Pacs, folder: Path) -> RemoteCine:
    catalog = Catalog(pacs, folder, FILTERS)
    catalog.refresh()
    [cine] = catalog.cines().values()
    return cine


def label(studies: Path, study: str, seeds: dict[int, int]) -> None:
    """Submit those phases, and approve them."""
    cine = read_cine(studies / f"{study}.nii.gz")
    mask = np.zeros((SCAN.columns, SCAN.rows, SCAN.slices, SCAN.phases), np.uint8)
    for t, seed in seeds.items():
        mask[..., t] = np.random.default_rng(seed).integers(0, 4, mask.shape[:3])
    versions = LabelVersions(studies, study)
    versions.save(cine.grid().with_array(mask), {"annotator": "ann", "phases": list(seeds)})
    versions.review("approved", {"annotator": "bea", "phases": list(seeds)})
