"""Cines out of DICOM, whatever order, series, container and encoding they come in."""

from __future__ import annotations

import copy
import json
import re
import zipfile
from contextlib import nullcontext
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from prato.data.cine import read_cine
from prato.data.studies.folder import load_manifest, save_manifest
from prato.dicom.importer import Phases, import_dicom
from prato.dicom.reading.files import LIMITS, DicomError
from prato.dicom.studies import import_into_studies
from tests.prato.dicom.scans import Scan, check, decoys, only, record_of, save, uid


@pytest.mark.slow
def test_a_shuffled_folder_with_decoys_gives_the_cine_and_names_the_rest(tmp_path: Path) -> None:
    scan = Scan(9)
    source = save(tmp_path / "in" / "deep" / "er", [*scan.images(), *decoys()]).parents[1]
    (source / "readme.txt").write_text("no DICOM")
    report = import_dicom(source, tmp_path / "out")
    check(scan, report, tmp_path / "out")
    assert report.refused == []
    reasons = "\n".join(report.left_out)
    for number, reason in (
        (2, "one phase"),
        (3, "a cine of 1 slice, no stack"),
        (4, "a cine, but no short axis (turned by"),
        (6, "phase or velocity maps"),
        (6, "a slice that series 9 (series of Møller^Ånna) has already"),
        (7, "one phase"),
        (8, "images over 26 s, more than one heartbeat"),
    ):
        assert re.search(rf"series {number} .*: {re.escape(reason)}", reasons), f"{reason} in {reasons}"
    assert "1 file: not DICOM images" in reasons


def test_times_and_origin_are_in_the_sidecar(tmp_path: Path) -> None:
    scan = Scan(slices=4, phases=8, rr_ms=800)
    report = import_dicom(save(tmp_path / "in", scan.images()), tmp_path / "out")
    image, sidecar = only(report, tmp_path / "out")
    assert image.header.get_xyzt_units() == ("mm", "sec")
    assert image.header["pixdim"][4] == pytest.approx(0.1)
    assert np.allclose(read_cine(tmp_path / "out" / f"{report.imported[0].study}.nii.gz").times_ms, np.arange(8) * 100)
    assert sidecar["phase_times_ms"] == pytest.approx([100 * t for t in range(8)])
    assert sidecar["trigger_times_ms"][3][1] == pytest.approx(121.2)
    assert (sidecar["rr_interval_ms"], sidecar["rr_interval_from"], sidecar["phases_sorted_by"]) == (800, "NominalInterval", "TriggerTime")
    dicom = sidecar["dicom"]
    assert dicom["sop_instance_uids"] == [[uid("study", 1, k, t) for t in range(8)] for k in range(4)]
    assert (dicom["study_instance_uid"], dicom["series_instance_uids"]) == (uid("study"), [uid("study", 1)])
    assert dicom["image_position_patient"] == [scan.position(k) for k in range(4)]
    assert (dicom["rows"], dicom["columns"], dicom["frame_numbers"], dicom["uids_are_valid"]) == (12, 10, None, True)


def test_one_series_a_slice_is_joined(tmp_path: Path) -> None:
    scan = Scan()
    report = import_dicom(save(tmp_path / "in", scan.one_series_a_slice()), tmp_path / "out")
    check(scan, report, tmp_path / "out")
    sidecar = only(report, tmp_path / "out")[1]
    assert len(sidecar["dicom"]["series_instance_uids"]) == 5 and sidecar["dicom"]["series_of_slice"] == [0, 1, 2, 3, 4]


def test_a_cine_that_goes_on_in_another_series_is_joined(tmp_path: Path) -> None:
    scan = Scan(slices=7)
    images = scan.images()
    for ds in images[4 * scan.phases :]:
        ds.SeriesInstanceUID, ds.SeriesNumber = uid("second"), 2
    report = import_dicom(save(tmp_path / "in", images), tmp_path / "out")
    check(scan, report, tmp_path / "out")
    assert len(only(report, tmp_path / "out")[1]["dicom"]["series_instance_uids"]) == 2


@pytest.mark.parametrize(
    "series",
    [
        ((0, 1, 2), (6, 7, 8), (3, 4, 5)),  # the middle of the heart last
        ((0, 3, 6), (1, 4, 7), (2, 5, 8)),  # between each other, so that no two of them are evenly spaced
        ((0, 1, 2, 3), (5, 6, 7, 8), (4,)),
    ],
)
def test_series_of_some_slices_each_are_one_cine_in_whichever_order_they_were_acquired(
    tmp_path: Path, series: tuple[tuple[int, ...], ...]
) -> None:
    scan = Scan(slices=9)
    images = scan.images()
    for n, slices in enumerate(series):
        own = [ds for k in slices for ds in images[k * scan.phases : (k + 1) * scan.phases]]
        for ds in own:
            ds.SeriesInstanceUID, ds.SeriesNumber = uid("part", n), 10 + n
        save(tmp_path / "in" / str(n), own)
    report = import_dicom(tmp_path / "in", tmp_path / "out")
    assert [cine.slices for cine in report.imported] == [9]
    check(scan, report, tmp_path / "out")


@pytest.mark.parametrize(("second", "is_told"), [((5, 6, 7, 8), True), ((0, 1, 2, 3), False)])
def test_two_cines_that_leave_slices_out_between_them_may_be_one_heart(tmp_path: Path, second: tuple[int, ...], is_told: bool) -> None:
    scan = Scan(slices=9)
    images = scan.images()
    for n, slices in enumerate(((0, 1, 2, 3), second)):
        own = [copy.deepcopy(ds) for k in slices for ds in images[k * scan.phases : (k + 1) * scan.phases]]
        for number, ds in enumerate(own):
            ds.SeriesInstanceUID, ds.SeriesNumber, ds.SOPInstanceUID = uid("part", n), 10 + n, uid(f"image {n}", number)
            ds.PixelData = (np.frombuffer(ds.PixelData, np.uint16) + n).tobytes()  # at rest, and under stress
        save(tmp_path / "in" / str(n), own)
    report = import_dicom(tmp_path / "in", tmp_path / "out")
    assert len(report.imported) == 2
    assert ("slices between them are missing" in " ".join(report.warnings)) == is_told


def test_a_slice_that_was_acquired_again_is_taken_from_the_later_series(tmp_path: Path) -> None:
    scan = Scan()
    images = scan.one_series_a_slice()
    for ds in images:
        ds.AcquisitionTime = f"10{ds.SeriesNumber - 100:02d}00"
    blurred = [ds for ds in scan.one_series_a_slice() if ds.SeriesNumber == 102]
    for t, ds in enumerate(blurred):
        ds.SeriesInstanceUID, ds.SeriesNumber, ds.SOPInstanceUID, ds.AcquisitionTime = uid("blurred"), 90, uid("blurred", t), "095900"
        ds.PixelData = b"\0" * len(ds.PixelData)
    report = import_dicom(save(tmp_path / "in", [*images, *blurred]), tmp_path / "out")
    check(scan, report, tmp_path / "out")
    assert any("acquired again in series 102" in line for line in report.left_out)


def test_an_enhanced_multi_frame_object(tmp_path: Path) -> None:
    scan = Scan()
    report = import_dicom(save(tmp_path / "in", [scan.enhanced()]), tmp_path / "out")
    check(scan, report, tmp_path / "out")
    sidecar = only(report, tmp_path / "out")[1]
    numbers = np.array(sidecar["dicom"]["frame_numbers"])
    assert sorted(numbers.ravel()) == list(range(1, 41))
    order = np.random.default_rng(7).permutation(40)
    assert order[numbers[2, 3] - 1] == 2 * 8 + 3
    assert (sidecar["rr_interval_ms"], sidecar["phase_times_ms"][1]) == (800, 100)


def test_an_enhanced_object_that_gives_delays_as_measured_not_as_prescribed(tmp_path: Path) -> None:
    scan = Scan()
    ds = scan.enhanced()
    for group in ds.PerFrameFunctionalGroupsSequence:
        del group.FrameContentSequence[0].TemporalPositionIndex
        timing = group.CardiacSynchronizationSequence[0]
        timing.ActualCardiacTriggerDelayTime = timing.NominalCardiacTriggerDelayTime
        del timing.NominalCardiacTriggerDelayTime
    report = import_dicom(save(tmp_path / "in", [ds]), tmp_path / "out")
    check(scan, report, tmp_path / "out")
    assert only(report, tmp_path / "out")[1]["phases_sorted_by"] == "TriggerTime"


@pytest.mark.parametrize("by", ["TemporalPositionIdentifier", "InstanceNumber"])
def test_without_trigger_times(tmp_path: Path, by: str) -> None:
    scan = Scan()
    images = scan.images()
    for n, ds in enumerate(images):
        del ds.TriggerTime
        if by != "InstanceNumber":
            ds.TemporalPositionIdentifier = n % scan.phases + 1
            del ds.InstanceNumber
    report = import_dicom(save(tmp_path / "in", images), tmp_path / "out")
    check(scan, report, tmp_path / "out")
    sidecar = only(report, tmp_path / "out")[1]
    assert sidecar["phases_sorted_by"] == by
    assert any("no trigger times" in note for note in sidecar["notes"])
    assert any("instance numbers" in note for note in sidecar["notes"]) == (by == "InstanceNumber")


@pytest.mark.slow
def test_zip_and_dicomdir_give_what_the_folder_gives(tmp_path: Path) -> None:
    import pydicom

    scan = Scan()
    source = save(tmp_path / "in", scan.images(), name="IM{:03d}".format)
    with zipfile.ZipFile(tmp_path / "in.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for path in source.iterdir():
            archive.write(path, f"disc/{path.name}")
    names = [record_of(path.name) for path in source.iterdir()]
    directory = scan.image(0, 0)
    directory.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.1.3.10"
    directory.DirectoryRecordSequence = pydicom.Sequence(names)
    directory.save_as(source / "DICOMDIR", write_like_original=False)
    (source / "IM999").write_bytes(b"not listed")
    contents = []
    for given_source in (source, tmp_path / "in.zip", source / "DICOMDIR"):
        target = tmp_path / f"out{len(contents)}"
        check(scan, import_dicom(given_source, target), target)
        contents.append({path.name: path.read_bytes() for path in target.iterdir()})
    assert contents[0] == contents[1] == contents[2]  # the pseudonyms too


@pytest.mark.slow
def test_two_patients_and_two_cines_of_one(tmp_path: Path) -> None:
    one, again, other = Scan(1), Scan(2, origin=(12.5, -80.25, 133.0)), Scan(3, study="other", patient="9")
    report = import_dicom(save(tmp_path / "in", [*one.images(), *again.images(), *other.images()]), tmp_path / "out")
    assert len(report.imported) == 3
    assert any("2 short-axis cines" in line for line in report.warnings)
    patients = {entry.patient for entry in load_manifest(tmp_path / "out").studies.values()}
    assert len(patients) == 2
    for cine, scan in zip(sorted(report.imported, key=lambda cine: cine.label), (one, again, other)):
        assert np.array_equal(np.asarray(nib.load(tmp_path / "out" / f"{cine.study}.nii.gz").dataobj), scan.array())


@pytest.mark.slow
def test_single_phases_are_a_studies_folder_of_their_own(tmp_path: Path) -> None:
    scan = Scan(phases=10)
    import_dicom(save(tmp_path / "in", scan.images()), tmp_path / "out", phases="all")
    every = sorted((tmp_path / "out" / "phases").glob("*.nii.gz"))
    assert [path.name[-15:] for path in every] == [f"_frame{t:02d}.nii.gz" for t in range(1, 11)]
    for t, path in enumerate(every):
        assert np.array_equal(np.asarray(nib.load(path).dataobj), scan.array()[..., t])
    report = import_dicom(tmp_path / "in", tmp_path / "two", phases="ed,es")
    manifest = load_manifest(tmp_path / "two" / "phases")
    assert sorted(entry.phase for entry in manifest.studies.values()) == ["ED", "ES"]
    assert all(entry.guessed for entry in manifest.studies.values())
    assert any("a guess" in note for note in report.imported[0].notes)


@pytest.mark.slow
@pytest.mark.parametrize("order", [("none", "ed,es", "all"), ("all", "ed,es", "none"), ("ed,es", "none", "all")])
def test_phases_may_be_asked_for_later(tmp_path: Path, order: tuple[Phases, ...]) -> None:
    source = save(tmp_path / "in", Scan(phases=10).images())
    reports = [import_dicom(source, tmp_path / "out", phases=phases) for phases in order]
    assert all(report.refused == [] for report in reports)
    assert len([*(tmp_path / "out" / "phases").glob("*.nii.gz")]) == 10
    listed = load_manifest(tmp_path / "out" / "phases").studies.values()
    assert sorted(filter(None, (entry.phase for entry in listed))) == ["ED", "ES"]


@pytest.mark.slow
def test_a_second_run_changes_nothing_and_nobody_is_overwritten(tmp_path: Path) -> None:
    source, target = save(tmp_path / "in", Scan().images()), tmp_path / "out"
    import_dicom(source, target, phases="all")
    before = {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in target.rglob("*") if path.is_file()}
    assert not import_dicom(source, target, phases="all").imported[0].is_new
    assert {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in target.rglob("*") if path.is_file()} == before
    sidecar = next(target.glob("*_4d.json"))
    sidecar.write_text("{}")
    report = import_dicom(source, target, phases="all")
    assert report.imported == [] and "already exists with other content" in report.refused[0]
    assert sidecar.read_text() == "{}"


@pytest.mark.slow
@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    turn=st.tuples(*[st.floats(-0.3, 0.3)] * 3),
    turned=st.integers(0, 7),
    slices=st.integers(3, 7),
    phases=st.integers(6, 9),
    gap=st.floats(3, 12),
    seed=st.integers(0, 2**16),
)
def test_any_stack_lies_where_the_scanner_said(
    tmp_path_factory: pytest.TempPathFactory, turn: tuple[float, ...], turned: int, slices: int, phases: int, gap: float, seed: int
) -> None:
    from scipy.spatial.transform import Rotation

    rows = Rotation.from_rotvec(turn).apply(np.reshape(Scan().orientation, (2, 3)))
    rows = rows[::-1] if turned & 1 else rows  # rows and columns changed places
    rows = rows * [[-1 if turned & 2 else 1], [-1 if turned & 4 else 1]]
    orientation = tuple(round(float(v), 7) for v in rows.ravel())
    scan = Scan(slices=slices, phases=phases, gap=round(gap, 3), orientation=orientation)
    folder = tmp_path_factory.mktemp("any")
    report = import_dicom(save(folder / "in", scan.images(), seed=seed), folder / "out")
    check(scan, report, folder / "out")
    assert (report.imported[0].slices, report.imported[0].phases) == (slices, phases)


@pytest.mark.slow
def test_the_same_archive_again_leaves_what_was_entered_meanwhile(tmp_path: Path) -> None:
    source, into_one, into_folder = save(tmp_path / "in", Scan(phases=8).images()), tmp_path / "a", tmp_path / "b"
    for again in (False, True):
        import_dicom(source, into_one)
        import_into_studies(source, into_folder, "ed,es", LIMITS)
        for folder in (into_one, into_folder):
            manifest = load_manifest(folder)
            [name] = [name for name in manifest.studies if name.endswith("_4d")]
            entered = manifest.studies[name].model_copy(update={"height_cm": 180.0, "weight_kg": 80.0, "group": "DCM", "ed": 0, "es": 3})
            if again:
                assert manifest.studies[name] == entered
            manifest.studies[name] = entered
            save_manifest(folder, manifest)


@pytest.mark.parametrize("is_server", [False, True], ids=["command", "server"])
def test_a_sidecar_that_was_written_before_it_had_hashes_stays_as_it_is(tmp_path: Path, is_server: bool) -> None:
    source, target = save(tmp_path / "in", Scan().images()), tmp_path / "out"
    import_dicom(source, target)
    [path] = target.glob("*_4d.json")
    content = json.loads(path.read_text(encoding="utf-8"))
    assert len(content.pop("voxels_sha256")) == Scan().phases
    path.write_text(json.dumps(content), encoding="utf-8")
    before = path.read_bytes()
    again = import_into_studies(source, target, "none", LIMITS)[0] if is_server else import_dicom(source, target)
    assert not again.refused and not again.imported[0].is_new and path.read_bytes() == before
    content["rr_interval_ms"] = 1.0
    path.write_text(json.dumps(content), encoding="utf-8")
    with pytest.raises(DicomError, match="already exists with other content") if is_server else nullcontext():
        again = import_into_studies(source, target, "none", LIMITS)[0] if is_server else import_dicom(source, target)
        assert "already exists with other content" in again.refused[0]
