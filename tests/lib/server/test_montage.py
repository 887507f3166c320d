"""Slices side by side: what a study's page shows, whatever way its voxels are stored."""

from __future__ import annotations

import re
from io import BytesIO
from itertools import permutations, product

import numpy as np
import pytest
from PIL import Image

from lib.server.page.montage import PARTS, Montage
from lib.server.page.view import StudyView
from prato.data.cine import read_cine, write_cine
from prato.data.nifti import Volume
from prato.data.structures import STRUCTURES
from prato.data.view import radiological_view


@pytest.mark.parametrize(("axes", "steps"), product(permutations(range(3)), product((1, -1), repeat=3)))
def test_a_patient_is_seen_from_the_same_side_however_the_voxels_are_stored(axes: tuple[int, ...], steps: tuple[int, ...]) -> None:
    # columns to the left, rows to the back, slices to the head: as an axial slice is looked at
    array = np.arange(4 * 5 * 3).reshape(4, 5, 3)
    affine = np.diag([-1.5, -1.5, 8.0, 1.0])
    turned = array.transpose(axes)[tuple(slice(None, None, step) for step in steps)]
    stored = affine.copy()
    for a, (axis, step) in enumerate(zip(axes, steps)):
        stored[:3, a] = affine[:3, axis] * step
    seen = radiological_view(Volume(turned, stored)).apply(turned)
    slices = steps[axes.index(2)]  # they come in the order in which they are stored
    assert np.array_equal(seen, array.transpose(1, 0, 2)[:, :, ::slices])


def test_contours_run_along_the_edges_of_the_pixels() -> None:
    mask = np.zeros((60, 50, 4), np.uint8)
    mask[20:30, 10:26, 1] = STRUCTURES["LV cavity"]
    grid = Volume(np.zeros(mask.shape, np.uint8), np.diag([-2.0, -2.0, 8.0, 1.0]))
    montage = Montage.of(grid, None, 1)
    path = montage.contours(mask)["LV cavity"]
    numbers = [int(n) for n in re.findall(r"-?\d+", path)]
    points = np.cumsum(np.array(numbers).reshape(-1, 2), axis=0) / PARTS
    (left, top), scale = montage.corners()[1], np.array(montage.tile) / (60, 50)
    assert np.allclose(points.min(0), np.array([20, 10]) * scale + (left, top), atol=0.2)
    assert np.allclose(points.max(0), np.array([30, 26]) * scale + (left, top), atol=0.2)
    assert montage.contours(np.zeros_like(mask)) == {}


def test_the_heart_fills_the_picture_and_pictures_stay_small() -> None:
    heart = np.zeros((300, 300, 10), bool)
    heart[100:150, 120:170] = True
    grid = Volume(np.broadcast_to(np.uint8(0), heart.shape), np.diag([-1.0, -1.0, 8.0, 1.0]))
    close = Montage.of(grid, heart, 30)
    assert (close.rows, close.cols) == (slice(100, 190), slice(80, 170))  # and 20 mm round it
    assert (Montage.of(grid, None, 30).rows, close.slices) == (slice(0, 300), tuple(range(10)))
    many = Montage.of(Volume(np.broadcast_to(np.uint8(0), (512, 512, 900)), np.diag([-1.0, -1.0, 1.0, 1.0])), None, 256)
    assert (len(many.slices), many.slices[0], many.slices[-1]) == (30, 0, 899)
    assert max(many.size) <= 1000


def test_a_study_of_two_labelled_phases(tmp_path) -> None:
    rng = np.random.default_rng(0)
    images, mask = rng.integers(0, 200, (30, 28, 4, 6)).astype(np.int16), np.zeros((30, 28, 4, 6), np.uint8)
    mask[10:20, 10:20, :, 1], mask[13:17, 13:17, :, 4] = STRUCTURES["LV cavity"], STRUCTURES["LV cavity"]
    write_cine(tmp_path / "a.nii.gz", images, np.diag([-2.0, -2.0, 8.0, 1.0]), 150.0)
    view = StudyView.of(read_cine(tmp_path / "a.nii.gz"), mask)
    assert (view.labelled, len(view.frames)) == ((1, 4), 6)
    assert view.curve().lv.tolist() == pytest.approx([100 * 4 * 0.032, 16 * 4 * 0.032])
    assert {t: np.count_nonzero(part) for t, part in view.masks().items()} == {1: 100 * 4, 4: 16 * 4}
    assert Image.open(BytesIO(view.frames[0])).size == view.montage.size
    assert StudyView.of(read_cine(tmp_path / "a.nii.gz"), None).masks() == {}
