"""DICOM SEG that cannot be used: each is left out with one sentence, and nothing is changed."""

from __future__ import annotations

import errno
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydicom.dataset import Dataset

from prato.data.cine import read_cine, write_cine
from prato.data.nifti import write_volume
from tests.prato.dicom.labels.label_folders import SCAN, SHAPE, Folders
from tests.prato.dicom.labels.segs import forget_images, make_seg
from tests.prato.dicom.labels.test_export_dicom import draw
from tests.prato.dicom.scans import FOUR_CHAMBER, Scan, save, to_bytes

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")  # pydicom, of UIDs that break a rule


def spoil(case: str, seg: Dataset) -> Dataset:
    """A SEG with what is wrong in ``case``."""
    if case == "missing frames":
        seg.PerFrameFunctionalGroupsSequence.pop()
    elif case == "missing pixels":
        seg.PixelData = seg.PixelData[:-10]
    elif case == "another place":
        for group in seg.PerFrameFunctionalGroupsSequence:  # of three segments that share theirs
            x, y, z = group.PlanePositionSequence[0].ImagePositionPatient
            group.PlanePositionSequence[0].ImagePositionPatient = [x, y, z + 0.6]
    elif case == "no segments":
        seg.SegmentSequence = seg.SegmentSequence[:2]
    elif case == "surface":
        seg.SOPClassUID = seg.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.66.5"
    return seg


OTHER_SERIES = Scan(7, slices=4, phases=1, orientation=FOUR_CHAMBER)
LARGER = Scan(slices=4, phases=6, rows=14)
PATIENT = Scan(study="another", slices=4, phases=6)
BAD: dict[str, tuple[Callable[[], Dataset], str]] = {
    "study": (lambda: make_seg(PATIENT, draw(1, SHAPE)), "It was drawn on images of no study here: import its examination with"),
    "series": (
        lambda: make_seg(OTHER_SERIES, draw(1, SHAPE)),
        "It was drawn on other images of its examination than those of the cine p",
    ),
    "size": (lambda: make_seg(LARGER, draw(1, (10, 14, 4))), "It has frames of 10x14 pixels and its images 10x12: export it on the"),
    "size of an object that names no image": (
        lambda: forget_images(make_seg(LARGER, draw(1, (10, 14, 4))), keep_series=True),
        "It has frames of 10x14 pixels and its images 10x12: export it on the images' own grid.",
    ),
    "fractions": (
        lambda: make_seg(
            SCAN,
            draw(1, SHAPE),
            segmentation_type="FRACTIONAL",
            pixel_array=np.random.default_rng(1).random((4, 12, 10, 3)) / 3,
        ),
        "It holds fractions, as a probability map does: save it as a binary segmentation, or as a label map.",
    ),
    "overlap": (
        lambda: make_seg(SCAN, draw(1, SHAPE), pixel_array=np.ones((4, 12, 10, 3), np.uint8)),
        "Its segments 'Left Ventricle' and 'LV myocardium' overlap: give each voxel to one of them.",
    ),
    "name": (
        lambda: make_seg(SCAN, draw(1, SHAPE), names={1: "LV", 2: "myo", 3: "LA"}),
        "It names the segment 'LA': the structures are RV cavity, myocardium, LV cavity, and background; --names can say which of",
    ),
    "name twice": (
        lambda: make_seg(SCAN, draw(1, SHAPE), names={1: "LV", 2: "LV cavity"}),
        "It names LV cavity twice: merge the two segments.",
    ),
    "empty": (
        lambda: make_seg(SCAN, np.zeros(SHAPE, np.uint8), omit_empty_frames=False),
        "It is empty: there is nothing to learn from it.",
    ),
    "missing frames": (lambda: make_seg(SCAN, draw(1, SHAPE)), "It has 9 frames and describes 8: some are missing, export it again."),
    "missing pixels": (
        lambda: make_seg(SCAN, draw(1, SHAPE)),
        "Its pixels cannot be read (frames are missing or damaged): export it again.",
    ),
    "another place": (
        lambda: make_seg(SCAN, draw(1, SHAPE)),
        "It lies 1.8 mm off its image (another affine): export it on the image's own",
    ),
    "no segments": (lambda: make_seg(SCAN, draw(1, SHAPE)), "It has frames of segment 3, which it does not describe: export it again."),
    "surface": (lambda: make_seg(SCAN, draw(1, SHAPE)), "It is Surface Segmentation Storage, which is not read: save it as DICOM SEG"),
}


@pytest.mark.parametrize("case", BAD)
def test_what_cannot_be_used_is_left_out_with_one_sentence(folders: Folders, case: str) -> None:
    make, words = BAD[case]
    folders.put(spoil(case, make()))
    folders.put(make_seg(SCAN, draw(5, SHAPE), 5), "good.dcm")
    said, left_out = folders.take(1)
    assert "1 label is stored." in said and folders.states() == {5: "corrected"}
    assert left_out.startswith(f"IM1 is left out: {words}") and len(left_out.splitlines()) == 1


def test_files_that_are_damaged_or_hold_no_label(folders: Folders) -> None:
    good = to_bytes(make_seg(SCAN, draw(5, SHAPE), 5))
    for name, data in (("cut.dcm", good[:1500]), ("garbage.dcm", b"x" * 400), ("IM1", bytes(128) + b"DICM")):
        (folders.masks / name).write_bytes(data)
    (folders.masks / "folder").mkdir()
    (folders.masks / "link.dcm").symlink_to(folders.masks / "gone")
    before = folders.files()
    said, left_out = folders.take(1)
    assert "0 labels are stored." in said and folders.files() == before
    assert [line.split(" is left out: ")[0] for line in left_out.splitlines()] == ["IM1", "cut.dcm", "garbage.dcm", "link.dcm"]
    for path in folders.masks.iterdir():
        if not path.is_dir():
            path.unlink()
    save(folders.masks / "folder", SCAN.images()[:2])
    assert "holds no mask: its 2 DICOM files are images or reports." in folders.take(2)[1]


def test_a_file_without_an_ending_that_may_not_be_read_is_named(folders: Folders, monkeypatch: pytest.MonkeyPatch) -> None:
    folders.put(make_seg(SCAN, draw(5, SHAPE), 5), "good.dcm")
    folders.put(make_seg(SCAN, draw(5, SHAPE), 4))
    may_open = Path.open

    def open_unless_forbidden(path: Path, *args: Any, **options: Any) -> Any:
        if path.name == "IM1":
            raise PermissionError(errno.EACCES, "Permission denied")
        return may_open(path, *args, **options)

    monkeypatch.setattr(Path, "open", open_unless_forbidden)
    _, left_out = folders.take(1)
    assert left_out == "IM1 is left out: It cannot be read (Permission denied)." and folders.states() == {5: "corrected"}


def test_studies_that_were_not_imported_from_dicom(folders: Folders) -> None:
    folders.put(make_seg(SCAN, draw(5, SHAPE), 5))
    (folders.studies / f"{folders.study}.json").rename(folders.masks / "sidecar.json")
    assert "No study here was imported from DICOM" in folders.take(1)[1]
    assert not folders.states()


def test_an_image_that_was_replaced_is_not_the_one_that_was_drawn_on(folders: Folders) -> None:
    folders.put(make_seg(SCAN, draw(5, SHAPE), 5))
    image = folders.studies / f"{folders.study}.nii.gz"
    affine = read_cine(image).grid().affine.copy()
    affine[0, 3] += 1
    write_cine(image, SCAN.array(), affine)
    assert "is not the one that it was drawn on: it lies 1.00 mm off the DICOM images: import it again." in folders.take(1)[1]
    assert not folders.states()


@pytest.mark.parametrize("of_phase", [False, True])
@pytest.mark.parametrize("is_old", [False, True], ids=["", "imported before sidecars had hashes"])
def test_an_image_that_was_replaced_on_the_same_grid_is_not_either(folders: Folders, of_phase: bool, is_old: bool) -> None:
    folders.put(make_seg(SCAN, draw(5, SHAPE), 5))
    studies = folders.phases if of_phase else folders.studies
    image = studies / (f"{folders.study.removesuffix('_4d')}_frame06.nii.gz" if of_phase else f"{folders.study}.nii.gz")
    affine = read_cine(image).grid().affine
    array = SCAN.array().astype(np.float32)  # saved by another program

    def write() -> None:
        if of_phase:
            write_volume(image, array[..., 5], affine)
        else:
            write_cine(image, array, affine)

    write()
    folders.take(0, studies)
    array[3, 4, 1, 5] += 1
    write()
    sidecar = folders.studies / f"{folders.study}.json"
    if is_old:
        content = json.loads(sidecar.read_bytes())
        del content["voxels_sha256"]
        sidecar.write_text(json.dumps(content))
    _, left_out = folders.take(0 if is_old else 1, studies)
    assert is_old != ("is not the one that it was drawn on: its voxels have other values than the DICOM images" in left_out)


def test_a_segmentation_that_is_cut_short_anywhere_is_left_out(folders: Folders) -> None:
    whole = to_bytes(make_seg(SCAN, draw(5, SHAPE), 5))
    for n, share in enumerate(np.linspace(0.02, 0.99, 25)):
        (folders.masks / f"{n:02d}.dcm").write_bytes(whole[: int(share * len(whole))])
    said, left_out = folders.take(1)
    assert "0 labels are stored." in said and not folders.states()
    assert len(left_out.splitlines()) == 25 and "None" not in left_out
