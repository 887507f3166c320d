"""Single NIfTI, NRRD and MetaImage files with masks beside them become studies, or are named in one line."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import SimpleITK

from prato.data.image_files import read_mask, write_exact
from prato.data.labels.names import CONVENTIONS
from prato.data.studies.folder import Manifest, Study, load_manifest, save_manifest
from prato.exchange.cases import Reader
from prato.exchange.importing import import_cases
from prato.exchange.layouts import find_layout
from scripts import labels
from tests.prato.exchange.folders import AFFINE, THEIRS, heart, import_folder, label_of, picture
from tests.scripts.cli import run_script as run


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """Images of three formats with masks of three formats."""
    folder = tmp_path / "files"
    folder.mkdir()
    for n, name in enumerate(("a.nrrd", "b.mha", "c.nii.gz", "d.nrrd")):
        write_exact(folder / name, picture(n), AFFINE)
    for name in ("a_gt.nrrd", "label_b.mha"):
        write_exact(folder / name, THEIRS[heart()], AFFINE)
    segmentation = SimpleITK.GetImageFromArray(np.array([0, 1, 3, 2], np.uint8)[heart()].transpose(2, 1, 0))
    segmentation.CopyInformation(SimpleITK.ReadImage(folder / "a.nrrd"))
    for n, segment in enumerate(("RV", "LV", "Myocardium")):
        segmentation.SetMetaData(f"Segment{n}_Name", segment)
        segmentation.SetMetaData(f"Segment{n}_LabelValue", str(n + 1))
    SimpleITK.WriteImage(segmentation, folder / "c.seg.nrrd", useCompression=True)
    return folder


def test_single_files(files: Path, tmp_path: Path) -> None:
    code, said = import_folder(files, tmp_path / "studies", "files", "--convention", "mnms")
    assert code == 0 and "4 studies of 4 patients" in said and "3 of them with a label" in said, said
    for study in "abc":
        assert np.array_equal(label_of(tmp_path / "studies", study), heart())


def test_masks_for_studies_that_are_there(files: Path, tmp_path: Path) -> None:
    masks = tmp_path / "masks"
    masks.mkdir()
    for name in ("a_gt.nrrd", "label_b.mha", "c.seg.nrrd"):
        (files / name).rename(masks / name)
    assert import_folder(files, tmp_path / "studies", "files")[0] == 0
    done = run(labels.app, "import", tmp_path / "studies", masks, "--convention", "mnms")
    assert done.exit_code == 0 and "3 labels are stored." in done.stdout, done.output
    assert all(np.array_equal(label_of(tmp_path / "studies", study), heart()) for study in "abc")


def test_what_another_import_lists_in_the_meantime_stays(files: Path, tmp_path: Path) -> None:
    def list_another(readers: Sequence[Reader], what: str) -> Sequence[Reader]:
        (tmp_path / "studies").mkdir(exist_ok=True)
        save_manifest(tmp_path / "studies", Manifest(source="files", studies={"other": Study(patient="another")}))
        return readers

    readers = find_layout("files").find(files, CONVENTIONS["mnms"], "ed,es")
    import_cases(readers, files, tmp_path / "studies", "files", {}, list_another)
    manifest = load_manifest(tmp_path / "studies")
    assert manifest is not None and set(manifest.studies) == {*"abcd", "other"}


def test_segments_are_read_by_their_names(files: Path) -> None:
    assert read_mask(files / "c.seg.nrrd")[1] == [{"name": n, "idx": v} for n, v in (("RV", 1), ("LV", 2), ("Myocardium", 3))]


def raw_nrrd(**fields: str) -> bytes:
    usual = {"type": "uint8", "dimension": "3", "sizes": "2 2 2", "encoding": "raw", "space": "left-posterior-superior"}
    lines = {**usual, "space directions": "(1,0,0) (0,1,0) (0,0,1)", **{name.replace("_", " "): value for name, value in fields.items()}}
    return "\n".join(["NRRD0004", *(f"{name}: {value}" for name, value in lines.items()), "\n"]).encode() + b"12345678"


@pytest.mark.parametrize(
    ("name", "raw", "words"),
    [
        ("x.nrrd", raw_nrrd(data_file="/etc/passwd"), "keeps its voxels in another file"),
        ("x.nrrd", raw_nrrd(dimension="4", sizes="2 2 2 1", space_directions="(1,0,0) (0,1,0) (0,0,1) none"), "x.nrrd"),
        ("x.nrrd", raw_nrrd(space_directions="(1,0,0) (0.5,1,0) (0,0,1)"), "sheared"),
        ("x.nrrd", raw_nrrd(sizes="2000 2000 400"), "x.nrrd holds more voxels"),
        ("x.nrrd", raw_nrrd()[:-3], "x.nrrd is not readable"),
        ("x.nrrd", b"", "x.nrrd is not readable"),
        (
            "x.mha",
            b"ObjectType = Image\nNDims = 3\nDimSize = 2 2 2\nElementType = MET_UCHAR\nElementDataFile = /etc/passwd\n",
            "another file",
        ),
        (  # 2**64 voxels, which are 0 in 64 bits
            "x.mha",
            b"ObjectType = Image\nNDims = 3\nDimSize = 4194304 4194304 1048576\nElementType = MET_UCHAR\nElementDataFile = LOCAL\n",
            "x.mha holds more voxels",
        ),
        (
            "x.mha",
            b"ObjectType = Image\nNDims = 3\nDimSize = 0 2 2\nElementType = MET_UCHAR\nElementDataFile = LOCAL\n",
            "x.mha holds no voxels (0x2x2)",
        ),
        ("x.mha", b"no image", "x.mha is not readable"),
        ("x_gt.nrrd", raw_nrrd(), "there is no image called"),
        ("a.nii", b"", "a.nii and a.nrrd would be the same study"),
    ],
)
def test_files_that_cannot_be_taken(files: Path, tmp_path: Path, name: str, raw: bytes, words: str) -> None:
    (files / name).write_bytes(raw)
    if name == "x_gt.nrrd":
        (files / "x.seg.nrrd").write_bytes(raw)
        words = "there is no image called x"
        (files / name).unlink()
    code, said = import_folder(files, tmp_path / "studies", "files", "--convention", "mnms")
    assert code == 2 and words in said and not (tmp_path / "studies").exists(), said


def test_names_with_line_ends_and_control_characters_are_named_in_one_line(files: Path, tmp_path: Path) -> None:
    for name in ("new\nline.nrrd", "esc\x1b[2J.nrrd", os.fsdecode(b"caf\xe9.nrrd")):
        shutil.copy(files / "a.nrrd", files / name)
    code, said = import_folder(files, tmp_path / "studies", "files", "--convention", "mnms")
    assert code == 2 and not (tmp_path / "studies").exists()
    for name in (r"new\nline.nrrd", r"esc\x1b[2J.nrrd", r"caf\udce9.nrrd"):
        assert sum(line.startswith(f"{name} would become the study") for line in said.splitlines()) == 1, said


def test_an_image_without_a_place_is_warned_of(files: Path, tmp_path: Path) -> None:
    (files / "x.nrrd").write_bytes(b"NRRD0004\ntype: uint8\ndimension: 3\nsizes: 2 2 2\nencoding: raw\n\n12345678")
    code, said = import_folder(files, tmp_path / "studies", "files", "--convention", "mnms")
    assert code == 0 and "Warning: x: its header gives no orientation" in said
