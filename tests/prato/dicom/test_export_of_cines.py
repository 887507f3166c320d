"""The labels of whole cines as DICOM: each phase by itself, whatever becomes of the others."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from prato.data.cine import read_cine
from prato.dicom.importer import import_dicom
from prato.labelling.versions import LabelVersions
from tests.prato.dicom.scans import Scan, save
from tests.prato.dicom.test_export_dicom import draw, export, read

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")  # pydicom, of UIDs that break a rule
SCAN = Scan(slices=4, phases=6)


class Labelled:
    """A cine in a studies folder, imported from ``source``."""

    def __init__(self, folder: Path) -> None:
        self.source, self.studies = save(folder / "in", SCAN.images()), folder / "cines"
        [cine] = import_dicom(self.source, self.studies).imported
        self.study = cine.study

    def submit(self, seed: int, phases: Sequence[int], annotator: str, **about: Any) -> None:
        """As the server does, and approved by somebody else."""
        grid, label = read_cine(self.studies / f"{self.study}.nii.gz").grid(), LabelVersions(self.studies, self.study)
        label.save(grid.with_array(draw(seed, grid.array.shape)), {"annotator": annotator, "phases": [*phases], **about})
        label.review("approved", {"annotator": "Cy", "phases": [*phases]})

    def values(self, folder: Path) -> list[dict[str, str]]:
        [path] = folder.glob("*_volumes.csv")
        return list(csv.DictReader(path.read_text(encoding="utf-8").splitlines()))


@pytest.fixture
def cine(tmp_path: Path) -> Labelled:
    return Labelled(tmp_path)


@pytest.mark.slow
def test_a_phase_stays_the_same_object_when_somebody_submits_another(cine: Labelled, tmp_path: Path) -> None:
    cine.submit(1, [0], "Ada")
    export(cine.studies, tmp_path / "one", cine.source)
    cine.submit(2, [4], "Bob", model="prato_auto", model_version="69ebc6ee699e")
    export(cine.studies, tmp_path / "two", cine.source)
    [first] = (tmp_path / "one").glob("*_frame01_seg_*.dcm")
    assert (tmp_path / "two" / first.name).read_bytes() == first.read_bytes()
    by_ada, by_bob = read(tmp_path / "two")
    assert [str(seg.ContentCreatorName) for seg in (by_ada, by_bob)] == ["Ada^", "Bob^"]
    assert [seg.SegmentSequence[0].SegmentAlgorithmType for seg in (by_ada, by_bob)] == ["MANUAL", "SEMIAUTOMATIC"]
    assert by_ada.ContentDescription.endswith("version 1 of its label") and by_bob.ContentDescription.endswith("version 2 of its label")
    assert [(row["phase"], row["label version"], row["annotator"]) for row in cine.values(tmp_path / "two")] == [
        ("1", "1", "Ada"),
        ("5", "2", "Bob"),
    ]
    assert np.array_equal(by_ada.pixel_array, read(tmp_path / "one")[0].pixel_array)
