"""Labels that users have as DICOM SEG: each finds the study and the phase that it was drawn on, and is the mask that was drawn."""

from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset
from pydicom.sr.coding import Code

from prato.data.cine import read_cine, write_cine
from prato.data.nifti import write_volume
from prato.dicom.labels.codes import STRUCTURE_CODES
from prato.labelling.versions import LabelVersions
from tests.prato.dicom.labels.label_folders import LAYOUTS, SCAN, SHAPE, Folders, cine_of
from tests.prato.dicom.labels.segs import VALUES, forget_images, join, make_seg, set_frames, to_label_map
from tests.prato.dicom.labels.test_export_dicom import draw, export, submit
from tests.prato.dicom.scans import uid

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")  # pydicom, of UIDs that break a rule


@pytest.mark.slow
@pytest.mark.parametrize("layout", LAYOUTS)
def test_what_was_exported_comes_back_voxel_for_voxel(tmp_path: Path, layout: str) -> None:
    one, other = Folders(tmp_path / "a", LAYOUTS[layout]()), Folders(tmp_path / "b", LAYOUTS[layout]())
    mask = cine_of(p0=draw(1, SHAPE), p4=draw(2, SHAPE))
    grid = read_cine(one.studies / f"{one.study}.nii.gz").grid()
    LabelVersions(one.studies, one.study).save(grid.with_array(mask), {"annotator": "Ada", "phases": [0, 4]})
    export(one.studies, other.masks, one.source, "--corrected")
    said, left_out = other.take()
    assert "2 labels are stored." in said and "1 DICOM file holds no label, as images and reports do not." in said and not left_out
    assert other.label().dtype == np.uint8 and np.array_equal(other.label(), mask)
    files = [folders.studies / "labels" / "final" / f"{folders.study}.nii.gz" for folders in (one, other)]
    assert files[0].read_bytes() == files[1].read_bytes()
    assert "0 labels are stored, 2 were there already." in other.take()[0]
    assert "2 labels are stored." in other.take(0, other.phases)[0]  # and as labels of single phases
    for t in (0, 4):
        assert np.array_equal(other.label(f"{one.study.removesuffix('_4d')}_frame{t + 1:02d}", other.phases), mask[..., t])


@pytest.mark.slow
def test_labels_of_single_phases_come_back_and_a_corrected_one_takes_the_place_of_the_former(folders: Folders, tmp_path: Path) -> None:
    study = f"{folders.study.removesuffix('_4d')}_frame03"
    for seed in (1, 2):
        submit(folders.phases, study, draw(seed, SHAPE))
        export(folders.phases, folders.masks, folders.source)
    said, _ = folders.take()
    assert "1 label is stored." in said and "takes its place, as that one says" in said
    assert np.array_equal(folders.label(), cine_of(p2=draw(2, SHAPE)))
    assert folders.states() == {2: "corrected"}


@pytest.mark.slow
def test_the_folder_of_single_phases_may_be_the_one_that_somebody_is_in(folders: Folders, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folders.phases)
    study = f"{folders.study.removesuffix('_4d')}_frame03"
    submit(Path(), study, draw(1, SHAPE))
    export(Path(), folders.masks, folders.source)
    assert "0 labels are stored, 1 was there already." in folders.take(0, Path())[0]


def test_segments_are_known_by_their_names_whatever_their_numbers(folders: Folders) -> None:
    numbers = draw(3, SHAPE)
    folders.put(make_seg(SCAN, numbers, phase=5))
    folders.take(0, None, "--annotator", "Ada")
    assert np.array_equal(folders.label(), cine_of(p5=VALUES[numbers]))
    [version] = LabelVersions(folders.studies, folders.study).all()
    assert (version.annotator, version.params["imported_from"], version.phases[5].editor) == ("Ada", "IM1", "Ada")


@pytest.mark.parametrize(
    "code",
    [STRUCTURE_CODES["LV cavity"], Code("T-32600", "SRT", "Left ventricle of heart"), Code("X", "99OWN", "Left Ventricle Blood Pool")],
)
def test_a_segment_whose_label_says_nothing_is_known_by_its_code(folders: Folders, code: Code) -> None:
    drawn = draw(4, SHAPE) == 1
    folders.put(make_seg(SCAN, drawn.astype(np.uint8), names={1: ("Segment_1", code)}))
    folders.take()
    assert np.array_equal(folders.label(), cine_of(p0=3 * drawn))


@pytest.mark.slow
def test_several_phases_in_one_object_are_one_version(folders: Folders) -> None:
    numbers = {t: draw(t, SHAPE) for t in (0, 2, 3)}
    folders.put(join([make_seg(SCAN, mask, t) for t, mask in numbers.items()]))
    assert "1 label is stored." in folders.take()[0]
    assert np.array_equal(folders.label(), cine_of(**{f"p{t}": VALUES[mask] for t, mask in numbers.items()}))
    assert len(LabelVersions(folders.studies, folders.study).all()) == 1
    single = folders.phases / f"{folders.study.removesuffix('_4d')}_frame03.nii.gz"
    single.unlink()
    said, left_out = folders.take(1, folders.phases)
    assert "2 labels are stored." in said and "IM1 is left out: " in left_out
    assert left_out.endswith("_frame03, which is no study here.")


@pytest.mark.parametrize("bits", [8, 16])
def test_a_label_map(folders: Folders, bits: int) -> None:
    numbers = draw(6, SHAPE)
    numbers[0, 0] = 1  # in the last slice, too
    seg = to_label_map(make_seg(SCAN, numbers, 1, omit_empty_frames=False), numbers, SCAN, 1, bits)
    background = copy.deepcopy(seg.SegmentSequence[0])
    background.SegmentNumber, background.SegmentLabel = 0, "Background"
    seg.SegmentSequence.insert(0, background)
    folders.put(seg)
    folders.take()
    assert np.array_equal(folders.label(), cine_of(p1=VALUES[numbers]))
    seg.SegmentSequence.pop()
    folders.put(seg)
    assert "It has pixels of segment 3, which it does not describe" in folders.take(1)[1]


def test_bits_count_as_a_byte_each(folders: Folders, monkeypatch: pytest.MonkeyPatch) -> None:
    seg = make_seg(SCAN, draw(7, SHAPE))
    folders.put(seg)
    most = int(seg.NumberOfFrames) * SCAN.rows * SCAN.columns
    monkeypatch.setattr("prato.dicom.reading.pixels._MAX_BYTES", most - 2)
    assert "It holds more voxels" in folders.take(1)[1]
    monkeypatch.setattr("prato.dicom.reading.pixels._MAX_BYTES", most)
    folders.take()


def test_fractions_that_are_all_or_nothing_are_a_mask(folders: Folders) -> None:
    numbers = draw(7, SHAPE)
    folders.put(make_seg(SCAN, numbers, segmentation_type="FRACTIONAL", max_fractional_value=200))
    folders.take()
    assert np.array_equal(folders.label(), cine_of(p0=VALUES[numbers]))


@pytest.mark.parametrize("keep_series", [True, False])
def test_where_no_image_is_named_a_frame_is_found_by_where_it_lies(folders: Folders, keep_series: bool) -> None:
    numbers = draw(8, SHAPE)
    seg = forget_images(make_seg(SCAN, numbers), keep_series)
    folders.put(seg)
    before = folders.files()
    _, left_out = folders.take(1)
    assert "It leaves open on which of 6 phases it was drawn: its name is to say which, as in " in left_out and folders.files() == before
    (folders.masks / "IM1").rename(folders.masks / "heart_frame03.dcm")
    folders.take()
    assert np.array_equal(folders.label(), cine_of(p2=VALUES[numbers]))


def test_a_frame_that_names_the_images_of_all_phases_is_of_none(folders: Folders) -> None:
    seg = make_seg(SCAN, draw(8, SHAPE))
    for group in seg.PerFrameFunctionalGroupsSequence:
        [source] = group.DerivationImageSequence[0].SourceImageSequence
        k = next(k for k in range(SCAN.slices) if source.ReferencedSOPInstanceUID == uid("study", 1, k, 0))
        group.DerivationImageSequence[0].SourceImageSequence = [_named(source, uid("study", 1, k, t)) for t in range(SCAN.phases)]
    folders.put(seg)
    assert "It leaves open on which of 6 phases it was drawn" in folders.take(1)[1]
    (folders.masks / "IM1").rename(folders.masks / "heart_frame03.dcm")
    folders.take()
    assert folders.states() == {2: "corrected"}


def _named(source: Dataset, instance: str) -> Dataset:
    other = copy.deepcopy(source)
    other.ReferencedSOPInstanceUID = instance
    return other


def test_frames_that_are_stored_the_other_way_round_are_turned_back(folders: Folders) -> None:
    numbers = draw(9, SHAPE)
    seg = make_seg(SCAN, numbers, 1)
    pixels = seg.pixel_array[:, :, ::-1]
    plane = seg.SharedFunctionalGroupsSequence[0].PlaneOrientationSequence[0]
    along = np.array(plane.ImageOrientationPatient[:3], float)
    plane.ImageOrientationPatient = [*(-along), *plane.ImageOrientationPatient[3:]]
    moved = set()
    for group in seg.PerFrameFunctionalGroupsSequence:
        position = group.PlanePositionSequence[0]
        if id(position) not in moved:
            moved.add(id(position))
            end = np.array(position.ImagePositionPatient, float) + along * SCAN.spacing[1] * (SCAN.columns - 1)
            position.ImagePositionPatient = [round(v, 6) for v in end]
    set_frames(seg, pixels, seg.PerFrameFunctionalGroupsSequence)
    folders.put(seg)
    folders.take()
    assert np.array_equal(folders.label(), cine_of(p1=VALUES[numbers]))


def test_phases_that_somebody_drew_stay_versions_and_other_phases_stay(folders: Folders) -> None:
    grid = read_cine(folders.studies / f"{folders.study}.nii.gz").grid()
    versions, drawn = LabelVersions(folders.studies, folders.study), cine_of(p0=draw(1, SHAPE), p1=draw(2, SHAPE))
    versions.save(grid.with_array(drawn), {"annotator": "Ada", "phases": [0, 1]})
    numbers = draw(3, SHAPE)
    folders.put(make_seg(SCAN, numbers, 1))
    folders.take()
    assert np.array_equal(folders.label(), cine_of(p0=draw(1, SHAPE), p1=VALUES[numbers]))
    assert np.array_equal(versions.read_volume(1).array, drawn)


def test_what_a_model_proposed_stays_a_proposal(folders: Folders) -> None:
    numbers = draw(3, SHAPE)
    (folders.studies / "labels" / "original").mkdir(parents=True)
    affine = read_cine(folders.studies / f"{folders.study}.nii.gz").grid().affine
    write_cine(folders.studies / "labels" / "original" / f"{folders.study}.nii.gz", cine_of(p1=VALUES[numbers]), affine)
    folders.put(make_seg(SCAN, numbers, 1))
    assert "All that is new in it equals the model's proposal" in folders.take(1)[1] and not folders.states()
    folders.take(0, None, "--accept-proposals")
    assert folders.states() == {1: "corrected"}


@pytest.mark.slow
def test_two_masks_of_one_phase_are_both_left_out_unless_they_are_the_same(folders: Folders) -> None:
    folders.put(make_seg(SCAN, draw(1, SHAPE), 3), "a.dcm")
    folders.put(make_seg(SCAN, draw(2, SHAPE), 3), "b.dcm")
    folders.put(make_seg(SCAN, draw(3, SHAPE), 4), "c.dcm")
    folders.put(make_seg(SCAN, draw(3, SHAPE), 4), "d.dcm")
    said, left_out = folders.take(1)
    assert "1 label is stored." in said and folders.states() == {4: "corrected"}
    assert left_out.splitlines() == [
        f"a.dcm is left out: b.dcm is another mask of phase 3 of {folders.study}: keep only one of them in the folder.",
        f"b.dcm is left out: a.dcm is another mask of phase 3 of {folders.study}: keep only one of them in the folder.",
    ]
    affine = read_cine(folders.studies / f"{folders.study}.nii.gz").grid().affine
    name = f"{folders.study.removesuffix('_4d')}_frame04.nii.gz"
    write_volume(folders.masks / name, VALUES[draw(1, SHAPE)], affine)
    (folders.masks / "b.dcm").unlink()
    said, left_out = folders.take(1, None, "--convention", "acdc")
    assert f"a.dcm is left out: {name} is another mask of phase 3" in left_out and folders.states() == {3: "corrected", 4: "corrected"}


def test_masks_without_names_still_need_a_convention(folders: Folders) -> None:
    affine = read_cine(folders.studies / f"{folders.study}.nii.gz").grid().affine
    write_volume(folders.masks / f"{folders.study.removesuffix('_4d')}_frame04.nii.gz", draw(1, SHAPE), affine)
    folders.put(make_seg(SCAN, draw(1, SHAPE), 2))
    before = folders.files()
    assert "mean: name their convention with --convention." in folders.take(2)[1] and folders.files() == before


def test_what_a_program_made_is_said(folders: Folders) -> None:
    seg = make_seg(SCAN, draw(5, SHAPE), 5)
    for segment in seg.SegmentSequence:
        segment.SegmentAlgorithmType = "AUTOMATIC"
    folders.put(seg)
    assert "1 of the DICOM labels was made by a program, as stated there (AUTOMATIC)" in folders.take()[0]
    assert folders.states() == {5: "corrected"}


@pytest.mark.slow
def test_of_a_multi_frame_object_the_frame_says_which_image(tmp_path: Path) -> None:
    one, other = (Folders(tmp_path / name, [SCAN.enhanced()]) for name in "ab")
    mask = cine_of(p2=draw(1, SHAPE))
    grid = read_cine(one.studies / f"{one.study}.nii.gz").grid()
    LabelVersions(one.studies, one.study).save(grid.with_array(mask), {"annotator": "Ada", "phases": [2]})
    export(one.studies, tmp_path / "out", one.source, "--corrected")
    [seg] = [pydicom.dcmread(path) for path in (tmp_path / "out").glob("*_seg_*.dcm")]
    for group in seg.PerFrameFunctionalGroupsSequence:
        del group.DerivationImageSequence[0].SourceImageSequence[0].ReferencedFrameNumber
    other.put(seg, "a.dcm")
    assert "It leaves open on which of 6 phases it was drawn" in other.take(1)[1]
    (other.masks / "a.dcm").rename(other.masks / "a_frame03.dcm")
    other.take()
    assert np.array_equal(other.label(), mask)


@pytest.mark.slow
def test_what_segments_of_unknown_names_are_is_said_in_a_file(folders: Folders, tmp_path: Path) -> None:
    numbers, atrium = draw(5, SHAPE), STRUCTURE_CODES["LV cavity"]
    folders.put(make_seg(SCAN, numbers, 5, {1: "Kammer links", 2: "Wand", 3: ("LA", atrium)}))
    names = tmp_path / "names.json"
    for content, words in [
        ("[]", 'names.json is no JSON file of names of segments such as {"LA": "background", "Kavum": "LV cavity"}.'),
        ('{"LA": 1}', "names.json is no JSON file of names of segments"),
        ('{"LA": "atrium"}', "names.json names 'atrium': the structures are RV cavity, myocardium, LV cavity, and background."),
    ]:
        names.write_text(content)
        assert words in folders.take(2, None, "--names", str(names))[1]
    assert "It names the segment 'Kammer links'" in folders.take(1)[1]
    names.write_text('{"LA": "background", "Kammer links": "LV", "Wand": "myo"}')
    folders.take(0, None, "--names", str(names))
    assert np.array_equal(folders.label(), cine_of(p5=np.array([0, 3, 2, 0], np.uint8)[numbers]))
