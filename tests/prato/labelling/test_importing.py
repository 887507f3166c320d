"""Masks of other data sets, brought in under the names of their studies."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest
import SimpleITK
from hypothesis import example, given
from hypothesis import strategies as st

from prato.data.labels.names import LABEL_INFO, LabelError
from prato.data.nifti import read_volume, write_volume
from prato.data.structures import STRUCTURES
from prato.labelling.mask_files import MaskOwner, match_masks
from prato.labelling.versions import LabelVersions
from scripts.labels import app
from tests.app.hearts import heart
from tests.app.live import write_study
from tests.scripts.cli import run_script as run

RV, MYO, LV = STRUCTURES.values()
MNMS = np.array([0, LV, MYO, RV], np.uint8)[heart()]


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    """Three studies, and a folder for masks."""
    studies, masks = tmp_path / "studies", tmp_path / "masks"
    studies.mkdir()
    masks.mkdir()
    for n, study in enumerate(("a", "b_ED", "c")):
        write_study(studies / f"{study}.nii.gz", seed=n)
    return studies, masks


def put(masks: Path, name: str, mask: np.ndarray, studies: Path, affine: np.ndarray | None = None) -> None:
    (masks / name).parent.mkdir(parents=True, exist_ok=True)
    write_volume(masks / name, mask, read_volume(studies / "a.nii.gz").affine if affine is None else affine)


def test_a_folder_of_masks_with_the_numbers_of_mnms(folders: tuple[Path, Path]) -> None:
    studies, masks = folders
    put(masks, "a_gt.nii.gz", MNMS, studies)
    put(masks, "b/label_ED.nii.gz", MNMS.astype(np.float32), studies)
    put(masks, "c.nii.gz", heart(), studies)
    put(masks, "d_gt.nii.gz", MNMS, studies)
    done = run(app, "import", studies, masks, "--convention", "mnms", "--annotator", "Ada")
    assert done.exit_code == 1
    assert "2 labels are stored." in done.stdout
    assert "c.nii.gz is left out: With these names, RV and LV cavity seem to be swapped" in done.stderr
    assert "d_gt.nii.gz is left out: no study has its name" in done.stderr
    assert "mask/s" in done.stderr and "file/s" not in done.stderr  # no bar that counts DICOM files where there are none
    for study, name in (("a", "a_gt.nii.gz"), ("b_ED", "label_ED.nii.gz")):
        versions = LabelVersions(studies, study)
        (version,) = versions.all()
        assert np.array_equal(versions.read_volume(1).array, heart())
        assert version.annotator == "Ada" and version.params["imported_from"] == name and version.params["label_info"] == LABEL_INFO
    again = run(app, "import", studies, masks, "--convention", "mnms")
    assert "0 labels are stored, 2 were there already." in again.stdout
    assert len(LabelVersions(studies, "a").all()) == 1
    checked = run(app, "check", studies)
    assert checked.exit_code == 0 and "Training would use 2 labels, of 2 studies." in checked.stdout
    assert "2 labels have names for their values" in checked.stdout


@pytest.mark.parametrize("is_restored", [True, False])
def test_an_import_that_is_run_again_leaves_what_somebody_restored_or_drew_since(folders: tuple[Path, Path], is_restored: bool) -> None:
    studies, masks = folders
    versions, grid = LabelVersions(studies, "a"), read_volume(studies / "a.nii.gz")
    drawn = heart()
    drawn[:, :, 0] = 0
    versions.save(grid.with_array(drawn), {"annotator": "Ada"})
    put(masks, "a_gt.nii.gz", MNMS, studies)
    assert run(app, "import", studies, masks, "--convention", "mnms").exit_code == 0
    if is_restored:
        assert run(app, "restore", studies, "a", 1).exit_code == 0
    else:
        drawn[:, :, 1] = 0
        versions.save(grid.with_array(drawn), {"annotator": "Bob"})
    put(masks, "c_gt.nii.gz", MNMS, studies)
    again = run(app, "import", studies, masks, "--convention", "mnms")
    assert (again.exit_code, "1 label is stored." in again.stdout) == (1, True)
    sentence = "It was imported before, as version 2, and the label was replaced since: restore that version if you want it back."
    assert f"a_gt.nii.gz is left out: {sentence}" in again.stderr
    assert [version.version for version in versions.all()] == [1, 2, 3]
    versions.remove()
    assert run(app, "import", studies, masks, "--convention", "mnms").exit_code == 0
    assert versions.read_volume(4).array.any()  # where there is no label, nothing is replaced


def test_what_was_there_before_stays_a_version(folders: tuple[Path, Path]) -> None:
    studies, masks = folders
    put(studies / "labels" / "final", "a.nii.gz", MNMS, studies)
    checked = run(app, "check", studies)
    assert checked.exit_code == 1 and "a is left out: The label a.nii.gz cannot be right: RV and LV cavity seem" in checked.stderr
    (masks / "ours.json").write_text(json.dumps({"LV": 1, "MYO": 2, "RV": 3}))
    done = run(app, "import", studies, studies / "labels" / "final", "--convention", masks / "ours.json")
    assert done.exit_code == 0, done.stderr
    assert [version.origin for version in LabelVersions(studies, "a").all()] == ["found", "submitted"]
    assert run(app, "check", studies).exit_code == 0


@pytest.mark.parametrize(
    ("mask", "words"),
    [
        (np.zeros_like(MNMS), "It is empty"),
        (MNMS * 2, "It holds the value 4, which has no name: the names are 1 LV cavity"),
        (MNMS * np.float32(0.5), "as a probability map or an interpolated mask does"),
        (MNMS[1:], "It has 39x36x5 voxels and its image 40x36x5"),
    ],
)
def test_a_mask_that_does_not_fit_is_left_out_alone(folders: tuple[Path, Path], mask: np.ndarray, words: str) -> None:
    studies, masks = folders
    put(masks, "a.nii.gz", mask, studies)
    put(masks, "c_seg.nii.gz", MNMS, studies)
    done = run(app, "import", studies, masks, "--convention", "ukbb")
    assert done.exit_code == 1 and "1 label is stored" in done.stdout and words in done.stderr
    assert not (studies / "labels" / "final" / "a.nii.gz").exists()


def test_what_is_no_file_or_has_an_odd_name_is_named_in_a_line_and_waited_for_by_nobody(folders: tuple[Path, Path]) -> None:
    studies, masks = folders
    put(masks, "a.nii.gz", MNMS, studies)
    put(masks, "new\nline\x1b[2J.nii.gz", MNMS, studies)
    os.mkfifo(masks / "b_ED.nii.gz")
    os.mkfifo(masks / "c.mha")
    (masks / "d.nii.gz").symlink_to(masks / "gone")
    (masks / "folder.nii.gz").mkdir()
    done = run(app, "import", studies, masks, "--convention", "mnms")
    assert done.exit_code == 1 and "1 label is stored" in done.stdout
    lines = [line for line in done.stderr.splitlines() if "is left out: " in line]
    for line, (name, reason) in zip(
        lines,
        [
            ("b_ED.nii.gz", "It is not readable NIfTI (a folder or a device"),
            ("c.mha", "c.mha is not readable (a folder or a device"),
            ("d.nii.gz", "no study has its name"),
            (r"'new\nline\x1b[2J.nii.gz'", "no study has its name"),
        ],
        strict=True,
    ):
        assert line.startswith(f"{name} is left out: {reason}")


def test_what_cannot_be_looked_at_is_refused(folders: tuple[Path, Path]) -> None:
    studies, masks = folders
    for arguments, words in [
        ((studies, masks, "--convention", "mnms"), "holds no mask that is named like a study, such as a_gt.nii.gz"),
        ((studies, masks / "x", "--convention", "mnms"), "is not a folder"),
        ((masks, masks, "--convention", "mnms"), "has no images"),
        ((studies, masks, "--convention", "mms"), "is not a known convention: use acdc, mnms, ukbb, ukbb4 or a JSON file"),
    ]:
        done = run(app, "import", *arguments)
        assert done.exit_code == 2 and words in done.stderr and not done.stdout
    put(masks, "a.nii.gz", MNMS, studies)
    put(masks, "a_gt.nii.gz", MNMS, studies)
    done = run(app, "import", studies, masks, "--convention", "mnms")
    assert done.exit_code == 2 and "are both masks of a" in done.stderr
    assert not (studies / "labels").exists()


def test_masks_in_formats_that_are_not_read_are_named(folders: tuple[Path, Path]) -> None:
    studies, masks = folders
    for name in ("a.mgz", "b.NII.GZ"):
        (masks / name).write_bytes(b"x")
    (masks / "notes.txt").write_text("drawn by Ada")
    done = run(app, "import", studies, masks, "--convention", "mnms")
    assert (
        done.exit_code == 2 and "(a.mgz is none: its format is not read: save it as .nii.gz, for instance with 3D Slicer)." in done.stderr
    )
    put(masks, "c.nii.gz", MNMS, studies)
    (masks / "IM0001").write_bytes(bytes(128) + b"DICM")
    done = run(app, "import", studies, masks, "--convention", "mnms")
    assert done.exit_code == 1 and "1 label is stored." in done.stdout
    assert all(f"{name} is left out: its format is not read" in done.stderr for name in ("a.mgz", "b.NII.GZ"))
    assert "IM0001 is left out: It is DICOM of no known kind" in done.stderr and "notes" not in done.stderr


def test_accents_are_the_same_however_they_are_stored(tmp_path: Path) -> None:
    (tmp_path / "Rene\u0301_gt.nii.gz").touch()  # e and a combining accent, as some systems store it
    (tmp_path / "Z\u00fc_frame02.nii.gz").touch()
    composed, apart = "Ren\u00e9", "Zu\u0308_4d"
    assert match_masks(tmp_path, [composed, apart])[0].keys() == {MaskOwner(composed), MaskOwner(apart, 1)}
    assert match_masks(tmp_path, ["Z\u00fc_4d", apart])[0].keys() == {MaskOwner("Z\u00fc_4d", 1)}


@pytest.mark.slow
@given(
    st.from_regex(r"[A-Za-z0-9]{1,8}([_-][A-Za-z0-9]{1,8}){0,2}", fullmatch=True),
    st.sampled_from(["{}_gt", "{}-seg", "{}", "label_{}", "{}_Mask"]),
)
@example("GT", "{}_gt")
@example("seg", "label_{}")
def test_every_name_finds_its_study(tmp_path_factory: pytest.TempPathFactory, study: str, form: str) -> None:
    masks = tmp_path_factory.mktemp("masks")
    path = masks / f"{form.format(study)}.nii.gz"
    path.touch()
    assert match_masks(masks, [study, "another"]) == ({MaskOwner(study): path}, [], {})
    with pytest.raises(LabelError, match="named like a study"):
        match_masks(masks, [f"{study}x", "another"])


def test_phases_find_their_cine_by_the_names_that_exports_give_them(tmp_path: Path) -> None:
    for name in ("a_frame01", "a_frame08_gt", "b_frame02", "label_c_frame03", "d_frame01", "d_frame00"):
        (tmp_path / f"{name}.nii.gz").touch()
    found, _, strangers = match_masks(tmp_path, ["a_4d", "b", "c_frame03", "c_4d"])
    assert {owner: path.name for owner, path in found.items()} == {
        MaskOwner("a_4d", 0): "a_frame01.nii.gz",
        MaskOwner("a_4d", 7): "a_frame08_gt.nii.gz",
        MaskOwner("b", 1): "b_frame02.nii.gz",
        MaskOwner("c_frame03"): "label_c_frame03.nii.gz",
    }
    assert [path.name for path in strangers] == ["d_frame00.nii.gz", "d_frame01.nii.gz"]


@pytest.mark.parametrize(
    ("another", "words"),
    [
        ("a_frame8", "both masks of phase 7 of a_4d"),
        ("a_frame00", "a_frame00.nii.gz is called as if phases counted from 0, but the first is frame01: rename all masks of a_4d"),
        ("a_4d_gt", "a_4d_gt.nii.gz is of all a_4d, and .*a_frame08.nii.gz of a phase of it"),
    ],
)
def test_which_phase_a_mask_is_of_is_never_guessed(tmp_path: Path, another: str, words: str) -> None:
    for name in ("a_frame08", another):
        (tmp_path / f"{name}.nii.gz").touch()
    with pytest.raises(LabelError, match=words):
        match_masks(tmp_path, ["a_4d"])


def test_a_volume_has_no_phases_by_name_and_each_file_that_is_left_out_is_named(folders: tuple[Path, Path]) -> None:
    studies, masks = folders
    for name in ("a_frame01", "c", "one/sa", "two/sa"):
        put(masks, f"{name}.nii.gz", heart(), studies)
    done = run(app, "import", studies, masks, "--convention", "acdc")
    assert done.exit_code == 1 and "1 label is stored." in done.stdout
    assert "a_frame01.nii.gz is left out: It is called like a phase, and its image has only one: name it like its study, a." in done.stderr
    assert all(f"'{Path(folder) / 'sa.nii.gz'}' is left out" in done.stderr for folder in ("one", "two"))


def test_names_of_segments_that_a_file_has_itself(folders: tuple[Path, Path]) -> None:
    studies, masks = folders
    image = SimpleITK.GetImageFromArray(heart().transpose(2, 1, 0))
    affine = np.diag([-1.0, -1.0, 1.0, 1.0]) @ read_volume(studies / "a.nii.gz").affine
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    image.SetSpacing(spacing.tolist())
    image.SetOrigin(affine[:3, 3].tolist())
    image.SetDirection((affine[:3, :3] / spacing).ravel().tolist())
    SimpleITK.WriteImage(image, str(masks / "c.seg.nrrd"))
    nameless = run(app, "import", studies, masks)
    assert nameless.exit_code == 1 and "c.seg.nrrd is left out: Nothing says what its values mean: name their convention" in nameless.stderr
    for n, name in enumerate(("rechts", "myo", "LV")):
        image.SetMetaData(f"Segment{n}_Name", name)
        image.SetMetaData(f"Segment{n}_LabelValue", str(n + 1))
    SimpleITK.WriteImage(image, str(masks / "c.seg.nrrd"))
    (masks / "names.json").write_text('{"rechts": "RV"}')
    assert "It names the segment 'rechts'" in run(app, "import", studies, masks).stderr
    done = run(app, "import", studies, masks, "--names", masks / "names.json")
    assert done.exit_code == 0, done.stderr
    assert np.array_equal(LabelVersions(studies, "c").read_volume(1).array, heart())
