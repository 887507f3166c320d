"""Labels of which each structure is a DICOM object of its own: those of one phase are one label."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from prato.labelling.versions import LabelVersions
from tests.prato.dicom.labels.label_folders import SCAN, SHAPE, Folders, cine_of
from tests.prato.dicom.labels.segs import VALUES, make_seg
from tests.prato.dicom.labels.test_export_dicom import draw
from tests.prato.dicom.labels.test_import_contours import (
    CENTRE,
    INNER,
    OUTER,
    RIGHT,
    RIGHT_RADIUS,
    borders,
    circle,
    contour,
    disk,
    ring,
    structure_set,
)
from tests.prato.dicom.labels.test_import_contours import SCAN as LARGE

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")  # pydicom, of UIDs that break a rule
LV, MYO, RV = {1: "LV"}, {2: "myo"}, {3: "RV"}


def put(folders: Folders, name: str, numbers: np.ndarray, phase: int, names: dict[int, str]) -> None:
    """A SEG of the segments ``names`` of ``numbers``, which count from 1."""
    own = numbers * np.isin(numbers, list(names))
    folders.put(make_seg(SCAN, (own > 0).astype(np.uint8), phase, {1: next(iter(names.values()))}), name)


def test_objects_of_one_structure_each_are_one_label(folders: Folders) -> None:
    first, second = draw(1, SHAPE), draw(2, SHAPE)
    for name, names in (("left.dcm", LV), ("wall.dcm", MYO), ("right.dcm", RV)):
        put(folders, f"2_{name}", first, 2, names)
        put(folders, f"4_{name}", second, 4, names)
    put(folders, "2_copy.dcm", first, 2, LV)
    said, left_out = folders.take()
    assert "2 labels are stored." in said and not left_out
    assert np.array_equal(folders.label(), cine_of(p2=VALUES[first], p4=VALUES[second]))
    versions = LabelVersions(folders.studies, folders.study).all()
    assert [version.params["imported_from"] for version in versions] == [
        "2_copy.dcm, 2_left.dcm, 2_right.dcm, 2_wall.dcm",
        "4_left.dcm, 4_right.dcm, 4_wall.dcm",
    ]
    assert "0 labels are stored, 2 were there already." in folders.take()[0]


def test_of_objects_that_hold_one_structure_twice_or_overlap_none_is_used(folders: Folders) -> None:
    first, what = draw(1, SHAPE), f"phase 3 of {folders.study}"
    put(folders, "a.dcm", first, 3, LV)
    put(folders, "b.dcm", first, 3, MYO)
    put(folders, "c.dcm", np.roll(first, 1, axis=0), 3, LV)
    put(folders, "d.dcm", first, 5, LV)
    put(folders, "e.dcm", np.roll(first, 1, axis=0), 5, RV)
    before = folders.files()
    _, left_out = folders.take(1)
    overlap = f"overlaps with it in phase 5 of {folders.study}: give each voxel to one structure."
    assert left_out.splitlines() == [
        f"a.dcm is left out: c.dcm is another mask of {what}: keep only one of them in the folder.",
        f"b.dcm is left out: c.dcm overlaps with it in {what}: give each voxel to one structure.",
        f"c.dcm is left out: a.dcm is another mask of {what}: keep only one of them in the folder.",
        f"d.dcm is left out: e.dcm {overlap}",
        f"e.dcm is left out: d.dcm {overlap}",
    ]
    assert folders.files() == before
    put(folders, "c.dcm", np.where(first == 3, 0, first), 3, RV)  # empty
    put(folders, "e.dcm", first, 5, RV)
    put(folders, "f.dcm", first, 3, RV)
    folders.take(1)
    assert np.array_equal(folders.label()[..., 3], VALUES[first])


def test_what_goes_with_an_object_that_is_left_out_is_not_a_label_by_itself(folders: Folders) -> None:
    first = draw(1, SHAPE)
    put(folders, "a.dcm", first, 3, LV)
    put(folders, "b.dcm", np.roll(first, 1, axis=0) * (first == 0), 3, LV)
    put(folders, "c.dcm", first, 3, RV)
    _, left_out = folders.take(1)
    assert left_out.splitlines()[2].startswith("c.dcm is left out: ") and not folders.states()
    assert "which is of the same phase, is left out." in left_out


@pytest.mark.slow
def test_contours_of_both_ventricles_may_cross_in_two_objects_too(tmp_path: Path) -> None:
    folders, circles = Folders(tmp_path, LARGE.images()), {"RV": circle(RIGHT, RIGHT_RADIUS), "LV": circle(CENTRE, OUTER)}
    for name, points in circles.items():
        folders.put(structure_set({name: [contour(points, k, 1) for k in range(3)]}), f"{name}.dcm")
    folders.put(structure_set({name: [contour(points, k, 2) for k in range(3)] for name, points in circles.items()}), "both.dcm")
    folders.take()
    label = folders.label()
    assert np.array_equal(label[..., 1], label[..., 2]) and {1, 3} == {*np.unique(label[..., 1])} - {0}
    assert (disk(RIGHT, RIGHT_RADIUS) & disk(CENTRE, OUTER)).any()


@pytest.mark.parametrize("inner_is_seg", [False, True], ids=["two structure sets", "a structure set and a segmentation"])
def test_the_two_borders_of_the_wall_may_be_two_objects(tmp_path: Path, inner_is_seg: bool) -> None:
    folders = Folders(tmp_path, LARGE.images())
    folders.put(borders(2, names={"LV epi": (CENTRE, OUTER)}), "epi.dcm")
    _, left_out = folders.take(1)
    assert left_out.splitlines()[0] == (
        f"epi.dcm is left out: It has the outer border of the wall and not the inner one in phase 2 of {folders.study}: "
        "draw both, or import both objects at once."
    )
    inner = np.zeros((*LARGE.array().shape[:3],), np.uint8)
    inner[:, :, :3] = disk(CENTRE, INNER)[..., None]
    drawn = make_seg(LARGE, inner, 2, LV) if inner_is_seg else borders(2, names={"LV endo": (CENTRE, INNER)})
    folders.put(drawn, "endo.dcm")
    _, left_out = folders.take()
    assert not left_out and np.array_equal(folders.label(), ring(2))
