"""nnU-Net's data sets: out and in again bit for bit, read by the names of dataset.json, and refused whole where something is wrong."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import SimpleITK
from hypothesis import given, settings
from hypothesis import strategies as st

from prato.data.image_files import write_exact
from prato.data.labels.names import LABEL_INFO
from prato.data.nifti import read_volume
from prato.data.studies.folder import load_manifest
from prato.data.studies.splits import Split, save_split
from prato.exchange import importing
from prato.labelling.versions import LabelVersions
from scripts import export_nnunet, import_nnunet
from tests.app.live import oblique
from tests.prato.exchange.folders import LV, MYO, RV, heart, make_studies, picture, same_studies, tree
from tests.scripts.cli import run_script as run

AFFINE = oblique((1.5, 1.4, 8.0))


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    """Four cases of two patients as somebody else made them: other names, another order, NRRD."""
    folder = tmp_path / "Dataset501_Other"
    for name in ("imagesTr", "labelsTr", "imagesTs"):
        (folder / name).mkdir(parents=True)
    theirs = np.array([0, 3, 1, 2], np.uint8)  # our value -> theirs
    for n, case in enumerate(("a_ED", "a_ES", "b_ED", "b_ES")):
        write_exact(folder / "imagesTr" / f"{case}_0000.nrrd", picture(n), AFFINE)
        write_exact(folder / "labelsTr" / f"{case}.nrrd", theirs[heart()], AFFINE)
    write_exact(folder / "imagesTs" / "c_ED_0000.nrrd", picture(9), AFFINE)
    about = {
        "channel_names": {"0": "cine"},
        "labels": {"background": 0, "MYO": 1, "LV": 2, "RV": 3},
        "numTraining": 4,
        "file_ending": ".nrrd",
    }
    (folder / "dataset.json").write_text(json.dumps(about))
    return folder


def test_what_nnunet_finds(tmp_path: Path) -> None:
    images = make_studies(tmp_path / "studies")
    target = tmp_path / "Dataset027_Heart"
    done = run(export_nnunet.main, tmp_path / "studies", target)
    assert done.exit_code == 0, done.output
    about = json.loads((target / "dataset.json").read_text())
    assert list(about["labels"].items()) == [("background", 0), ("RV cavity", 1), ("myocardium", 2), ("LV cavity", 3)]
    assert about["channel_names"] == {"0": "cine MRI"} and about["file_ending"] == ".nii.gz" and about["numTraining"] == 6
    assert {path.name for path in (target / "imagesTr").iterdir()} == {f"{study}_0000.nii.gz" for study in images}
    assert {path.name for path in (target / "labelsTr").iterdir()} == {f"{study}.nii.gz" for study in images}
    assert {path.name for path in target.iterdir()} == {"dataset.json", "imagesTr", "labelsTr", "manifest.json", "splits_final.json"}
    for study, array in images.items():  # as nnU-Net's own reader has it
        image, label = (
            SimpleITK.ReadImage(target / "imagesTr" / f"{study}_0000.nii.gz"),
            SimpleITK.ReadImage(target / "labelsTr" / f"{study}.nii.gz"),
        )
        assert np.array_equal(SimpleITK.GetArrayFromImage(image).transpose(2, 1, 0), array)
        assert image.GetSpacing() == pytest.approx((1.5, 1.4, 8.0))
        for what in ("GetSpacing", "GetOrigin", "GetDirection"):
            assert np.allclose(getattr(image, what)(), getattr(label, what)())


@pytest.mark.slow
def test_folds_are_by_patient(tmp_path: Path) -> None:
    images = make_studies(tmp_path / "studies", patients=7)
    run(export_nnunet.main, tmp_path / "studies", tmp_path / "Dataset001_X")
    folds = json.loads((tmp_path / "Dataset001_X" / "splits_final.json").read_text())
    assert len(folds) == 5 and sorted(case for fold in folds for case in fold["val"]) == sorted(images)
    for fold in folds:
        sides = [{case.rsplit("_", 1)[0] for case in fold[side]} for side in ("train", "val")]
        assert not sides[0] & sides[1] and len(fold["train"]) + len(fold["val"]) == len(images)
    save_split(tmp_path / "split.json", Split(seed=0, train=["case 0", "case 1"], validation=["case 5"]))
    done = run(export_nnunet.main, tmp_path / "studies", tmp_path / "Dataset002_X", "--split", tmp_path / "split.json")
    assert f"patients are on neither side of {tmp_path / 'split.json'}: case 2, case 3, case 4" in done.output
    [fold] = json.loads((tmp_path / "Dataset002_X" / "splits_final.json").read_text())
    assert fold["val"] == ["case 5_frame01", "case 5_frame02"] and len(fold["train"]) == 4


@pytest.mark.slow
@settings(max_examples=25, deadline=None)
@given(
    st.sampled_from([np.uint8, np.int16, np.uint16, np.int32, np.float32, np.float64]),
    st.tuples(*[st.floats(0.5, 12)] * 3),
    st.integers(0, 2**31),
)
def test_out_and_in_again_is_the_same(tmp_path_factory: pytest.TempPathFactory, dtype: type, spacing: tuple[float, ...], seed: int) -> None:
    folder = tmp_path_factory.mktemp("trip")
    axes, _ = np.linalg.qr(np.random.default_rng(seed).standard_normal((3, 3)))
    affine = np.eye(4)
    affine[:3, :3], affine[:3, 3] = axes * spacing, np.random.default_rng(seed).uniform(-200, 200, 3)
    make_studies(folder / "studies", 1, dtype, affine)
    assert run(export_nnunet.main, folder / "studies", folder / "Dataset001_X").exit_code == 0
    done = run(import_nnunet.main, folder / "Dataset001_X", folder / "again")
    assert done.exit_code == 0, done.output
    same_studies(folder / "studies", folder / "again")
    before, after = load_manifest(folder / "studies"), load_manifest(folder / "again")
    assert before is not None and after is not None and before.studies == after.studies


def test_labels_are_read_by_their_names(dataset: Path, tmp_path: Path) -> None:
    done = run(import_nnunet.main, dataset, tmp_path / "studies", "--annotator", "Ada")
    assert done.exit_code == 0, done.output
    assert "5 studies of 3 patients" in done.stdout and "4 of them with a label" in done.stdout
    for n, study in enumerate(("a_ED", "a_ES", "b_ED", "b_ES")):
        [version] = LabelVersions(tmp_path / "studies", study).all()
        assert np.array_equal(LabelVersions(tmp_path / "studies", study).read_volume(1).array, heart())
        assert version.annotator == "Ada" and version.params["label_info"] == LABEL_INFO
        assert version.params["imported_from"] == f"labelsTr/{study}.nrrd"
        assert np.array_equal(read_volume(tmp_path / "studies" / f"{study}.nii.gz").array, picture(n))
    assert not LabelVersions(tmp_path / "studies", "c_ED").all()
    before = tree(tmp_path / "studies")
    again = run(import_nnunet.main, dataset, tmp_path / "studies")
    assert again.exit_code == 0 and "0 new files" in again.stdout and tree(tmp_path / "studies") == before


def test_a_label_that_was_corrected_since_stays(dataset: Path, tmp_path: Path) -> None:
    run(import_nnunet.main, dataset, tmp_path / "studies")
    versions = LabelVersions(tmp_path / "studies", "a_ED")
    versions.save(read_volume(tmp_path / "studies" / "a_ED.nii.gz").with_array(heart(shift=2)), {"annotator": "Bob"})
    done = run(import_nnunet.main, dataset, tmp_path / "studies")
    assert done.exit_code == 0 and "1 label in" in done.stderr and "was left as it is: a_ED" in done.stderr
    assert len(versions.all()) == 2


def rewrite(**values: object) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        about = json.loads((folder / "dataset.json").read_text())
        (folder / "dataset.json").write_text(json.dumps({**about, **values}))

    return change


def cut(path: str) -> Callable[[Path], None]:
    return lambda folder: (folder / path).write_bytes((folder / path).read_bytes()[:-40])


def put(path: str, array: np.ndarray, affine: np.ndarray = AFFINE) -> Callable[[Path], None]:
    return lambda folder: write_exact(folder / path, array, affine)


FAULTS: dict[str, tuple[Callable[[Path], None], str]] = {
    "no description": (lambda folder: (folder / "dataset.json").unlink(), "has no dataset.json: give the folder of one nnU-Net data set"),
    "no JSON": (lambda folder: (folder / "dataset.json").write_text("{") and None, "cannot be read as JSON"),
    "version 1": (rewrite(channel_names=None), "as nnU-Net v2 has them"),
    "two channels": (rewrite(channel_names={"0": "a", "1": "b"}), "names 2 channels"),
    "pictures": (rewrite(file_ending=".png"), "has the file_ending '.png'"),
    "a wrong count": (rewrite(numTraining=7), "counts 7 training cases, and imagesTr holds 4"),
    "a label is missing": (lambda folder: (folder / "labelsTr" / "b_ED.nrrd").unlink(), "labelsTr/b_ED.nrrd is missing."),
    "an image is cut short": (cut("imagesTr/b_ES_0000.nrrd"), "b_ES_0000.nrrd is not readable"),
    "a label is cut short": (cut("labelsTr/b_ES.nrrd"), "b_ES.nrrd is not readable"),
    "names of nothing": (rewrite(labels={"background": 0, "MYO": 1, "LV": 2, "liver": 3}), "names the segment 'liver'"),
    "regions": (rewrite(labels={"background": 0, "heart": [1, 2, 3], "LV": 2}), "holds the value 1, which has no name"),
    "swapped names": (rewrite(labels={"background": 0, "MYO": 1, "LV": 3, "RV": 2}), "cannot be what its names say: RV and LV cavity seem"),
    "another background": (
        rewrite(labels={"background": 1, "MYO": 0, "LV": 2, "RV": 3}),
        "gives 'background' the value 1: in nnU-Net's data sets 0 is the background",
    ),
    "a structure as background": (rewrite(labels={"MYO": 0, "LV": 2, "RV": 3}), "gives 'MYO' the value 0"),
    "no name": (put("imagesTr/_0000.nrrd", picture(1)), "imagesTr/_0000.nrrd has no case's name"),
    "another grid": (put("labelsTr/a_ES.nrrd", heart(), oblique((1.5, 1.4, 9.0))), "mm off its image"),
    "another channel": (put("imagesTr/a_ES_0001.nrrd", heart()), "does not end in _0000.nrrd"),
    "training and test": (put("imagesTs/a_ES_0000.nrrd", picture(1)), "is both in imagesTr and in imagesTs"),
}


@pytest.mark.parametrize("case", FAULTS)
def test_a_fault_is_named_and_nothing_is_written(case: str, dataset: Path, tmp_path: Path) -> None:
    change, words = FAULTS[case]
    change(dataset)
    before = tree(tmp_path)
    done = run(import_nnunet.main, dataset, tmp_path / "studies")
    assert done.exit_code == 2 and words in done.stderr, done.output
    assert tree(tmp_path) == before and not (tmp_path / "studies").exists()


def test_a_convention_says_what_dataset_json_does_not(dataset: Path, tmp_path: Path) -> None:
    rewrite(labels={"background": 0, "heart": [1, 2, 3]})(dataset)
    (tmp_path / "theirs.json").write_text(json.dumps({"1": "MYO", "2": "LV", "3": "RV"}))
    done = run(import_nnunet.main, dataset, tmp_path / "studies", "--convention", tmp_path / "theirs.json")
    assert done.exit_code == 0, done.output
    assert np.array_equal(LabelVersions(tmp_path / "studies", "a_ED").read_volume(1).array, heart())


def test_folders_that_cannot_be_written_to(dataset: Path, tmp_path: Path) -> None:
    before = tree(tmp_path)
    assert "is inside the folder that is imported" in run(import_nnunet.main, dataset, dataset / "studies").stderr
    assert tree(tmp_path) == before
    make_studies(tmp_path / "studies", 1)
    assert "holds test studies" in run(import_nnunet.main, dataset, tmp_path / "studies").stderr
    done = run(export_nnunet.main, tmp_path / "studies", dataset)
    assert done.exit_code == 2 and "is not empty" in done.stderr
    done = run(export_nnunet.main, tmp_path, tmp_path / "Dataset009_X")
    assert done.exit_code == 2 and "has no final labels" in done.stderr and not (tmp_path / "Dataset009_X").exists()
    (tmp_path / "other").mkdir()
    write_exact(tmp_path / "other" / "b_ED.nii.gz", picture(77), AFFINE)
    done = run(import_nnunet.main, dataset, tmp_path / "other")
    assert done.exit_code == 2 and "b_ED.nii.gz already exists and is another image" in done.stderr
    assert [path.name for path in (tmp_path / "other").iterdir()] == ["b_ED.nii.gz"]


def test_labels_that_training_would_leave_out_are_named(tmp_path: Path) -> None:
    make_studies(tmp_path / "studies", 2)
    swapped = np.array([0, LV, MYO, RV], np.uint8)[heart()]
    write_exact(tmp_path / "studies" / "labels" / "final" / "case 1_frame02.nii.gz", swapped, AFFINE)
    done = run(export_nnunet.main, tmp_path / "studies", tmp_path / "Dataset001_X")
    assert done.exit_code == 1 and "3 final labels are in" in done.stdout
    assert "case 1_frame02 is left out" in done.stderr and "RV and LV cavity seem to be swapped" in done.stderr
    assert len(list((tmp_path / "Dataset001_X" / "labelsTr").iterdir())) == 3


def test_a_full_disk_leaves_nothing(dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real, left = importing.write_bytes, [3]

    def write(path: Path, data: bytes) -> None:
        left[0] -= 1
        if left[0] < 0:
            raise OSError(28, "No space left on device")
        real(path, data)

    monkeypatch.setattr(importing, "write_bytes", write)
    done = run(import_nnunet.main, dataset, tmp_path / "deep" / "studies")
    assert done.exit_code == 2 and "No space left on device" in done.stderr
    assert not (tmp_path / "deep").exists()
