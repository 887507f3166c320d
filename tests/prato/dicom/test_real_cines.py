"""Real short-axis cines as DICOM (Sunnybrook Cardiac Data), and dcm2niix on the same files: the same intensity at the same place."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import warnings
from pathlib import Path

import highdicom
import nibabel as nib
import numpy as np
import pydicom
import pytest

from prato.data.nifti import read_volume
from prato.dicom.importer import import_dicom
from prato.dicom.labels.exporter import export_labels
from prato.dicom.labels.labelled_cines import find_references
from prato.dicom.origin.patient import find_examinations
from prato.dicom.reading.files import open_source
from prato.labelling.versions import LabelVersions
from tests.prato.dicom.scans import Scan, decoys, save
from tests.real_data import require_real_data

CASES = {"SCD0000101": (12, 20), "SCD0000301": (10, 20)}


@pytest.fixture
def scan(request: pytest.FixtureRequest) -> Path:
    return require_real_data(f"sunnybrook_dicom/{request.param}")


def world_values(image: nib.Nifti1Image, points: np.ndarray) -> tuple[np.ndarray, float]:
    """The values (N, T) of ``image`` at the RAS ``points`` (N, 3), and how far from them their voxels' centres lie at most, mm."""
    ijk = (np.linalg.inv(image.affine) @ np.c_[points, np.ones(len(points))].T).T[:, :3]
    nearest = np.rint(ijk).astype(int)
    off = np.linalg.norm((nearest - ijk) @ image.affine[:3, :3].T, axis=1)
    return np.asarray(image.dataobj)[tuple(nearest.T)], float(off.max())


def grid_points(image: nib.Nifti1Image) -> np.ndarray:
    """The RAS centres (N, 3) of all voxels."""
    ijk = np.stack(np.meshgrid(*map(np.arange, image.shape[:3]), indexing="ij"), -1).reshape(-1, 3)
    return ijk @ image.affine[:3, :3].T + image.affine[:3, 3]


def run_dcm2niix(source: Path, folder: Path) -> nib.Nifti1Image:
    """What dcm2niix makes of ``source``."""
    module = pytest.importorskip("dcm2niix", reason="dcm2niix is not installed: pip install -r tests/requirements.txt")
    folder.mkdir()
    command = [module.bin, "-z", "n", "-p", "n", "-f", "x", "-o", str(folder), str(source)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    found = list(folder.glob("*.nii"))
    assert len(found) == 1, done.stdout
    return nib.load(found[0])


def check_against_dcm2niix(source: Path, ours: nib.Nifti1Image, folder: Path) -> None:
    """The same intensity at the same place, within .01 mm."""
    theirs = run_dcm2niix(source, folder / "theirs")
    values, off = world_values(theirs, grid_points(ours))
    assert off < 0.01
    assert np.array_equal(np.asarray(ours.dataobj).reshape(values.shape), values)


@pytest.mark.slow
@pytest.mark.parametrize("scan", CASES, indirect=True)
def test_a_real_cine_renamed_and_among_decoys(scan: Path, tmp_path: Path) -> None:
    tagged = Scan(77, study="decoys", slices=3, phases=20, description="tagging")
    source = save(tmp_path / "in", [*decoys(), *tagged.images()], name="{:05d}".format)
    files = sorted(scan.glob("*.dcm"))
    for n in np.random.default_rng(1).permutation(len(files)):
        (source / f"x{n * 7919 % 10007}").symlink_to(files[n])
    report = import_dicom(source, tmp_path / "out", phases="ed,es")
    [cine] = [cine for cine in report.imported if (cine.slices, cine.phases) == CASES[scan.name]]
    assert report.refused == []
    image = nib.load(tmp_path / "out" / f"{cine.study}.nii.gz")
    sidecar = json.loads((tmp_path / "out" / f"{cine.study}.json").read_text())
    assert np.linalg.det(image.affine[:3, :3]) > 0
    assert image.header["pixdim"][4] == pytest.approx(sidecar["rr_interval_ms"] / 20000, rel=0.03)
    assert sidecar["dicom"]["uids_are_valid"] is False
    assert scan.name not in json.dumps(sidecar)
    instances = {str(pydicom.dcmread(path, specific_tags=["SOPInstanceUID"]).SOPInstanceUID): path for path in files}
    for k, t in ((0, 0), (5, 7), (CASES[scan.name][0] - 1, 19)):  # the voxels of an instance are its pixels
        ds = pydicom.dcmread(instances[sidecar["dicom"]["sop_instance_uids"][k][t]])
        assert np.array_equal(np.asarray(image.dataobj)[:, :, k, t].T, ds.pixel_array)
        assert [float(v) for v in ds.ImagePositionPatient] == sidecar["dicom"]["image_position_patient"][k]
    drawn = {int(m[1]) for path in (scan.parent / "contours" / scan.name).rglob("*.txt") if (m := re.search(r"IM-0001-(\d+)-", path.name))}
    systole = min({(number - 1) % 20 for number in drawn}, key=lambda t: abs(t - 7))  # the experts drew end diastole and end systole
    assert abs(int(re.search(r"frame (\d+) as end-systole", " ".join(cine.notes))[1]) - 1 - systole) <= 2
    reversed_source = tmp_path / "reversed"
    reversed_source.mkdir()
    for path in files:
        shutil.copy(path, reversed_source / f"{9999 - int(path.stem)}.dcm")
    check_against_dcm2niix(reversed_source, image, tmp_path)


@pytest.mark.parametrize("kind", ["classic", "enhanced"])
def test_dcm2niix_on_generated_scans(kind: str, tmp_path: Path) -> None:
    scan = Scan(rows=24, columns=20, slices=6)
    source = save(tmp_path / "in", scan.images() if kind == "classic" else [scan.enhanced(shuffled=False)], name="{}.dcm".format)
    [cine] = import_dicom(source, tmp_path / "out").imported
    assert (cine.slices, cine.phases) == (scan.slices, scan.phases)
    check_against_dcm2niix(source, nib.load(tmp_path / "out" / f"{cine.study}.nii.gz"), tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("scan", CASES, indirect=True)
def test_labels_on_a_real_cine_go_back_to_it(scan: Path, tmp_path: Path) -> None:
    import_dicom(scan, tmp_path / "cines", phases="ed,es")
    studies = tmp_path / "cines" / "phases"
    masks = {}
    for path in studies.glob("*.nii.gz"):
        image = read_volume(path)
        mask = np.zeros(image.array.shape, np.uint8)
        mask[100:140, 110:150, 2:7], mask[110:130, 120:140, 2:7], mask[70:100, 110:150, 3:6] = 2, 3, 1
        LabelVersions(studies, path.name[:-7]).save(image.with_array(mask), {"annotator": "ann"})
        masks[path.name[:-7]] = mask
    with open_source(scan) as files:
        report = export_labels(studies, tmp_path / "out", find_examinations(files, find_references(studies)))
    assert report.left_out == [] and len(report.written) == 1
    sidecar = json.loads(next((tmp_path / "cines").glob("*_4d.json")).read_text())
    invalid = not sidecar["dicom"]["uids_are_valid"]
    assert any("UIDs of the source break DICOM's rules" in line for line in report.warnings) == invalid
    for name, mask in masks.items():
        [path] = (tmp_path / "out").glob(f"*{name[-8:]}_seg_*.dcm")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            seg = highdicom.seg.segread(path)
            sources = [row[int(name[-2:]) - 1] for row in sidecar["dicom"]["sop_instance_uids"]][2:7]
            pixels = seg.get_pixels_by_source_instance(sources, combine_segments=True)
        assert np.array_equal(pixels.transpose(2, 1, 0), mask[:, :, 2:7])
    if shutil.which("dciodvfy") is None:
        pytest.skip("dciodvfy is not installed: apt-get install dicom3tools")
    for path in (tmp_path / "out").glob("*.dcm"):
        said = subprocess.run(["dciodvfy", str(path)], capture_output=True, text=True, check=False).stderr.splitlines()
        errors = [line for line in said if "Error" in line and "Leading zeroes in embedded numeric component" not in line]
        assert [line for line in errors if not (invalid and "invalid data values for Value Rep" in line)] == []
