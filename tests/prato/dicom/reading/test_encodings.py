"""Pixels as scanners and archives store them: byte orders, rescaled values, compression without loss and with it."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset
from pydicom.filebase import DicomFileLike
from pydicom.filewriter import write_dataset

from prato.dicom.importer import import_dicom
from tests.prato.dicom.scans import Scan, check, only, save, to_big_endian


def test_big_endian(tmp_path: Path) -> None:
    scan = Scan()
    report = import_dicom(save(tmp_path / "in", map(to_big_endian, scan.images())), tmp_path / "out")
    check(scan, report, tmp_path / "out")
    assert report.left_out == report.refused == report.warnings == []


@pytest.mark.parametrize("is_implicit", [False, True])
def test_files_without_a_preamble(tmp_path: Path, is_implicit: bool) -> None:
    scan, source = Scan(), tmp_path / "in"
    source.mkdir()
    for n, ds in enumerate(scan.images()):
        ds.is_implicit_VR = is_implicit
        with DicomFileLike(io.BytesIO()) as stream:
            stream.is_little_endian, stream.is_implicit_VR = True, is_implicit
            write_dataset(stream, Dataset(ds, is_implicit_VR=is_implicit, is_little_endian=True))
            (source / f"{n}").write_bytes(stream.parent.getvalue())
    report = import_dicom(source, tmp_path / "out")
    check(scan, report, tmp_path / "out")
    assert report.left_out == report.refused == report.warnings == []


@pytest.mark.parametrize("missing", [{"NumberOfFrames": 0}, {"SamplesPerPixel": None}, {"PhotometricInterpretation": None}])
def test_what_goes_without_saying_need_not_be_said(tmp_path: Path, missing: dict[str, Any]) -> None:
    scan = Scan(extra=missing)
    report = import_dicom(save(tmp_path / "in", scan.images()), tmp_path / "out")
    check(scan, report, tmp_path / "out")
    assert report.left_out == report.refused == report.warnings == []


def test_rescaled_values(tmp_path: Path) -> None:
    scan = Scan(extra={"RescaleSlope": 0.5, "RescaleIntercept": -10})
    report = import_dicom(save(tmp_path / "in", scan.images()), tmp_path / "out")
    image, _ = only(report, tmp_path / "out")
    assert image.get_data_dtype() == np.float32
    assert np.array_equal(np.asarray(image.dataobj), scan.array() * 0.5 - 10)


@pytest.mark.parametrize("signed", [False, True])
def test_where_the_smallest_value_is_white_bright_blood_is_bright_all_the_same(tmp_path: Path, signed: bool) -> None:
    scan, images = Scan(), Scan().images()
    for ds in images:
        stored = 4095 - np.frombuffer(ds.PixelData, "<u2").astype(np.int16)
        ds.PixelData = (stored - 2048 if signed else stored).astype("<i2").tobytes()
        ds.PhotometricInterpretation, ds.PixelRepresentation = "MONOCHROME1", int(signed)
    report = import_dicom(save(tmp_path / "in", images), tmp_path / "out")
    image, _ = only(report, tmp_path / "out")
    assert np.array_equal(np.asarray(image.dataobj), scan.array().astype(int) - 2048 * signed)


@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("swap", [False, True])
def test_bits_beside_the_values_such_as_overlays_do_not_count(tmp_path: Path, signed: bool, swap: bool) -> None:
    scan, images = Scan(), Scan().images()
    for n, ds in enumerate(images):
        values = np.frombuffer(ds.PixelData, "<u2").astype(np.int32) - 2048 * signed
        drawn = np.random.default_rng(n).integers(0, 8, values.size)
        ds.PixelData = ((values & 0xFFF) << 1 | drawn << 13 | drawn & 1).astype("<u2").tobytes()
        ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 12, 12, int(signed)
    report = import_dicom(save(tmp_path / "in", map(to_big_endian, images) if swap else images), tmp_path / "out")
    image, _ = only(report, tmp_path / "out")
    assert np.array_equal(np.asarray(image.dataobj), scan.array().astype(int) - 2048 * signed)


def invert(ds: Any) -> None:
    """Store the image with its smallest value for white."""
    ds.PixelData = (4095 - np.frombuffer(ds.PixelData, "<u2")).astype("<u2").tobytes()
    ds.PhotometricInterpretation = "MONOCHROME1"


def test_inverted_slices_of_different_scales_are_in_one_range(tmp_path: Path) -> None:
    scan, images = Scan(), Scan().images()
    for n, ds in enumerate(images):
        ds.PixelData = (np.frombuffer(ds.PixelData, "<u2") // 4 * 4).astype("<u2").tobytes()
        invert(ds)
        slope = (1, 3)[n // scan.phases % 2]
        ds.PixelData = (np.frombuffer(ds.PixelData, "<u2") // slope).astype("<u2").tobytes()
        ds.RescaleSlope, ds.RescaleIntercept = slope, 5
    image, _ = only(import_dicom(save(tmp_path / "in", images), tmp_path / "out"), tmp_path / "out")
    apart = np.asarray(image.dataobj) - scan.array()
    assert np.ptp(apart) <= 2 * 3  # what the slopes round off


@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("is_inverted", [False, True])
def test_an_overlay_in_the_unused_bits_is_no_part_of_the_image(tmp_path: Path, signed: bool, is_inverted: bool) -> None:
    scan, images = Scan(), Scan().images()
    for ds in images:
        if is_inverted:
            invert(ds)
        stored = np.frombuffer(ds.PixelData, "<u2").astype(np.int16) - 2048 * signed
        drawn = (np.arange(stored.size) % 3 == 0) * 0x1000
        ds.PixelData = (stored & 0x0FFF | drawn).astype("<u2").tobytes()
        ds.PixelRepresentation = int(signed)
        ds.add_new((0x6000, 0x0102), "US", 12)
    image, _ = only(import_dicom(save(tmp_path / "in", images), tmp_path / "out"), tmp_path / "out")
    assert np.array_equal(np.asarray(image.dataobj), scan.array().astype(int) - 2048 * signed)


def gdcm_syntax(name: str) -> Any:
    gdcm = pytest.importorskip("gdcm", reason="python-gdcm is not installed: pip install -r requirements.txt")
    return gdcm, gdcm.TransferSyntax(getattr(gdcm.TransferSyntax, name))


@pytest.mark.parametrize(
    "syntax",
    [
        "JPEGLosslessProcess14_1",
        "JPEGLosslessProcess14",
        "JPEGLSLossless",
        "JPEG2000Lossless",
        "RLELossless",
        "DeflatedExplicitVRLittleEndian",
    ],
)
def test_compressed_without_loss(tmp_path: Path, syntax: str) -> None:
    gdcm, wanted = gdcm_syntax(syntax)
    scan = Scan(slices=3, phases=6, rows=32, columns=24)
    for path in save(tmp_path / "in", scan.images()).iterdir():
        compress(gdcm, wanted, path)
    report = import_dicom(tmp_path / "in", tmp_path / "out")
    check(scan, report, tmp_path / "out")
    assert only(report, tmp_path / "out")[1]["lossy"] is False


def compress(gdcm: Any, syntax: Any, path: Path) -> None:
    reader = gdcm.ImageReader()
    reader.SetFileName(str(path))
    assert reader.Read()
    change = gdcm.ImageChangeTransferSyntax()
    change.SetTransferSyntax(syntax)
    change.SetInput(reader.GetImage())
    assert change.Change()
    writer = gdcm.ImageWriter()
    writer.SetFileName(str(path))
    writer.SetFile(reader.GetFile())
    writer.SetImage(change.GetOutput())
    assert writer.Write()


def test_lossy_images_are_taken_with_a_warning(tmp_path: Path) -> None:
    scan = Scan(extra={"LossyImageCompression": "01"})
    report = import_dicom(save(tmp_path / "in", scan.images()), tmp_path / "out")
    check(scan, report, tmp_path / "out")
    assert only(report, tmp_path / "out")[1]["lossy"] is True
    assert any("compressed with loss" in note for note in report.imported[0].notes)


@pytest.mark.parametrize("syntax", ["JPEGExtendedProcess2_4", "JPEGLSNearLossless"])
def test_compression_that_always_loses_is_lossy_whatever_the_header_says(tmp_path: Path, syntax: str) -> None:
    gdcm, wanted = gdcm_syntax(syntax)
    for path in save(tmp_path / "in", Scan(slices=3, phases=6, rows=32, columns=24).images()).iterdir():
        compress(gdcm, wanted, path)
        ds = pydicom.dcmread(path)
        ds.pop("LossyImageCompression", None)
        ds.save_as(path)
    report = import_dicom(tmp_path / "in", tmp_path / "out")
    assert only(report, tmp_path / "out")[1]["lossy"] is True
