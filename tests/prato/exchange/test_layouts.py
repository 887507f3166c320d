"""Folders as M&Ms, M&Ms-2 and UK Biobank lay them out: in, and out and in again, bit for bit."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prato.data.cine import write_cine
from prato.data.image_files import read_exact, write_exact
from prato.data.studies.folder import load_manifest
from prato.exchange.files import Files
from prato.exchange.layouts import find_layout, layouts, register_layout
from scripts import convert, export_nnunet, import_nnunet
from tests.prato.exchange.folders import AFFINE, THEIRS, heart, import_folder, label_of, make_studies, picture, same_studies, tree
from tests.scripts.cli import run_script as run

COLUMNS = ["", "External code", "VendorName", "Vendor", "Centre", "ED", "ES", "Age", "Pathology", "Sex", "Height", "Weight"]


@pytest.fixture
def mnms(tmp_path: Path) -> Path:
    """Two labelled subjects and one without a label, six phases each, in the folders of the open data set."""
    folder = tmp_path / "OpenDataset"
    rows = []
    for n, (place, subject, phases) in enumerate(
        (("Training/Labeled", "A0S9V9", (0, 3)), ("Testing", "B1", (5, 2)), ("Training/Unlabeled", "C2", (0, 2)))
    ):
        (folder / place / subject).mkdir(parents=True)
        write_cine(folder / place / subject / f"{subject}_sa.nii.gz", picture(n, shape=(24, 22, 3, 6)), AFFINE, 150.0)
        mask = np.zeros((24, 22, 3, 6), np.uint8)
        for t in phases if "Un" not in place else ():
            mask[..., t] = THEIRS[heart()]
        if place != "Testing" or mask.any():
            write_cine(folder / place / subject / f"{subject}_sa_gt.nii.gz", mask, AFFINE)
        rows.append([n, subject, "Philips", "B", 2, *phases, 40, "HCM", "F", *((170, 70) if n == 0 else ("", "nan"))])
    with (folder / "211230_M&Ms_Dataset_information_diagnosis_opendataset.csv").open("w", newline="") as file:
        csv.writer(file).writerows([COLUMNS, *rows])
    return folder


@pytest.fixture
def ukbb(tmp_path: Path) -> Path:
    """Two subjects, one of them with labels, and what else lies beside them."""
    folder = tmp_path / "ukbb"
    for n, subject in enumerate(("1000011", "1000022")):
        (folder / subject).mkdir(parents=True)
        for t, phase in enumerate(("ED", "ES")):
            write_exact(folder / subject / f"sa_{phase}.nii.gz", picture(2 * n + t, np.float32), AFFINE)
            if n == 0:
                write_exact(folder / subject / f"label_sa_{phase}.nii.gz", THEIRS[heart()].astype(np.int16), AFFINE)
        write_cine(folder / subject / "sa.nii.gz", picture(5, shape=(24, 22, 3, 6)), AFFINE)
        write_exact(folder / subject / "la_4ch_ED.nii.gz", picture(6, shape=(24, 22, 1)), AFFINE)
    return folder


def test_mnms(mnms: Path, tmp_path: Path) -> None:
    before = tree(mnms)
    code, said = import_folder(mnms, tmp_path / "studies", "mnms", "--convention", "mnms")
    assert code == 0 and "6 studies of 3 patients" in said and "4 of them with a label" in said, said
    manifest = load_manifest(tmp_path / "studies")
    assert manifest is not None and manifest.source == "M&Ms"
    found = {id: (study.patient, study.frame, study.phase, study.group) for id, study in manifest.studies.items()}
    assert found["A0S9V9_frame01"] == ("A0S9V9", 1, "ED", "HCM") and found["A0S9V9_frame04"] == ("A0S9V9", 4, "ES", "HCM")
    bodies = {id: (study.height_cm, study.weight_kg) for id, study in manifest.studies.items()}
    assert bodies["A0S9V9_frame04"] == (170.0, 70.0) and bodies["B1_frame06"] == bodies["C2_frame01"] == (None, None)
    assert found["B1_frame06"] == ("B1", 6, "ED", "HCM") and found["B1_frame03"][2] == "ES" and "C2_frame03" in found
    image = read_exact(tmp_path / "studies" / "B1_frame06.nii.gz")
    assert np.array_equal(image.array, picture(1, shape=(24, 22, 3, 6))[..., 5]) and np.allclose(image.affine, AFFINE, atol=1e-5)
    assert np.array_equal(label_of(tmp_path / "studies", "B1_frame03"), heart())
    assert tree(mnms) == before


def test_all_phases_of_mnms_out_and_in_again(mnms: Path, tmp_path: Path) -> None:
    """Every phase with a label goes out; the 4D files that come back hold the very phases."""
    code, said = import_folder(mnms, tmp_path / "all", "mnms", "--convention", "mnms", "--phases", "all")
    assert code == 0 and "18 studies of 3 patients" in said and "4 of them with a label" in said
    done = run(convert.app, "export", tmp_path / "all", tmp_path / "out", "--layout", "mnms", "--convention", "mnms")
    assert done.exit_code == 0, done.output
    image, mask = (nib.load(tmp_path / "out" / "A0S9V9" / f"A0S9V9_sa{end}.nii.gz") for end in ("", "_gt"))
    assert np.array_equal(np.asarray(image.dataobj), picture(0, shape=(24, 22, 3, 6))[..., [0, 3]])
    assert np.array_equal(np.asarray(mask.dataobj), THEIRS[np.stack([heart()] * 2, axis=3)])
    code, said = import_folder(tmp_path / "out", tmp_path / "again", "mnms", "--convention", "mnms")
    assert code == 0, said
    for first, second in (("A0S9V9_frame04", "A0S9V9_frame02"), ("B1_frame06", "B1_frame02")):
        one, other = (read_exact(tmp_path / place / f"{study}.nii.gz") for place, study in (("all", first), ("again", second)))
        assert np.array_equal(one.array, other.array) and np.allclose(one.affine, other.affine)


def test_cines_of_mnms_out_and_in_again(mnms: Path, tmp_path: Path) -> None:
    """The 4D files come back as they were, also the phases that nobody has drawn in."""
    options = ("mnms", "--convention", "mnms", "--phases", "cine")
    code, said = import_folder(mnms, tmp_path / "studies", *options)
    assert code == 0 and "3 studies of 3 patients" in said and "2 of them with a label" in said, said
    done = run(convert.app, "export", tmp_path / "studies", tmp_path / "out", "--layout", "mnms", "--convention", "mnms")
    assert done.exit_code == 0 and "4 final labels" in done.stdout, done.output
    for subject, folder in (("A0S9V9", "Training/Labeled"), ("B1", "Testing")):
        for end in ("", "_gt"):
            name = f"{subject}_sa{end}.nii.gz"
            one, other = nib.load(mnms / folder / subject / name), nib.load(tmp_path / "out" / subject / name)
            assert np.array_equal(np.asarray(one.dataobj), np.asarray(other.dataobj)) and one.get_data_dtype() == other.get_data_dtype()
            assert np.allclose(one.affine, other.affine, atol=1e-5)
            assert end or one.header["pixdim"][4] == pytest.approx(other.header["pixdim"][4])
    assert import_folder(tmp_path / "out", tmp_path / "again", *options)[0] == 0
    one, other = (load_manifest(tmp_path / folder) for folder in ("studies", "again"))
    assert one is not None and other is not None
    for study in ("A0S9V9_4d", "B1_4d"):
        assert one.studies[study] == other.studies[study]
        assert (tmp_path / "studies" / f"{study}.nii.gz").read_bytes() == (tmp_path / "again" / f"{study}.nii.gz").read_bytes()
        assert np.array_equal(label_of(tmp_path / "studies", study), label_of(tmp_path / "again", study))


def test_a_cine_of_mnms_goes_out_although_there_is_a_single_image_of_its_subject(mnms: Path, tmp_path: Path) -> None:
    import_folder(mnms, tmp_path / "studies", "mnms", "--convention", "mnms", "--phases", "cine")
    for place, array in (("", picture(3)), ("labels/final", heart())):
        write_exact(tmp_path / "studies" / place / "B1_ES.nii.gz", array, AFFINE)
    done = run(convert.app, "export", tmp_path / "studies", tmp_path / "out", "--layout", "mnms", "--convention", "mnms")
    assert done.exit_code == 1 and "4 final labels" in done.stdout and "B1_ES is left out: Of 'B1', a cine and single" in done.output
    one, other = (nib.load(folder / "B1" / "B1_sa_gt.nii.gz") for folder in (mnms / "Testing", tmp_path / "out"))
    assert np.array_equal(np.asarray(one.dataobj), np.asarray(other.dataobj))


def test_phases_of_a_cine_that_somebody_marked_go_out_as_ed_and_es(mnms: Path, tmp_path: Path) -> None:
    import_folder(mnms, tmp_path / "studies", "mnms", "--convention", "mnms", "--phases", "cine")
    listed = {"objects": {"B1_4d": {"image": {"info": {"marked": {"ed": 2, "es": 5, "annotator": "Ada"}}}}}}
    (tmp_path / "studies" / "datastore_v2.json").write_text(json.dumps(listed))
    assert run(export_nnunet.main, tmp_path / "studies", tmp_path / "Dataset001_X").exit_code == 0
    manifest = load_manifest(tmp_path / "Dataset001_X")
    assert manifest is not None
    assert (manifest.studies["B1_frame03"].phase, manifest.studies["B1_frame06"].phase) == ("ED", "ES")
    assert manifest.studies["A0S9V9_frame01"].phase == "ED"  # as the manifest names it
    done = run(convert.app, "export", tmp_path / "studies", tmp_path / "out", "--layout", "mnms", "--convention", "mnms")
    assert done.exit_code == 0, done.output
    [table] = (tmp_path / "out").glob("*.csv")
    [row] = [row for row in csv.DictReader(table.read_text(encoding="utf-8").splitlines()) if row["External code"] == "B1"]
    assert (row["ED"], row["ES"]) == ("2", "5")


def test_phases_of_a_cine_are_cases_of_nnunet(mnms: Path, tmp_path: Path) -> None:
    import_folder(mnms, tmp_path / "studies", "mnms", "--convention", "mnms", "--phases", "cine")
    done = run(export_nnunet.main, tmp_path / "studies", tmp_path / "Dataset001_X")
    assert done.exit_code == 0, done.output
    names = {path.name for path in (tmp_path / "Dataset001_X" / "labelsTr").iterdir()}
    assert names == {f"{case}.nii.gz" for case in ("A0S9V9_frame01", "A0S9V9_frame04", "B1_frame03", "B1_frame06")}
    image = read_exact(tmp_path / "Dataset001_X" / "imagesTr" / "B1_frame06_0000.nii.gz")
    assert np.array_equal(image.array, picture(1, shape=(24, 22, 3, 6))[..., 5])
    manifest = load_manifest(tmp_path / "Dataset001_X")
    assert manifest is not None and manifest.studies["B1_frame06"].phase == "ED"
    done = run(import_nnunet.main, tmp_path / "Dataset001_X", tmp_path / "again")
    assert done.exit_code == 0 and np.array_equal(label_of(tmp_path / "again", "B1_frame03"), heart())


@pytest.mark.parametrize(("convention", "code"), [("ukbb", 0), ("mnms", 0), ("acdc", 2), ("ukbb4", 2)])
def test_ukbb(ukbb: Path, tmp_path: Path, convention: str, code: int) -> None:
    found, said = import_folder(ukbb, tmp_path / "studies", "ukbb", "--convention", convention)
    assert found == code
    if code:
        assert ("RV and LV cavity seem to be swapped" if convention == "acdc" else "holds the value 3, which has no name") in said and not (
            tmp_path / "studies"
        ).exists()
        return
    assert "4 studies of 2 patients" in said and "2 of them with a label" in said
    assert np.array_equal(label_of(tmp_path / "studies", "1000011_ES"), heart())
    manifest = load_manifest(tmp_path / "studies")
    assert manifest is not None and manifest.studies["1000022_ED"].phase == "ED"


def test_the_older_labels_of_ukbb(ukbb: Path, tmp_path: Path) -> None:
    for phase in ("ED", "ES"):
        write_exact(ukbb / "1000011" / f"label_sa_{phase}.nii.gz", np.array([0, 4, 2, 1], np.uint8)[heart()], AFFINE)
    code, said = import_folder(ukbb, tmp_path / "no", "ukbb", "--convention", "ukbb")
    assert code == 2 and "holds the value 4, which has no name" in said
    code, said = import_folder(ukbb, tmp_path / "studies", "ukbb", "--convention", "ukbb4")
    assert code == 0 and np.array_equal(label_of(tmp_path / "studies", "1000011_ED"), heart()), said


def test_the_folder_of_one_subject_from_within(ukbb: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    subject = sorted(path.parent for path in ukbb.rglob("label_sa_ED.nii.gz"))[0]
    monkeypatch.chdir(subject)
    code, said = import_folder(Path(), tmp_path / "studies", "ukbb", "--convention", "ukbb")
    assert code == 0, said
    assert (tmp_path / "studies" / f"{subject.name}_ED.nii.gz").is_file()


@pytest.mark.parametrize("value", [0, -1, 65536, 10**30])
def test_a_convention_whose_values_no_mask_holds(tmp_path: Path, value: int) -> None:
    make_studies(tmp_path / "studies", 1)
    (tmp_path / "ours.json").write_text(json.dumps({"LV": value, "myo": 2, "RV": 3}))
    done = run(convert.app, "export", tmp_path / "studies", tmp_path / "out", "--layout", "files", "--convention", tmp_path / "ours.json")
    assert done.exit_code == 2 and f"has the value {value}" in done.stderr, done.output
    assert not (tmp_path / "out").exists()


def test_no_convention_is_guessed(mnms: Path, ukbb: Path, tmp_path: Path) -> None:
    for source, layout in ((mnms, "mnms"), (ukbb, "ukbb")):
        code, said = import_folder(source, tmp_path / "studies", layout)
        assert code == 2 and "Nothing says what the values of" in said and not (tmp_path / "studies").exists()
    for path in ukbb.rglob("label_*"):
        path.unlink()
    assert import_folder(ukbb, tmp_path / "studies", "ukbb")[0] == 0


@pytest.mark.slow
@settings(max_examples=25, deadline=None)
@given(
    st.sampled_from(["mnms", "mnms2", "ukbb", "files", "nrrd", "mha"]),
    st.sampled_from([np.uint8, np.int16, np.uint16, np.int32, np.float32, np.float64]),
    st.permutations([5, 2, 200]),
    st.integers(0, 2**31),
)
def test_out_and_in_again_is_the_same(
    tmp_path_factory: pytest.TempPathFactory, layout: str, dtype: type, values: list[int], seed: int
) -> None:
    folder = tmp_path_factory.mktemp("trip")
    axes, _ = np.linalg.qr(np.random.default_rng(seed).standard_normal((3, 3)))
    affine = np.eye(4)
    affine[:3, :3], affine[:3, 3] = axes * (1.5, 1.4, 8.0), np.random.default_rng(seed).uniform(-200, 200, 3)
    images = make_studies(folder / "studies", 1, dtype, affine)
    (folder / "ours.json").write_text(json.dumps(dict(zip(("RV cavity", "myo", "LV"), values))))
    options = ("--layout", layout, "--convention", folder / "ours.json")
    done = run(convert.app, "export", folder / "studies", folder / "out", *options)
    assert done.exit_code == 0, done.output
    done = run(convert.app, "import", folder / "out", folder / "again", *options)
    assert done.exit_code == 0, done.output
    tails = ("_ED", "_ES") if layout in ("ukbb", "mnms2") else ("_frame01", "_frame02")
    same_studies(folder / "studies", folder / "again", {study: study[:-8] + tail for study, tail in zip(images, tails)})


def change_table(mnms: Path, old: str, new: str) -> None:
    [table] = mnms.glob("*.csv")
    table.write_text(table.read_text().replace(old, new))


def gt(mnms: Path, shape: tuple[int, ...] = (24, 22, 3, 6), drawn: int = 0) -> None:
    mask = np.zeros(shape, np.uint8)
    mask[..., drawn] = THEIRS[heart()]
    write_cine(mnms / "Testing" / "B1" / "B1_sa_gt.nii.gz", mask, AFFINE)


FAULTS: dict[str, tuple[Callable[[Path], object], str]] = {
    "no table": (lambda mnms: next(mnms.glob("*.csv")).unlink(), "has no table (.csv) with the columns External code, ED and ES"),
    "two tables": (lambda mnms: (mnms / "b.csv").write_text("External code,ED,ES\nB1,0,1\n"), "has 2 tables"),
    "no line": (lambda mnms: change_table(mnms, "B1", "B9"), "has no line for B1"),
    "no number": (lambda mnms: change_table(mnms, ",5,2,", ",,2,"), "gives B1 no phases"),
    "no such phase": (lambda mnms: change_table(mnms, ",5,2,", ",6,2,"), "says ED 6, ES 2 of B1, which has the phases 0 to 5"),
    "drawn elsewhere": (lambda mnms: gt(mnms, drawn=4), "is drawn in the phases [4]"),
    "another size": (lambda mnms: gt(mnms, (24, 22, 3, 5)), "has 5 phases and its image 6: copy both again"),
    "3D": (lambda mnms: write_exact(mnms / "Testing" / "B1" / "B1_sa.nii.gz", picture(1), AFFINE), "which has the phases 0 to 0"),
    "cut short": (
        lambda mnms: (mnms / "Testing" / "B1" / "B1_sa.nii.gz").write_bytes((mnms / "Testing" / "B1" / "B1_sa.nii.gz").read_bytes()[:3000]),
        "B1_sa.nii.gz is not readable NIfTI",
    ),
    "twice": (
        lambda mnms: (
            (mnms / "Testing" / "B1").rename(mnms / "A0S9V9").joinpath("B1_sa.nii.gz").rename(mnms / "A0S9V9" / "A0S9V9_sa.nii.gz")
        ),
        "exists twice",
    ),
}


@pytest.mark.parametrize("case", FAULTS)
def test_a_fault_is_named_and_nothing_is_written(case: str, mnms: Path, tmp_path: Path) -> None:
    change, words = FAULTS[case]
    change(mnms)
    before = tree(tmp_path)
    code, said = import_folder(mnms, tmp_path / "studies", "mnms", "--convention", "mnms")
    assert code == 2 and words in said, said
    assert tree(tmp_path) == before and not (tmp_path / "studies").exists()


def test_what_has_no_place_in_a_layout_is_named(tmp_path: Path) -> None:
    make_studies(tmp_path / "studies", 2)
    (tmp_path / "studies" / "manifest.json").unlink()
    for layout in ("mnms", "ukbb"):
        done = run(convert.app, "export", tmp_path / "studies", tmp_path / "out", "--layout", layout, "--convention", "mnms")
        assert done.exit_code == 2 and "ED" in done.stderr and not (tmp_path / "out").exists()
    done = run(convert.app, "export", tmp_path / "studies", tmp_path / "out", "--layout", "bids", "--convention", "mnms")
    assert done.exit_code == 2 and "'bids' is not a known layout: use " in done.stderr


def test_no_name_of_a_layout_is_given_twice() -> None:
    mnms = layouts()["mnms"]
    with pytest.raises(ValueError, match="Two layouts are registered as 'mnms'"):
        register_layout("mnms", Files(".nii"))
    assert find_layout("mnms") is mnms
