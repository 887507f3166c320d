"""The labels of whole cines as DICOM: each phase by itself, whatever becomes of the others."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from prato.data.cine import read_cine
from prato.data.studies.folder import Study, load_manifest, save_manifest
from prato.dicom.importer import import_dicom
from prato.function.hearts import find_hearts, table_rows
from prato.labelling.versions import LabelVersions
from tests.prato.dicom.labels.test_export_dicom import draw, export, read
from tests.prato.dicom.scans import Scan, save

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
        ("0", "1", "Ada"),
        ("4", "2", "Bob"),
    ]
    assert np.array_equal(by_ada.pixel_array, read(tmp_path / "one")[0].pixel_array)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("marked", "listed", "told"),
    [
        ((1, 3), (0, 4), (1, 3, "marked")),
        (None, (0, 4), (0, 4, "manifest")),
        (None, (None, None), (4, 0, "found")),
        ((0, 2), (0, 4), None),  # nobody has labelled phase 2
        ((None, None), (0, 4), (4, 0, "found")),  # taken back
    ],
)
def test_function_is_of_the_phases_that_somebody_named(
    cine: Labelled, tmp_path: Path, marked: tuple[int, int] | None, listed: tuple[int, int], told: tuple[int, int, str] | None
) -> None:
    grid, label = read_cine(cine.studies / f"{cine.study}.nii.gz").grid(), LabelVersions(cine.studies, cine.study)
    mask = np.zeros(grid.array.shape, np.uint8)
    for t, rows in ((0, 2), (1, 5), (3, 4), (4, 6)):
        mask[:rows, :, :3, t] = 3
    label.save(grid.with_array(mask), {"annotator": "Ada", "phases": [0, 1, 3, 4]})
    label.review("approved", {"annotator": "Cy", "phases": [0, 1, 3, 4]})
    info = {} if marked is None else {"marked": {"ed": marked[0], "es": marked[1], "annotator": "Ada"}}
    (cine.studies / "datastore_v2.json").write_text(json.dumps({"objects": {cine.study: {"image": {"info": info}}}}))
    manifest = load_manifest(cine.studies)
    manifest.studies[cine.study] = Study(patient="p", ed=listed[0], es=listed[1])
    save_manifest(cine.studies, manifest)
    output = export(cine.studies, tmp_path / "out", cine.source)
    [path] = (tmp_path / "out").glob("*_values.json")
    values = json.loads(path.read_text(encoding="utf-8"))
    function, said = values["function"], comments(tmp_path / "out")
    if told is None:
        assert (function, values["ed_es_source"], said) == (None, None, [])
        assert "without an ejection fraction, as end-diastole and end-systole are marked by Ada as phase 1 of 6 and phase 3 of 6" in output
        return
    assert (function["ed"], function["es"], values["ed_es_source"]) == told
    rows = {0: 2, 1: 5, 3: 4, 4: 6}
    assert function["lv"]["ef_percent"] == pytest.approx(100 * (1 - rows[told[1]] / rows[told[0]]), abs=0.01)
    by = {"marked": "marked by Ada", "manifest": "named by the manifest", "found": "found by the volumes"}[told[2]]
    phases = f"End-diastole is phase {told[0] + 1} and end-systole phase {told[1] + 1} of 6, {by}."
    assert said == 2 * [phases, *function["warnings"]]  # of the LV and of the RV
    assert any("4 of 6 phases are measured" in doubt for doubt in said) == (told[2] == "found")


@pytest.mark.slow
def test_exported_numbers_are_those_of_the_table_to_the_digit(tmp_path: Path) -> None:
    source, studies = (
        save(tmp_path / "in", Scan(slices=6, phases=6, rows=24, columns=20, spacing=(1.25, 1.25)).images()),
        tmp_path / "cines",
    )
    [cine] = import_dicom(source, studies).imported
    grid, label = read_cine(studies / f"{cine.study}.nii.gz").grid(), LabelVersions(studies, cine.study)
    mask = np.zeros(grid.array.shape, np.uint8)
    for t, count in enumerate((894, 690)):  # 11.175 and 8.625 ml
        mask[..., t] = np.where(np.arange(mask[..., t].size).reshape(mask.shape[:3]) < count, 3, 0)
    label.save(grid.with_array(mask), {"annotator": "Ada", "phases": [0, 1]})
    export(studies, tmp_path / "out", source, "--corrected")
    [path] = (tmp_path / "out").glob("*_values.json")
    values = json.loads(path.read_text(encoding="utf-8"))
    [table] = (tmp_path / "out").glob("*_volumes.csv")
    rows = list(csv.DictReader(table.read_text(encoding="utf-8").splitlines()))
    [row] = table_rows(find_hearts(studies).hearts)
    assert values["function"]["lv"] == row["lv"]
    of_phases = [phase["volumes_ml"]["LV cavity"] for phase in values["phases"]]
    assert of_phases == [row["lv"]["edv_ml"], row["lv"]["esv_ml"]] == [float(each["LV cavity ml"]) for each in rows]  # type: ignore[index]


def comments(folder: Path) -> list[str]:
    """The texts beside the function in the report."""
    [report] = read(folder, "report")
    found: list[str] = []

    def look(items: Sequence[Any]) -> None:
        for item in items:
            if item.ValueType == "TEXT" and item.ConceptNameCodeSequence[0].CodeMeaning == "Comment":
                found.append(str(item.TextValue))
            look(item.get("ContentSequence", ()))

    look(report.ContentSequence)
    return found
