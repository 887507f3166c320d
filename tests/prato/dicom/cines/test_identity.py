"""Nobody's name, number or date leaves the DICOM files, and what stands for them is stable."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from pydicom.dataset import FileDataset

from prato.dicom.cines.identity import pseudonym
from prato.dicom.importer import import_dicom
from prato.dicom.reading.files import LIMITS, DicomError
from prato.dicom.studies import import_into_studies
from tests.prato.dicom.scans import BIRTH, NAME, NUMBER, Scan, check, only, save, uid


def everything_written(folder: Path) -> bytes:
    """All names and contents below ``folder``, unzipped."""
    import gzip

    parts = [str(path.relative_to(folder)).encode() for path in folder.rglob("*")]
    for path in folder.rglob("*"):
        if path.is_file():
            raw = path.read_bytes()
            parts.append(gzip.decompress(raw) if path.suffix == ".gz" else raw)
    return b"\n".join(parts)


SCAN = Scan(slices=5, phases=8)
SECRETS = (*NAME.split("^"), NUMBER, BIRTH, "ACC-99", "20240229", "101112", "series of", "Doe")


def test_names_and_dates_stay_out_unless_they_are_wanted(tmp_path: Path) -> None:
    source = save(tmp_path / f"Doe_{NUMBER}_{BIRTH}", Scan().images(), name=f"{NUMBER} {{}} Doe".format)
    import_dicom(source, tmp_path / "out", phases="all")
    written = everything_written(tmp_path / "out")
    for secret in SECRETS:
        assert secret.encode() not in written, secret
    report = import_dicom(source, tmp_path / "kept", keep_identity=True)
    sidecar = only(report, tmp_path / "kept")[1]
    assert sidecar["identity"]["PatientName"] == NAME and sidecar["identity"]["PatientBirthDate"] == BIRTH
    assert report.imported[0].study.startswith("MRN-4711-X_")


@pytest.mark.slow
def test_pseudonyms_are_stable_and_a_secret_changes_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = save(tmp_path / "in", Scan().images())
    later = save(tmp_path / "later", replace(Scan(4), study="a year later").images())
    names = [import_dicom(source, tmp_path / f"out{n}").imported[0].study for n in range(2)]
    assert names[0] == names[1] and re.fullmatch(r"p[0-9a-f]{8}_[0-9a-f]{8}_4d", names[0])
    again = import_dicom(later, tmp_path / "out0").imported[0].study
    assert again != names[0] and again.split("_")[0] == names[0].split("_")[0]  # one patient, two examinations
    monkeypatch.setenv("PRATO_PSEUDONYM_KEY", "of this hospital")
    assert import_dicom(source, tmp_path / "secret").imported[0].study.split("_")[0] != names[0].split("_")[0]


def test_unicode_and_very_long_names(tmp_path: Path) -> None:
    scan = Scan(patient="患者/..\\" + "ü" * 50)
    source = save(tmp_path / ("Größe " + "x" * 180), scan.images(), name=("心臓 ü " + "y" * 200 + "{}").format)
    report = import_dicom(source, tmp_path / "out", keep_identity=True)
    check(scan, report, tmp_path / "out")
    assert report.imported[0].study.isascii() and len(report.imported[0].study) < 80
    assert {path.parent for path in (tmp_path / "out").rglob("*")} == {tmp_path / "out"}


def test_a_character_set_that_does_not_exist_is_no_matter(tmp_path: Path, recwarn: pytest.WarningsRecorder) -> None:
    source = save(tmp_path / "in", replace(SCAN, extra={"SpecificCharacterSet": "ISO_IR 100"}).images())
    for file in source.iterdir():
        file.write_bytes(file.read_bytes().replace(b"ISO_IR 100", b"ISO_XX 999"))
    recwarn.clear()
    assert import_dicom(source, tmp_path / "out", keep_identity=True).imported
    assert not [str(warning.message) for warning in recwarn if "encoding" in str(warning.message)]


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "out"


OTHER = replace(SCAN, number=7, origin=(40.0, -80.25, 90.0))


@pytest.mark.parametrize("way", ["script", "server"])
def test_a_cine_keeps_its_name_when_another_of_its_examination_arrives(tmp_path: Path, out: Path, way: str) -> None:
    imports = import_dicom if way == "script" else lambda source, out: import_into_studies(source, out, "none", LIMITS)[0]
    [one] = imports(save(tmp_path / "one", SCAN.images()), out).imported
    report = imports(save(tmp_path / "both", [*SCAN.images(), *OTHER.images()]), out)
    assert [cine.is_new for cine in report.imported] == [False, True]
    assert report.imported[0].study == one.study and report.imported[1].study.endswith("_s7_4d")
    report = imports(save(tmp_path / "other", OTHER.images()), out)
    assert [(cine.study.endswith("_s7_4d"), cine.is_new) for cine in report.imported] == [(True, False)]
    assert len([*out.glob("*_4d.nii.gz")]) == 2


def test_cines_of_one_series_keep_their_names_when_one_arrives_before_them(tmp_path: Path, out: Path) -> None:
    """Those of one series are told apart by their order in space."""
    parts = [replace(SCAN, origin=(x, -80.25, 90.0), rows=rows).images() for x, rows in ((-90.0, 14), (-10.0, 16), (70.0, 18))]
    for n, images in enumerate(parts):
        for image in images:
            image.SOPInstanceUID = image.file_meta.MediaStorageSOPInstanceUID = uid(f"{n} {image.SOPInstanceUID}")
    before = import_dicom(save(tmp_path / "two", [*parts[1], *parts[2]]), out).imported
    for is_new in (True, False):
        report = import_dicom(save(tmp_path / f"three_{is_new}", [*parts[0], *parts[1], *parts[2]]), out)
        assert not report.refused and [cine.is_new for cine in report.imported] == [is_new, False, False]
        assert [cine.study for cine in report.imported[1:]] == [cine.study for cine in before]
    assert len([*out.glob("*_4d.nii.gz")]) == 3


def test_a_cine_that_has_grown_is_refused_and_makes_no_second_study(tmp_path: Path, out: Path) -> None:
    import_dicom(save(tmp_path / "short", replace(SCAN, slices=4).images()), out)
    report = import_dicom(save(tmp_path / "long", [*SCAN.images(), *OTHER.images()]), out)
    assert len(report.imported) == 1 and "already exists with other content" in report.refused[0]
    assert len([*out.glob("*_4d.nii.gz")]) == 2


def renamed(images: list[FileDataset]) -> list[FileDataset]:
    for image in images:
        image.SOPInstanceUID = image.file_meta.MediaStorageSOPInstanceUID = uid("again", image.SOPInstanceUID)
    return images


@pytest.mark.parametrize("images", [lambda: [*SCAN.images(), *renamed(SCAN.images())], lambda: renamed(SCAN.images())])
@pytest.mark.parametrize("way", ["script", "server"])
def test_a_cine_that_came_again_under_other_uids_is_there_already(
    tmp_path: Path, out: Path, images: Callable[[], list[FileDataset]], way: str
) -> None:
    """It was refused, as if it were another one."""
    imports = import_dicom if way == "script" else lambda source, out: import_into_studies(source, out, "none", LIMITS)[0]
    [first] = imports(save(tmp_path / "once", SCAN.images()), out).imported
    before = everything_written(out)
    source = save(tmp_path / "again", images())
    for _ in range(2):
        report = imports(source, out)
        assert report.refused == [] and [(cine.study, cine.is_new) for cine in report.imported] == [(first.study, False)]
        assert everything_written(out) == before
    [note] = [note for note in report.imported[0].notes if "there already, from copies of these images with other UIDs" in note]
    for name in re.findall(r"\S+_4d\S+", note):  # as it says
        (out / name).unlink()
    [again] = imports(source, out).imported
    assert again.study == first.study and again.is_new and not any("there already" in note for note in again.notes)


@pytest.mark.parametrize("again", [(OTHER,), (SCAN,), (SCAN, OTHER)])
@pytest.mark.parametrize("first", [(SCAN, OTHER), (SCAN,), (OTHER,)], ids=["both", "one", "the other"])
@pytest.mark.parametrize("way", ["script", "server"])
def test_of_two_cines_each_keeps_its_name_under_other_uids(
    tmp_path: Path, out: Path, first: tuple[Scan, ...], again: tuple[Scan, ...], way: str
) -> None:
    """Alone, the second one was there twice, or took the name of the first and was refused."""
    imports = import_dicom if way == "script" else lambda source, out: import_into_studies(source, out, "none", LIMITS)[0]
    for n, scans in enumerate((first, (SCAN, OTHER))):
        imports(save(tmp_path / f"{n}", [image for scan in scans for image in scan.images()]), out)
    before = everything_written(out)
    report = imports(save(tmp_path / "again", [image for scan in again for image in renamed(scan.images())]), out)
    assert report.refused == [] and [cine.is_new for cine in report.imported] == [False] * len(again)
    assert everything_written(out) == before


@pytest.mark.parametrize("way", ["script", "server"])
@pytest.mark.parametrize(
    ("changed", "what"),
    [
        (replace(SCAN, phases=7), " (5 slices of 8 phases, and now 5 of 7)"),
        (replace(SCAN, slices=4), " (5 slices of 8 phases, and now 4 of 8)"),
        (replace(SCAN, rr_ms=900.0), " (other values of phase_times_ms, trigger_times_ms, rr_interval_ms)"),
    ],
)
def test_a_cine_that_has_changed_is_refused_with_what_has(tmp_path: Path, out: Path, changed: Scan, what: str, way: str) -> None:
    import_dicom(save(tmp_path / "first", SCAN.images()), out)
    images = [changed.image(k, t) for k in range(changed.slices) for t in range(changed.phases)]
    source = save(tmp_path / "changed", images)
    if way == "script":
        [said] = import_dicom(source, out).refused
    else:
        with pytest.raises(DicomError) as error:
            import_into_studies(source, out, "none", LIMITS)
        said = str(error.value)
    assert f" already exists with other content{what}: " in said


def test_whoever_wants_other_names_gets_them(tmp_path: Path, out: Path) -> None:
    source = save(tmp_path / "in", SCAN.images())
    [[hidden], [named]] = (import_dicom(source, out, keep_identity=identity).imported for identity in (False, True))
    assert hidden.study != named.study and NUMBER in named.study and named.is_new


def test_examinations_whose_images_have_the_same_uids_keep_their_own_names(tmp_path: Path, out: Path) -> None:
    """As some programs that make images anonymous leave them."""
    first, second = SCAN.images(), replace(OTHER, study="another").images()
    for one, other in zip(first, second):
        other.SOPInstanceUID = other.file_meta.MediaStorageSOPInstanceUID = one.SOPInstanceUID
    sources = [save(tmp_path / name, images) for name, images in (("one", first), ("other", second))]
    for is_new in (True, False):
        reports = [import_dicom(source, out) for source in sources]
        assert [[cine.is_new for cine in report.imported] for report in reports] == [[is_new], [is_new]]
    assert len([*out.glob("*_4d.nii.gz")]) == 2


@pytest.mark.parametrize("way", ["script", "server"])
def test_an_examination_that_came_with_and_without_the_issuer_of_its_number_is_told(tmp_path: Path, out: Path, way: str) -> None:
    """As from the scanner and from the PACS: training would have its heart on both sides of a split."""
    plain, issued = SCAN.images(), SCAN.images()
    for image in issued:
        image.IssuerOfPatientID = "HOSPITAL"
    sources = [save(tmp_path / name, images) for name, images in (("plain", plain), ("issued", issued))]
    imports = import_dicom if way == "script" else lambda source, out: import_into_studies(source, out, "none", LIMITS)[0]
    reports = [imports(source, out) for source in sources]
    names = [report.imported[0].study.removesuffix("_4d") for report in reports]
    assert reports[0].warnings == []
    assert reports[1].warnings == [
        f"{names[1]} holds the same images as {names[0]}, of another patient: remove one of them, or training counts one heart as two."
    ]
    assert imports(sources[1], out).warnings == []  # it was told


def test_what_is_left_out_alike_of_many_examinations_is_one_line(tmp_path: Path) -> None:
    images = replace(SCAN, description="scan").images()
    for n, ds in enumerate(images):  # as some anonymisation programs leave them
        ds.StudyInstanceUID = uid("study", n)
    report = import_dicom(save(tmp_path / "src", images), tmp_path / "dst")
    assert report.left_out == [f"series 1 (scan) in {len(images)} examinations, {len(images)} files: one phase"]


@pytest.mark.parametrize("is_named", [lambda n: n % 2, lambda n: n < 40], ids=["some images", "one of two series"])
def test_an_examination_of_which_some_images_name_the_issuer_is_of_one_patient(tmp_path: Path, is_named: Callable[[int], bool]) -> None:
    """A series was refused as of several patients, and two series were those of two."""
    images = [*SCAN.images(), *OTHER.images()]
    for n, image in enumerate(images):
        image.IssuerOfPatientID = "HOSPITAL" if is_named(n) else ""
    report = import_dicom(save(tmp_path / "in", images), tmp_path / "out")
    assert report.refused == [] and len(report.imported) == 2
    [patient] = {cine.study.split("_")[0] for cine in report.imported}
    assert patient == f"p{pseudonym(NUMBER, 'HOSPITAL')}"
    assert report.warnings[0].startswith(f"{patient}: some images name who issued the patient's number, and others")


def test_an_examination_with_two_issuers_of_one_number_is_refused(tmp_path: Path) -> None:
    images = SCAN.images()
    for image, issuer in zip(images, ["HOSPITAL", "CLINIC", *[""] * 38]):
        image.IssuerOfPatientID = issuer
    report = import_dicom(save(tmp_path / "in", images), tmp_path / "out")
    assert report.imported == [] and "its images disagree about the patient" in report.refused[0]
