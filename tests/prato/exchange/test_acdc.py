"""The ACDC import: on a tiny folder in ACDC's official layout (with its wrong sform), and on real patients where they are at hand."""

from __future__ import annotations

import gzip
import shutil
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk

from prato.data.cine import read_cine
from prato.data.nifti import read_volume, write_volume
from prato.data.studies.folder import find_labelled_studies, load_manifest, save_manifest
from prato.exchange.acdc import import_acdc
from prato.exchange.acdc_folder import AcdcError, find_patients, read_info
from prato.labelling.trusted import find_trusted_phases
from prato.labelling.versions import LabelVersions
from tests.real_data import require_real_data

SHAPE, PIXDIM = (12, 10, 4), (1.5625, 1.40625, 10.0)
INFO = "ED: 1\nES: 3\nGroup: DCM\nHeight: 184.0\nNbFrame: 4\nWeight: 95.0\n"


def store(path: Path, array: np.ndarray, pixdim: tuple[float, ...] = PIXDIM) -> None:
    image = nib.Nifti1Image(array, np.diag([-1.0, -1.0, 1.0, 1.0]))
    image.set_sform(image.affine, code=2)
    image.set_qform(None, code=0)
    image.header.set_zooms((*pixdim, 1.0)[: array.ndim])
    nib.save(image, path)


def make_patient(root: Path, number: int, info: str = INFO) -> Path:
    rng = np.random.default_rng(number)
    name = f"patient{number:03d}"
    folder = root / name
    folder.mkdir(parents=True)
    (folder / "Info.cfg").write_text(info)
    cine = rng.integers(0, 900, (*SHAPE, 4)).astype(np.int16)
    store(folder / f"{name}_4d.nii.gz", cine)
    for frame in (1, 3):
        store(folder / f"{name}_frame{frame:02d}.nii.gz", cine[..., frame - 1].astype(np.float32))
        store(folder / f"{name}_frame{frame:02d}_gt.nii.gz", rng.integers(0, 4, SHAPE).astype(np.uint8))
    return folder


@pytest.fixture
def source(tmp_path: Path) -> Path:
    root = tmp_path / "ACDC"
    for number in (1, 2):
        make_patient(root, number)
    (root / "patient001" / "MANDATORY_CITATION.md").write_text("cite")
    (root / "patient001" / "._patient001_frame01.nii.gz").write_bytes(b"junk of macOS")
    (root / ".DS_Store").write_bytes(b"junk of macOS")
    (root / "__MACOSX" / "patient009").mkdir(parents=True)
    return root


def stored_array(path: Path) -> np.ndarray:
    return np.asarray(nib.Nifti1Image.from_filename(path).dataobj)


def files(folder: Path) -> dict[str, bytes]:
    found = [p for p in sorted(folder.rglob("*")) if p.is_file() and p.name != ".lock"] if folder.exists() else []
    return {str(p.relative_to(folder)): p.read_bytes() for p in found}


def check_voxel_sizes(target: Path, expected: Callable[[str], tuple[float, ...]]) -> int:
    paths = [*target.glob("*.nii.gz"), *(target / "labels" / "final").glob("*.nii.gz")]
    for path in paths:
        pixdim = expected(path.name.removesuffix(".nii.gz"))
        image = nib.Nifti1Image.from_filename(path)
        np.testing.assert_allclose(image.header.get_zooms()[:3], pixdim, rtol=1e-6, err_msg=path.name)
        np.testing.assert_allclose(np.linalg.norm(image.affine[:3, :3], axis=0), pixdim, rtol=1e-6, err_msg=path.name)
        np.testing.assert_allclose(sitk.ReadImage(str(path)).GetSpacing()[:3], pixdim, rtol=1e-6, err_msg=path.name)
    return len(paths)


def test_two_frames_a_patient(source: Path, tmp_path: Path) -> None:
    target = tmp_path / "studies"
    summary = import_acdc(source, target, "ed,es")
    assert (summary.patients, summary.studies, summary.written, summary.unchanged) == (2, 4, 8, 0)
    ids = [f"patient00{n}_frame0{f}" for n in (1, 2) for f in (1, 3)]
    assert sorted(files(target)) == sorted(["manifest.json", *(f"{p}{i}.nii.gz" for i in ids for p in ("", "labels/final/"))])
    assert check_voxel_sizes(target, lambda _: PIXDIM) == 8
    for name in ids:
        folder = source / name.split("_")[0]
        image, label = read_volume(target / f"{name}.nii.gz"), read_volume(target / "labels" / "final" / f"{name}.nii.gz")
        assert np.array_equal(image.array, stored_array(folder / f"{name}.nii.gz"))
        assert np.array_equal(label.array, stored_array(folder / f"{name}_gt.nii.gz")) and label.array.dtype == np.uint8
        np.testing.assert_array_equal(image.affine, label.affine)
    manifest = load_manifest(target)
    assert manifest is not None and manifest.source == "ACDC"
    study = manifest.studies["patient001_frame03"]
    assert (study.patient, study.frame, study.phase, study.group, study.height_cm, study.weight_kg) == (
        "patient001", 3, "ES", "DCM", 184.0, 95.0,
    )  # fmt: skip


def test_all_frames(source: Path, tmp_path: Path) -> None:
    target = tmp_path / "studies"
    assert import_acdc(source, target, "all").studies == 8
    assert len(list((target / "labels" / "final").iterdir())) == 4
    assert check_voxel_sizes(target, lambda _: PIXDIM) == 12
    cine = stored_array(source / "patient002" / "patient002_4d.nii.gz")
    for frame in (1, 2, 3, 4):
        read = read_volume(target / f"patient002_frame{frame:02d}.nii.gz").array
        assert np.array_equal(read, cine[..., frame - 1])
        assert read.dtype == (np.float32 if frame in (1, 3) else np.int16), "ED and ES must come from their own files"
    manifest = load_manifest(target)
    assert manifest is not None
    assert [manifest.studies[f"patient001_frame0{f}"].phase for f in (1, 2, 3, 4)] == ["ED", None, "ES", None]


def test_again_changes_nothing_and_elsewhere_gives_the_same_bytes(source: Path, tmp_path: Path) -> None:
    import_acdc(source, tmp_path / "a", "all")
    before = files(tmp_path / "a")
    times = {p: p.stat().st_mtime_ns for p in (tmp_path / "a").rglob("*") if p.is_file()}
    again = import_acdc(source, tmp_path / "a", "all")
    assert (again.written, again.unchanged) == (0, 12)
    assert files(tmp_path / "a") == before and {p: p.stat().st_mtime_ns for p in times} == times
    import_acdc(source, tmp_path / "b", "all")
    assert files(tmp_path / "b") == before


def test_a_corrected_label_is_kept_and_a_damaged_image_is_written_again(source: Path, tmp_path: Path) -> None:
    target = tmp_path / "studies"
    import_acdc(source, target, "ed,es")
    before = files(target)
    label = target / "labels" / "final" / "patient001_frame01.nii.gz"
    write_volume(label, np.zeros(SHAPE, np.uint8), read_volume(label).affine)
    corrected = label.read_bytes()
    image = target / "patient002_frame01.nii.gz"
    image.write_bytes(before[image.name][:200])
    summary = import_acdc(source, target, "ed,es")
    assert summary.kept_labels == ["labels/final/patient001_frame01.nii.gz"] and summary.written == 1
    assert label.read_bytes() == corrected and image.read_bytes() == before[image.name]


def test_studies_are_added_to_those_already_there(source: Path, tmp_path: Path) -> None:
    target = tmp_path / "studies"
    import_acdc(source / "patient001", target, "ed,es")
    write_volume(target / "mine.nii.gz", np.ones((3, 3, 3), np.uint8), np.eye(4))
    import_acdc(source / "patient002", target, "ed,es")
    manifest = load_manifest(target)
    assert manifest is not None and len(manifest.studies) == 4 and (target / "mine.nii.gz").exists()


def test_what_others_did_to_labels_since_stays(source: Path, tmp_path: Path) -> None:
    import_acdc(source, target := tmp_path / "studies", "ed,es")
    labels = target / "labels" / "final"
    LabelVersions(target, "patient001_frame01").remove("Ada")
    raw = gzip.decompress((labels / "patient002_frame01.nii.gz").read_bytes())
    (labels / "patient002_frame01.nii.gz").unlink()
    (labels / "patient002_frame01.nii").write_bytes(raw[:-1] + bytes([raw[-1] ^ 1]))  # corrected, and saved uncompressed
    before = files(target)
    summary = import_acdc(source, target, "ed,es")
    assert summary.kept_labels == ["labels/final/patient001_frame01.nii.gz", "labels/final/patient002_frame01.nii"]
    assert files(target) == before


def test_what_somebody_enters_in_the_meantime_stays(source: Path, tmp_path: Path) -> None:
    import_acdc(source, target := tmp_path / "studies", "ed,es")

    def enter(items: list[Path], what: str) -> list[Path]:
        manifest = load_manifest(target)
        assert manifest is not None
        manifest.studies["patient001_frame01"].group = "entered"
        save_manifest(target, manifest)
        return items

    import_acdc(source, target, "ed,es", enter)
    manifest = load_manifest(target)
    assert manifest is not None and manifest.studies["patient001_frame01"].group == "entered"


@pytest.mark.parametrize("places", [("training", "testing"), ("database/training", "database/testing")])
def test_training_and_testing_below_the_official_folder(tmp_path: Path, places: tuple[str, str]) -> None:
    for number, place in enumerate(places, 1):
        make_patient(tmp_path / "ACDC" / place, number)
    assert [p.name for p in find_patients(tmp_path / "ACDC")] == ["patient001", "patient002"]
    assert import_acdc(tmp_path / "ACDC", tmp_path / "studies", "ed,es").studies == 4


def test_info_cfg(tmp_path: Path) -> None:
    info = read_info(make_patient(tmp_path, 7, "ED:1\r\nES:  3\r\nNbFrame: 4\r\nHeight: 0\r\n\r\n"))
    assert (info.ed, info.es, info.frames, info.group, info.height_cm, info.weight_kg) == (1, 3, 4, None, None, None)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-40])


P2 = "patient002"
FAULTS: dict[str, tuple[Callable[[Path], object], str]] = {
    "no Info.cfg": (lambda p: (p / "Info.cfg").unlink(), "patient002/Info.cfg is missing"),
    "garbled Info.cfg": (lambda p: (p / "Info.cfg").write_text("ED: 1\nES: 3\nGro"), "patient002/Info.cfg has the line 'Gro'"),
    "binary Info.cfg": (lambda p: (p / "Info.cfg").write_bytes(b"\xff\xfe\0\x80"), "patient002/Info.cfg cannot be read"),
    "Info.cfg without ES": (lambda p: (p / "Info.cfg").write_text("ED: 1\nNbFrame: 4\n"), "patient002/Info.cfg has no line for ES"),
    "ED in words": (lambda p: (p / "Info.cfg").write_text("ED: one\nES: 3\nNbFrame: 4\n"), "not a number"),
    "ES after the last frame": (lambda p: (p / "Info.cfg").write_text("ED: 1\nES: 9\nNbFrame: 4\n"), "two different frames"),
    "no ED image": (lambda p: (p / f"{P2}_frame01.nii.gz").unlink(), "patient002_frame01.nii.gz does not exist"),
    "no ES label": (lambda p: (p / f"{P2}_frame03_gt.nii.gz").unlink(), "patient002_frame03_gt.nii.gz does not exist"),
    "image cut short": (lambda p: cut(p / f"{P2}_frame01.nii.gz"), "patient002_frame01.nii.gz is not readable"),
    "label cut short": (lambda p: cut(p / f"{P2}_frame01_gt.nii.gz"), "patient002_frame01_gt.nii.gz is not readable"),
    "label of another shape": (
        lambda p: store(p / f"{P2}_frame01_gt.nii.gz", np.zeros((12, 10, 3), np.uint8)),
        "patient002_frame01_gt.nii.gz has 12x10x3 voxels",
    ),
    "label of another voxel size": (
        lambda p: store(p / f"{P2}_frame01_gt.nii.gz", np.zeros(SHAPE, np.uint8), (2.0, 2.0, 8.0)),
        "patient002_frame01_gt.nii.gz has voxels of",
    ),
    "unknown label value": (lambda p: store(p / f"{P2}_frame01_gt.nii.gz", np.full(SHAPE, 4, np.uint8)), "label value 4"),
    "fractions in a label": (lambda p: store(p / f"{P2}_frame01_gt.nii.gz", np.full(SHAPE, 0.5, np.float32)), "label value 0.5"),
    "4D where 3D belongs": (lambda p: shutil.copy(p / f"{P2}_4d.nii.gz", p / f"{P2}_frame01.nii.gz"), "patient002_frame01.nii.gz is 4D"),
    "NaN": (lambda p: store(p / f"{P2}_frame01.nii.gz", np.full(SHAPE, np.nan, np.float32)), "NaN"),
    "no cine": (lambda p: (p / f"{P2}_4d.nii.gz").unlink(), "patient002_4d.nii.gz does not exist"),
    "cine cut short": (lambda p: cut(p / f"{P2}_4d.nii.gz"), "patient002_4d.nii.gz is not readable"),
    "cine too short": (lambda p: store(p / f"{P2}_4d.nii.gz", np.zeros((*SHAPE, 2), np.int16)), "patient002_4d.nii.gz has 2 frames"),
    "cine of another size": (
        lambda p: store(p / f"{P2}_4d.nii.gz", np.zeros((9, 9, 4, 4), np.int16)),
        "patient002 has frames of different",
    ),
}


@pytest.mark.parametrize("existing", [False, True], ids=["new folder", "folder with studies"])
@pytest.mark.parametrize("fault", FAULTS)
def test_half_copied_or_unreadable_input_is_named_and_nothing_is_written(source: Path, tmp_path: Path, fault: str, existing: bool) -> None:
    target = tmp_path / "studies"
    if existing:
        import_acdc(source / "patient001", target, "ed,es")
    before = files(target)
    spoil, says = FAULTS[fault]
    spoil(source / P2)
    with pytest.raises(AcdcError) as refused:
        import_acdc(source, target, "all")
    assert len(refused.value.faults) == 1 and says in refused.value.faults[0] and "\n" not in refused.value.faults[0]
    assert files(target) == before and target.exists() == existing


def test_a_cine_is_one_study_with_the_two_labelled_phases(source: Path, tmp_path: Path) -> None:
    (source / P2 / f"{P2}_4d.nii.gz").unlink()
    summary = import_acdc(source, tmp_path / "studies", "cine")
    assert (summary.studies, summary.written) == (3, 6)  # the second patient has no cine: two frames
    cine = read_cine(tmp_path / "studies" / "patient001_4d.nii.gz")
    assert len(cine) == 4
    assert cine.phase(0).spacing == pytest.approx(PIXDIM)
    label = stored_array(tmp_path / "studies" / "labels" / "final" / "patient001_4d.nii.gz")
    for frame in (1, 2, 3, 4):
        own = source / "patient001" / f"patient001_frame{frame:02d}_gt.nii.gz"
        assert np.array_equal(label[..., frame - 1], stored_array(own) if own.exists() else np.zeros(SHAPE))
    manifest = load_manifest(tmp_path / "studies")
    assert manifest is not None
    study = manifest.studies["patient001_4d"]
    assert (study.patient, study.ed, study.es, study.frame, study.phase) == ("patient001", 0, 2, None, None)
    trusted, _ = find_trusted_phases(find_labelled_studies(tmp_path / "studies"))
    assert [file.name for file in trusted] == ["patient001_4d phase 0", "patient001_4d phase 2", f"{P2}_frame01", f"{P2}_frame03"]
    before = files(tmp_path / "studies")
    again = import_acdc(source, tmp_path / "studies", "cine")
    assert (again.written, again.unchanged) == (0, 6)
    assert files(tmp_path / "studies") == before


@pytest.mark.parametrize("fault", ["no ES label", "unknown label value", "cine cut short", "cine too short", "cine of another size"])
def test_a_cine_that_cannot_be_used_is_named_and_nothing_is_written(source: Path, tmp_path: Path, fault: str) -> None:
    spoil, says = FAULTS[fault]
    spoil(source / P2)
    with pytest.raises(AcdcError, match="voxels and its image 9x9x4" if fault == "cine of another size" else says):
        import_acdc(source, tmp_path / "studies", "cine")
    assert not (tmp_path / "studies").exists()


def test_every_fault_is_named_at_once(source: Path, tmp_path: Path) -> None:
    (source / "patient001" / "Info.cfg").unlink()
    (source / "patient002" / "patient002_frame01.nii.gz").unlink()
    cut(source / "patient002" / "patient002_frame03_gt.nii.gz")
    with pytest.raises(AcdcError) as refused:
        import_acdc(source, tmp_path / "studies", "ed,es")
    assert len(refused.value.faults) == 3


def test_folders_that_cannot_be_meant(source: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_text("")
    shutil.copytree(source / "patient001", source / "training" / "patient001")
    phantom = tmp_path / "phantom"
    phantom.mkdir()
    (phantom / "manifest.json").write_text('{"version": 1, "source": "phantom", "studies": {}}')
    one = source / "patient002"
    for src, dst, says in (
        (tmp_path / "none", tmp_path / "studies", "is not a folder"),
        (tmp_path / "empty", tmp_path / "studies", "holds no patientNNN folder"),
        (source, tmp_path / "studies", "patient001 exists twice"),
        (one, tmp_path / "file", "is a file"),
        (one, one / "studies", "is inside the ACDC folder"),
        (one, phantom, "holds phantom studies"),
    ):
        with pytest.raises(AcdcError, match=says):
            import_acdc(src, dst, "ed,es")


def test_another_image_of_the_same_name_is_not_overwritten(source: Path, tmp_path: Path) -> None:
    target = tmp_path / "studies"
    target.mkdir()
    write_volume(target / "patient001_frame01.nii.gz", np.ones((3, 3, 3), np.uint8), np.eye(4))
    before = files(target)
    with pytest.raises(AcdcError, match="is another image"):
        import_acdc(source, target, "ed,es")
    assert files(target) == before


@pytest.mark.slow
def test_real_patients(tmp_path: Path) -> None:
    acdc = require_real_data("acdc")
    target = tmp_path / "studies"
    assert import_acdc(acdc / "patient001", target, "ed,es").studies == 2
    assert import_acdc(acdc / "patient090", target, "all").studies == 12
    assert import_acdc(acdc / "patient090", target, "cine").studies == 1
    cine = read_cine(target / "patient090_4d.nii.gz")
    assert (len(cine), cine.phase(0).warnings) == (12, ())
    assert np.array_equal(cine.phase(3).array, read_volume(target / "patient090_frame04.nii.gz").array)
    labels = stored_array(target / "labels" / "final" / "patient090_4d.nii.gz")
    assert [t for t in range(12) if labels[..., t].any()] == [3, 10]

    def official(name: str) -> tuple[float, ...]:
        folder = acdc / name.split("_", maxsplit=1)[0]
        own = folder / f"{name}.nii.gz"
        return nib.Nifti1Image.from_filename(own if own.exists() else folder / "patient090_4d.nii.gz").header.get_zooms()[:3]

    assert check_voxel_sizes(target, official) == 14 + 4 + 2
    manifest = load_manifest(target)
    assert manifest is not None and (manifest.studies["patient090_frame04"].phase, manifest.studies["patient090_frame11"].phase) == (
        "ED",
        "ES",
    )
