"""From which side networks look at an image, whatever way its voxels are stored."""

from __future__ import annotations

import numpy as np
import pytest

from prato.data.cases import load_training_case
from prato.data.nifti import Volume, write_volume
from prato.data.studies.folder import StudyFile
from prato.data.view import network_view
from tests.storage import STORAGES, Storage, oblique

SHAPE, SPACING = (12, 10, 4), (1.4, 1.5, 8.0)


def numbered() -> Volume:
    return oblique(np.arange(np.prod(SHAPE), dtype=np.int16).reshape(SHAPE), SPACING)


@pytest.mark.parametrize("storage", STORAGES, ids=str)
def test_short_axis_slices_are_seen_as_scanners_store_them(storage: Storage) -> None:
    usual = numbered()
    stored = storage.volume(usual)
    view = network_view(stored)
    seen = view.apply_to(stored)
    assert np.array_equal(seen.array, usual.array) and np.allclose(seen.affine, usual.affine)
    assert np.array_equal(view.restore(seen.array), stored.array)
    again = network_view(seen)
    assert (again.axes, again.steps) == ((0, 1, 2), (1, 1, 1))
    cine = np.stack([usual.array, usual.array + 1], axis=-1)
    assert np.array_equal(view.apply(storage.array(cine)), cine) and np.array_equal(view.restore(cine), storage.array(cine))


@pytest.mark.parametrize("angle", [-40, -20, 20, 40])
def test_slices_that_a_scanner_turned_a_little_stay_as_they_are(angle: float) -> None:
    usual = numbered()
    turned, (cos, sin) = usual.affine.copy(), (np.cos(np.radians(angle)), np.sin(np.radians(angle)))
    i, j = (usual.affine[:3, a] / SPACING[a] for a in (0, 1))
    turned[:3, 0], turned[:3, 1] = (cos * i + sin * j) * SPACING[0], (cos * j - sin * i) * SPACING[1]
    assert network_view(Volume(usual.array, turned)).steps == (1, 1, 1) and network_view(Volume(usual.array, turned)).axes == (0, 1, 2)


@pytest.mark.parametrize("storage", STORAGES, ids=str)
def test_slices_of_another_plane_or_none_are_seen_as_they_are(storage: Storage) -> None:
    """An affine along the body's axes is what files have whose program knew no orientation."""
    array = numbered().array
    stored = storage.volume(Volume(array, np.diag([-1.4, -1.5, 8.0, 1.0])))
    view, across = network_view(stored), storage.axes.index(2)
    assert view.steps == (1, 1, 1) and view.axes == (*(a for a in range(3) if a != across), across)


@pytest.mark.parametrize("storage", STORAGES[::5], ids=str)
def test_a_network_learns_the_same_from_a_study_however_it_is_stored(storage: Storage, tmp_path) -> None:
    usual = oblique(np.random.default_rng(0).integers(0, 900, (40, 44, 4)).astype(np.int16), SPACING)
    label = np.zeros(usual.array.shape, np.uint8)
    label[10:30, 8:36], label[14:24, 20:30], label[4:12, 12:30] = 2, 3, 1
    cases = []
    for name, volume, mask in (("usual", usual, label), ("stored", storage.volume(usual), storage.array(label))):
        write_volume(tmp_path / f"{name}.nii.gz", volume.array, volume.affine)
        write_volume(tmp_path / f"{name}_label.nii.gz", mask, volume.affine)
        cases.append(load_training_case(StudyFile(name, name, tmp_path / f"{name}.nii.gz", tmp_path / f"{name}_label.nii.gz"), 1.5))
    first, second = cases
    assert first is not None and second is not None
    assert first.pixel == pytest.approx(second.pixel) and np.array_equal(first.label, second.label)
    assert np.array_equal(first.image, second.image)
