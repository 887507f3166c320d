"""Labels out as DICOM SEG: what was drawn, where it was drawn, on which images, and nothing twice."""

from __future__ import annotations

import json
import shutil
import subprocess
import time
from collections.abc import Iterable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import highdicom
import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset, FileDataset
from pydicom.sr._concepts_dict import concepts
from pydicom.sr.coding import Code

from prato.data.nifti import read_volume
from prato.dicom.importer import import_dicom
from prato.dicom.labels import codes
from prato.dicom.labels.segmentation import predecessor_of
from prato.labelling.versions import LabelVersions
from scripts import export_dicom
from tests.prato.dicom.labels.label_folders import LAYOUTS, SCAN
from tests.prato.dicom.scans import BIRTH, LPS_TO_RAS, NAME, NUMBER, save, uid
from tests.scripts.cli import run_script

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")  # pydicom, of UIDs that break a rule


def draw(seed: int, shape: tuple[int, ...]) -> np.ndarray:
    """A mask with every structure, and none in the last slice."""
    mask = np.random.default_rng(seed).integers(0, 4, shape).astype(np.uint8)
    mask[:, :, -1] = 0
    return mask


def submit(studies: Path, study: str, mask: np.ndarray, annotator: str = "ann") -> None:
    """As the server does."""
    LabelVersions(studies, study).save(
        read_volume(studies / f"{study}.nii.gz").with_array(mask), {"annotator": annotator, "model": "prato"}
    )


def imported(tmp_path: Path, images: Iterable[FileDataset], phases: str = "ed,es") -> tuple[Path, Path, list[str]]:
    """The DICOM folder, the studies folder of its phases, and the studies in it."""
    source = save(tmp_path / "in", images)
    report = import_dicom(source, tmp_path / "cines", phases=phases)  # type: ignore[arg-type]
    assert not report.refused and len(report.imported) == 1
    studies = tmp_path / "cines" / "phases"
    return source, studies, sorted(path.name.removesuffix(".nii.gz") for path in studies.glob("*.nii.gz"))


def export(studies: Path, target: Path, source: Path | str, *options: str, code: int = 0) -> str:
    result = run_script(export_dicom.main, studies, target, "--source", source, *options)
    assert result.exit_code == code, result.output
    return result.output


def read(folder: Path, kind: str = "seg") -> list[Dataset]:
    return [pydicom.dcmread(path) for path in sorted(folder.glob(f"*_{kind}_*.dcm"))]


def frames_of(seg: Dataset) -> dict[tuple[int, str], np.ndarray]:
    """(rows, columns) by segment number and source instance (and frame), by highdicom and by the plain header."""
    found = {}
    for group, pixels in zip(seg.PerFrameFunctionalGroupsSequence, seg.pixel_array.reshape(-1, seg.Rows, seg.Columns), strict=True):
        source = group.DerivationImageSequence[0].SourceImageSequence[0]
        name = f"{source.ReferencedSOPInstanceUID}#{source.get('ReferencedFrameNumber', '')}"
        found[int(group.SegmentIdentificationSequence[0].ReferencedSegmentNumber), name] = pixels
    return found


def place_of(seg: Dataset, mask: np.ndarray) -> np.ndarray:
    """Centres (N, 3), RAS mm, of all voxels of segment 3, in no order, by the header alone."""
    shared = seg.SharedFunctionalGroupsSequence[0]
    along = np.reshape(shared.PlaneOrientationSequence[0].ImageOrientationPatient, (2, 3)).astype(float)
    spacing = [float(mm) for mm in shared.PixelMeasuresSequence[0].PixelSpacing]
    points = []
    for group, pixels in zip(seg.PerFrameFunctionalGroupsSequence, seg.pixel_array.reshape(-1, seg.Rows, seg.Columns), strict=True):
        if group.SegmentIdentificationSequence[0].ReferencedSegmentNumber == 3:
            rows, columns = np.nonzero(pixels)
            origin = np.array(group.PlanePositionSequence[0].ImagePositionPatient, float)
            points.append(origin + np.outer(columns * spacing[1], along[0]) + np.outer(rows * spacing[0], along[1]))
    return np.concatenate(points) @ LPS_TO_RAS[:3, :3]


def sort_points(points: np.ndarray) -> np.ndarray:
    return points[np.lexsort(np.round(points, 2).T)]


@pytest.mark.slow
@pytest.mark.parametrize("layout", LAYOUTS)
def test_segmentations_hold_what_was_drawn_where_it_was_drawn(tmp_path: Path, layout: str) -> None:
    source, studies, names = imported(tmp_path, LAYOUTS[layout]())
    masks = {name: draw(n, (SCAN.columns, SCAN.rows, SCAN.slices)) for n, name in enumerate(names)}
    for name, mask in masks.items():
        submit(studies, name, mask)
    export(studies, tmp_path / "out", source)
    sidecar = json.loads(next((tmp_path / "cines").glob("*_4d.json")).read_text())["dicom"]
    segs = read(tmp_path / "out")
    assert len(segs) == 2
    for name, seg in zip(names, segs, strict=True):
        t, mask = int(name[-2:]) - 1, masks[name]
        frames = frames_of(seg)
        assert len(frames) == 3 * (SCAN.slices - 1)
        for (number, instance), pixels in frames.items():
            numbers = sidecar["frame_numbers"]
            [k] = [k for k in range(SCAN.slices) if instance == f"{sidecar['sop_instance_uids'][k][t]}#{numbers[k][t] if numbers else ''}"]
            assert np.array_equal(pixels, (mask[:, :, k] == number).T)
        image = read_volume(studies / f"{name}.nii.gz")
        wanted = np.argwhere(mask == 3) @ image.affine[:3, :3].T + image.affine[:3, 3]
        assert np.allclose(sort_points(place_of(seg, mask)), sort_points(wanted), atol=0.01)
        listed = {
            (series.SeriesInstanceUID, i.ReferencedSOPInstanceUID)
            for series in seg.ReferencedSeriesSequence
            for i in series.ReferencedInstanceSequence
        }
        assert listed == {
            (sidecar["series_instance_uids"][sidecar["series_of_slice"][k]], sidecar["sop_instance_uids"][k][t]) for k in range(SCAN.slices)
        }


def test_patient_study_and_structures_are_named(tmp_path: Path) -> None:
    source, studies, names = imported(tmp_path, SCAN.images())
    submit(studies, names[0], draw(1, (SCAN.columns, SCAN.rows, SCAN.slices)), "Ørn, Å=b^c\\d")
    export(studies, tmp_path / "out", source)
    [seg] = read(tmp_path / "out")
    assert (str(seg.PatientName), seg.PatientID, seg.PatientBirthDate, seg.AccessionNumber) == (NAME, NUMBER, BIRTH, "ACC-99")
    assert (seg.StudyInstanceUID, seg.FrameOfReferenceUID) == (uid("study"), uid("study", "frame"))
    assert str(seg.ContentCreatorName) == "Ørn, Å b c d^"
    segments = {s.SegmentLabel: (s.SegmentNumber, s.SegmentedPropertyTypeCodeSequence[0].CodeValue) for s in seg.SegmentSequence}
    assert segments == {name: (n, codes.STRUCTURE_CODES[name].value) for n, name in enumerate(("RV cavity", "myocardium", "LV cavity"), 1)}
    assert seg.SegmentSequence[0].SegmentAlgorithmType == "SEMIAUTOMATIC"


@pytest.mark.parametrize(("zone", "offset", "hours"), [("Asia/Kolkata", "-0330", -3.5), ("America/St_Johns", "+0530", 5.5)])
def test_times_are_in_the_zone_that_the_source_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, zone: str, offset: str, hours: float
) -> None:
    source, studies, names = imported(tmp_path, replace(SCAN, extra={"TimezoneOffsetFromUTC": offset}).images())
    submit(studies, names[0], draw(1, (SCAN.columns, SCAN.rows, SCAN.slices)))
    created = LabelVersions(studies, names[0]).all()[0].created
    monkeypatch.setenv("TZ", zone)
    time.tzset()
    try:
        export(studies, tmp_path / "out", source)
    finally:
        monkeypatch.undo()
        time.tzset()
    for dataset in (*read(tmp_path / "out"), *read(tmp_path / "out", "report")):
        assert dataset.TimezoneOffsetFromUTC == offset
        assert dataset.ContentDate + dataset.ContentTime == (created + timedelta(hours=hours)).strftime("%Y%m%d%H%M%S")


@pytest.mark.slow
def test_the_readers_of_others_give_the_same_voxels(tmp_path: Path) -> None:
    pydicom_seg = pytest.importorskip("pydicom_seg", reason="pydicom-seg is not installed: pip install -r requirements.txt")
    source, studies, names = imported(tmp_path, SCAN.images())
    mask = draw(2, (SCAN.columns, SCAN.rows, SCAN.slices))
    submit(studies, names[0], mask)
    export(studies, tmp_path / "out", source)
    [path] = (tmp_path / "out").glob("*_seg_*.dcm")
    seg = highdicom.seg.segread(path)
    sources = [uid("study", 1, k, 0) for k in range(SCAN.slices - 1)]
    pixels = seg.get_pixels_by_source_instance(sources, combine_segments=True)
    assert np.array_equal(pixels.transpose(2, 1, 0), mask[:, :, :-1])
    other = pydicom_seg.MultiClassReader().read(pydicom.dcmread(path))
    assert np.array_equal(other.data.transpose(2, 1, 0), mask[:, :, :-1])
    image = read_volume(studies / f"{names[0]}.nii.gz")
    assert np.allclose(LPS_TO_RAS[:3, :3] @ other.image.GetOrigin(), image.affine[:3, 3], atol=0.01)
    last = other.image.TransformIndexToPhysicalPoint([size - 1 for size in other.image.GetSize()])
    assert np.allclose(LPS_TO_RAS[:3, :3] @ last, (image.affine @ [SCAN.columns - 1, SCAN.rows - 1, SCAN.slices - 2, 1])[:3], atol=0.01)


@pytest.mark.slow
def test_the_same_label_is_the_same_object_and_a_corrected_one_names_its_predecessor(tmp_path: Path) -> None:
    source, studies, names = imported(tmp_path, SCAN.images())
    shape = (SCAN.columns, SCAN.rows, SCAN.slices)
    first, second = draw(1, shape), draw(2, shape)
    submit(studies, names[0], first)
    export(studies, tmp_path / "out", source)
    before = {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()}
    assert "0 new DICOM files" in export(studies, tmp_path / "out", source)
    assert {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()} == before
    export(studies, tmp_path / "again", source)
    assert {path.name: path.read_bytes() for path in (tmp_path / "again").iterdir()} == before
    chain = [str(read(tmp_path / "out")[0].SOPInstanceUID)]
    for mask in (second, first):  # and back: a third object, as the first one is not the newest any more
        submit(studies, names[0], mask)
        export(studies, tmp_path / "out", source)
        [new] = [seg for seg in read(tmp_path / "out") if predecessor_of(seg) == chain[-1]]
        chain.append(str(new.SOPInstanceUID))
    assert len(set(chain)) == 3
    assert all((tmp_path / "out" / name).read_bytes() == data for name, data in before.items() if name.endswith(".dcm"))
    reports = {str(sr.SOPInstanceUID): predecessor_of(sr) for sr in read(tmp_path / "out", "report")}
    assert len(reports) == 3 and list(reports.values()).count(None) == 1
    assert "0 new DICOM files" in export(studies, tmp_path / "out", source)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("size", "weight", "bsa", "doubt"),
    [
        (1.7, 70, 1.82, "were guessed by the import"),
        (170, 70, None, "A height of 17000 cm and a weight of 70 kg cannot be right"),  # in cm, where DICOM has m
        (0.35, 0.9, 0.09, "were guessed by the import"),  # born too early
    ],
)
def test_volumes_and_function_stand_beside(tmp_path: Path, size: float, weight: float, bsa: float | None, doubt: str) -> None:
    images = SCAN.images()
    for ds in images:
        ds.PatientSize, ds.PatientWeight = size, weight
    source, studies, names = imported(tmp_path, images)
    for n, name in enumerate(names):
        mask = np.zeros((SCAN.columns, SCAN.rows, SCAN.slices), np.uint8)
        mask[2:9, 2:9, :3] = 2
        mask[3 : 8 - n, 3:8, :3] = 3
        mask[0:2, :, :3] = 1
        submit(studies, name, mask)
    export(studies, tmp_path / "out", source)
    [values] = [json.loads(path.read_text()) for path in (tmp_path / "out").glob("*_values.json")]
    voxel_ml = 1.5 * 1.25 * 8 / 1000
    assert values["phases"][0]["volumes_ml"]["LV cavity"] == pytest.approx(75 * voxel_ml, abs=0.01)
    assert values["function"]["lv"]["ef_percent"] == pytest.approx(20)
    assert values["function"]["bsa_m2"] == pytest.approx(bsa, abs=0.01)
    assert any(doubt in warning for warning in values["function"]["warnings"])
    [table] = [path.read_text().splitlines() for path in (tmp_path / "out").glob("*_volumes.csv")]
    assert table[0].startswith("study,phase,RV cavity ml,myocardium ml,LV cavity ml,") and len(table) == 3
    [report] = [highdicom.sr.srread(path) for path in (tmp_path / "out").glob("*_report_*.dcm")]
    groups = report.content.get_volumetric_roi_measurement_groups()
    assert len(groups) == 6
    uids = {str(seg.SOPInstanceUID) for seg in read(tmp_path / "out")}
    assert {str(g.reference_type and g.referenced_segment.referenced_sop_instance_uid) for g in groups} == uids
    numbers = {m.name.meaning: m.value for g in report.content.get_image_measurement_groups() for m in g.get_measurements()}
    assert numbers["Left ventricular ejection fraction by MR"] == pytest.approx(20)


def test_codes_are_those_of_the_standards() -> None:
    used = [value for value in vars(codes).values() if isinstance(value, Code)]
    used += [code for value in vars(codes).values() if isinstance(value, dict) for code in value.values() if isinstance(code, Code)]
    assert len(used) >= 20
    for code in used:
        if code.scheme_designator != "UCUM":
            entries = [entry for numbers in concepts[code.scheme_designator].values() for entry in numbers.items()]
            assert code.meaning.casefold() in {meaning.casefold() for value, (meaning, _) in entries if value == code.value}


def spoil(ds: FileDataset) -> None:
    """As the Sunnybrook cines are, and worse."""
    for name in ("SOPInstanceUID", "SeriesInstanceUID", "StudyInstanceUID", "FrameOfReferenceUID"):
        setattr(ds, name, "2.16.124.0" + str(getattr(ds, name))[-30:].replace(".", ""))
    ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID
    ds.PatientBirthDate, ds.StudyDate, ds.PatientSex = "00000000", "20120000", "unknown"
    ds.SpecificCharacterSet = "ISO_IR 100"


@pytest.mark.slow
@pytest.mark.parametrize("source_is_valid", [True, False])
def test_dciodvfy_has_nothing_to_say(tmp_path: Path, source_is_valid: bool) -> None:
    if shutil.which("dciodvfy") is None:
        pytest.skip("dciodvfy is not installed: apt-get install dicom3tools")
    images = SCAN.images()
    if not source_is_valid:
        for ds in images:
            spoil(ds)
    source, studies, names = imported(tmp_path, images)
    for n, name in enumerate(names):
        submit(studies, name, draw(n, (SCAN.columns, SCAN.rows, SCAN.slices)))
    export(studies, tmp_path / "out", source)
    submit(studies, names[0], draw(7, (SCAN.columns, SCAN.rows, SCAN.slices)))
    said = export(studies, tmp_path / "out", source)
    if not source_is_valid:
        assert "break DICOM's rules and are referred to as they are: 2.16.124.0" in said
        assert "PatientBirthDate, PatientSex, StudyDate" in said
    files = sorted((tmp_path / "out").glob("*.dcm"))
    assert len(files) == 5
    for path in files:
        errors = [
            line
            for line in subprocess.run(["dciodvfy", path], check=False, capture_output=True, text=True).stderr.splitlines()
            if "Error" in line
        ]
        if not source_is_valid:
            errors = [line for line in errors if "<2.16.124.0" not in line and "invalid data values for Value Rep" not in line]
        assert errors == []


def test_one_cine_that_was_imported_under_two_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source, studies, _ = imported(tmp_path, SCAN.images())
    monkeypatch.setenv("PRATO_PSEUDONYM_KEY", "another")
    import_dicom(source, tmp_path / "cines", phases="ed,es")
    for path in studies.glob("*.nii.gz"):
        submit(studies, path.name.removesuffix(".nii.gz"), draw(1, (SCAN.columns, SCAN.rows, SCAN.slices)))
    export(studies, tmp_path / "out", source)
    assert len(read(tmp_path / "out")) == 4


def test_a_model_may_be_called_anything(tmp_path: Path) -> None:
    source, studies, names = imported(tmp_path, SCAN.images())
    label = read_volume(studies / f"{names[0]}.nii.gz").with_array(draw(1, (SCAN.columns, SCAN.rows, SCAN.slices)))
    LabelVersions(studies, names[0]).save(label, {"annotator": "ann", "model": "a\\b\0c", "model_version": "1\\2"})
    export(studies, tmp_path / "out", source)
    [seg] = read(tmp_path / "out")
    [about] = seg.SegmentSequence[0].SegmentationAlgorithmIdentificationSequence
    assert (about.AlgorithmName, about.AlgorithmVersion, seg.SegmentSequence[0].SegmentAlgorithmName) == ("a b c", "1 2", "a b c")


def test_uids_that_break_a_rule_are_said_once_and_not_all(tmp_path: Path, recwarn: pytest.WarningsRecorder) -> None:
    images = SCAN.images()
    for ds in images:
        spoil(ds)
    source, studies, names = imported(tmp_path, images)
    submit(studies, names[0], draw(1, (SCAN.columns, SCAN.rows, SCAN.slices)))
    recwarn.clear()
    said = export(studies, tmp_path / "out", source)
    [line] = [line for line in said.splitlines() if "UIDs of the source break DICOM's rules" in line]
    assert line.count("2.16.124.0") == 3 and line.endswith("more.")
    assert not [warning for warning in recwarn if "Invalid value for VR UI" in str(warning.message)]
