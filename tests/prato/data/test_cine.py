import tempfile
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from prato.data import nifti_head
from prato.data.cine import read_cine, read_cine_head, write_cine
from prato.data.nifti import Volume, VolumeError, read_image, read_volume, volume_bytes
from prato.data.nifti_head import VolumeTooLargeError
from prato.phantom.beat import make_beat
from prato.runtime.cancel_token import CancelledError, CancelToken
from tests.prato.data.nifti_files import nifti_file
from tests.prato.data.test_orientation import headers

AFFINE = np.diag([1.5, 1.5, 8.0, 1.0])
ARRAY = np.arange(5 * 4 * 3 * 6, dtype=np.int16).reshape(5, 4, 3, 6)


def write_header(path, array=ARRAY, step=0.04, units=("mm", "sec"), slope=None):
    image = nib.Nifti1Image(array, AFFINE)
    image.header["pixdim"][4] = step
    image.header.set_xyzt_units(*units)
    image.to_filename(path)
    return path


_ODD = st.one_of(st.sampled_from([0.0, 0.8, float("nan"), float("inf"), 1e30]), st.floats(-2, 2, width=32))


@settings(max_examples=40, deadline=None)
@given(headers, st.lists(_ODD, min_size=3, max_size=3), st.sampled_from([(5, 4, 3), (5, 4, 3, 1), (5, 4, 3, 2), (5, 4, 0), (5, 4, 3, 0)]))
def test_whatever_its_header_says_a_cine_is_read_as_a_volume_is(header, quaternion, shape):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.nii"
        fields = {f"quatern_{part}": value for part, value in zip("bcd", quaternion)}
        path.write_bytes(nifti_file(np.resize(ARRAY, shape), **{"pixdim": (1.5, 1.5, 8.0), **header}, **fields))
        try:
            cine = read_cine(path)
        except VolumeError as error:
            assert str(error).startswith(("a.nii ", "Phase 0 of a.nii ")) and "\n" not in str(error)
            if min(shape) and shape[3:] != (2,):
                with pytest.raises(VolumeError):
                    read_volume(path)
            return
        assert min(shape) > 0
        for t in range(len(cine)):
            np.testing.assert_array_equal(cine.phase(t).array, np.resize(ARRAY, shape).reshape((*shape, 1)[:4])[..., t])
        if len(cine) == 1:
            np.testing.assert_array_equal(cine.phase(0).affine, read_volume(path).affine)


def test_every_phase_comes_back_in_its_place_and_time(tmp_path):
    write_cine(tmp_path / "a.nii.gz", ARRAY, AFFINE, step_ms=150)
    cine = read_cine(tmp_path / "a.nii.gz")
    assert len(cine) == 6
    assert cine.warnings == ()
    np.testing.assert_allclose(cine.times_ms, 150 * np.arange(6), rtol=1e-6)
    for t in range(6):
        np.testing.assert_array_equal(cine.phase(t).array, ARRAY[..., t])
        np.testing.assert_allclose(cine.phase(t).affine, AFFINE)


@pytest.mark.parametrize(("step", "unit", "first"), [(0.15, "sec", 150), (150, "msec", 150), (150000, "usec", 150)])
def test_units_of_time_are_read(tmp_path, step, unit, first):
    assert read_cine(write_header(tmp_path / "a.nii", step=step, units=("mm", unit))).times_ms[1] == pytest.approx(first)


@pytest.mark.parametrize(
    ("step", "unit", "said"),
    [
        (0, "sec", "how far apart"),
        (-0.04, "sec", "how far apart"),
        (np.nan, "sec", "how far apart"),
        (1, None, "how far apart"),  # all of ACDC
        (5, "sec", "cannot be one heartbeat"),
        (1, "msec", "cannot be one heartbeat"),
    ],
)
def test_times_that_cannot_be_are_warned_of_and_not_used(tmp_path, step, unit, said):
    cine = read_cine(write_header(tmp_path / "a.nii", step=step, units=("mm", unit)))
    assert cine.times_ms is None
    assert len(cine.warnings) == 1
    assert said in cine.warnings[0]


@pytest.mark.parametrize(("shape", "phases"), [((5, 4, 3), 1), ((5, 4, 3, 1), 1), ((5, 4, 3, 6, 1), 6)])
def test_axes_of_one_are_no_axes(tmp_path, shape, phases):
    array = np.resize(ARRAY, shape)
    cine = read_cine(write_header(tmp_path / "a.nii", array=array))
    assert len(cine) == phases
    np.testing.assert_array_equal(cine.phase(phases - 1).array, array.reshape(5, 4, 3, phases)[..., -1])


@pytest.mark.parametrize(
    ("shape", "said"), [((5, 4), "whole stack of"), ((5, 4, 3, 1, 2), "the fifth"), ((5, 4, 3, 6, 3), "one grey value")]
)
def test_other_axes_are_refused(tmp_path, shape, said):
    with pytest.raises(VolumeError, match=said):
        read_cine(write_header(tmp_path / "a.nii", array=np.resize(ARRAY, shape)))


def test_a_phase_cut_short_is_noticed(tmp_path):
    path = write_header(tmp_path / "a.nii")
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(VolumeError, match="cut short"):
        read_cine(path)


def test_reading_ends_early_when_nobody_waits_any_more(tmp_path, monkeypatch):
    path, asked = tmp_path / "cine_4d.nii.gz", []
    write_cine(path, np.random.default_rng(0).integers(0, 900, (32, 32, 8, 6)).astype(np.int16), np.eye(4), 40.0)
    monkeypatch.setattr(nifti_head, "_CHUNK", 1000)
    with pytest.raises(CancelledError):
        read_cine(path, CancelToken(lambda: asked.append(1) or len(asked) > 5))
    assert len(asked) == 6  # of some hundred parts
    assert len(read_cine(path, CancelToken())) == 6


def test_there_is_no_phase_beyond_the_last(tmp_path):
    with pytest.raises(VolumeError, match="phases 0 to 5"):
        read_cine(write_header(tmp_path / "a.nii")).phase(6)


def test_only_4d_is_written(tmp_path):
    with pytest.raises(VolumeError, match="4D"):
        write_cine(tmp_path / "a.nii.gz", ARRAY[..., 0], AFFINE)
    assert not (tmp_path / "a.nii.gz").exists()


@pytest.mark.parametrize("phases", [1, 6])
def test_a_mask_of_all_phases_lies_where_its_cine_lies_bit_for_bit(tmp_path, phases):
    image = nib.Nifti1Image(ARRAY[..., :phases], None)
    image.header.set_sform(np.diag([1, 1, 1, 1]), code=1)  # as ACDC has it: pixdim alone knows the voxel size
    image.header["pixdim"][1:5] = 1.4, 1.4, 9.0, 0.04
    image.to_filename(tmp_path / "a.nii")
    cine = read_cine(tmp_path / "a.nii")
    grid = cine.grid()
    assert grid.array.shape == ARRAY.shape[: 4 if phases > 1 else 3]
    assert grid.spacing == cine.phase(phases - 1).spacing == pytest.approx((1.4, 1.4, 9.0))
    assert grid.warnings == ("voxel_size_uncertain",)
    mask = np.arange(grid.array.size).reshape(grid.array.shape).astype(np.uint8)
    (tmp_path / "m.nii").write_bytes(volume_bytes(grid.with_array(mask)))
    stored = read_image(tmp_path / "m.nii")
    np.testing.assert_array_equal(np.asanyarray(stored.dataobj), mask)
    for field in ("pixdim", "srow_x", "sform_code", "qform_code", "xyzt_units"):
        np.testing.assert_array_equal(stored.extra["header"][field], read_image(tmp_path / "a.nii").extra["header"][field])
    if phases == 1:
        assert isinstance(read_volume(tmp_path / "m.nii"), Volume)


def test_the_header_alone_says_how_many_phases_there_are(tmp_path):
    write_cine(tmp_path / "a.nii.gz", ARRAY, AFFINE, step_ms=150)
    head = read_cine_head(tmp_path / "a.nii.gz")
    assert head.phases == 6
    np.testing.assert_allclose(head.times_ms, 150 * np.arange(6), rtol=1e-6)
    nib.save(nib.Nifti1Image(ARRAY[..., 0], AFFINE), tmp_path / "b.nii")
    assert read_cine_head(tmp_path / "b.nii").phases == 1
    with pytest.raises(VolumeError, match="2D"):
        read_cine_head(write_header(tmp_path / "c.nii", array=ARRAY[..., 0, 0]))


@pytest.fixture(scope="module")
def beat():
    return make_beat(0, 1, phases=6)  # whose slices differ clearly, as real ones do


@pytest.mark.slow
@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("is_isotropic", [False, True])
def test_time_on_another_axis_is_noticed_whatever_the_header_says_of_voxels(tmp_path, beat, axis, is_isotropic):
    affine = np.eye(4) if is_isotropic else beat.affine
    write_cine(tmp_path / "right.nii.gz", beat.images, affine)
    assert len(read_cine(tmp_path / "right.nii.gz")) == 6
    write_cine(tmp_path / "wrong.nii.gz", np.moveaxis(beat.images, 3, axis), affine)
    with pytest.raises(VolumeError, match=r"has slices, not phases, on its fourth axis \(.*\): export it"):
        read_cine(tmp_path / "wrong.nii.gz")


@pytest.mark.slow
@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(gains=st.lists(st.floats(0.1, 5.0), min_size=6, max_size=6), offset=st.integers(0, 500))
def test_phases_may_be_of_unequal_brightness(tmp_path, beat, gains, offset):
    unequal = (beat.images * np.array(gains) + offset * np.arange(6)).astype(np.int16)
    write_cine(tmp_path / "unequal.nii.gz", unequal, beat.affine)
    assert len(read_cine(tmp_path / "unequal.nii.gz")) == 6


def test_limits_count_for_each_phase(tmp_path, monkeypatch):
    path = write_header(tmp_path / "a.nii.gz")
    monkeypatch.setattr(nifti_head, "MAX_VOXEL_BYTES", 5 * 4 * 3 * 2)  # all phases together lie on the disk
    np.testing.assert_array_equal(read_cine(path).phase(5).array, ARRAY[..., 5])
    monkeypatch.setattr(nifti_head, "MAX_PHASES", 5)
    with pytest.raises(VolumeTooLargeError, match=r"a.nii.gz holds more phases \(5x4x3x6\) than the 5 accepted here"):
        read_cine(path)
    monkeypatch.setattr(nifti_head, "MAX_VOXEL_BYTES", 5 * 4 * 3 * 2 - 1)
    with pytest.raises(VolumeTooLargeError, match="MiB a phase"):
        read_cine(path)
