"""DICOM as a scanner sends it, made up: small images of noise, each of which can be told from all others."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pydicom
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.sequence import Sequence
from pydicom.uid import ExplicitVRBigEndian, ExplicitVRLittleEndian

from prato.dicom.importer import Report

LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
MR, ENHANCED = "1.2.840.10008.5.1.4.1.1.4", "1.2.840.10008.5.1.4.1.1.4.1"
#: What must never be found in what is written.
NAME, NUMBER, BIRTH = "Møller^Ånna", "MRN-4711-X", "19530417"
#: Across the heart, as most short axes lie; and the views that lie along it or along the body.
SHORT_AXIS = (-0.104592, 0.346381, -0.932245, -0.733192, -0.660188, -0.163037)
FOUR_CHAMBER = (0.661241, -0.621166, -0.420790, 0.306711, -0.288123, 0.907147)
AXIAL, SAGITTAL = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0), (0.0, 1.0, 0.0, 0.0, 0.0, -1.0)


def uid(*parts: object) -> str:
    """The same for the same ``parts``."""
    return pydicom.uid.generate_uid(prefix="1.2.826.0.1.3680043.10.1.", entropy_srcs=[str(part) for part in parts])


@dataclass(frozen=True)
class Scan:
    """One series: ``slices`` positions ``gap`` mm apart along the normal, each in ``phases`` phases."""

    number: int = 1
    study: str = "study"
    patient: str = NUMBER
    slices: int = 5
    phases: int = 8
    orientation: tuple[float, ...] = SHORT_AXIS
    rows: int = 12
    columns: int = 10
    spacing: tuple[float, float] = (1.5, 1.25)
    gap: float = 8.0
    origin: tuple[float, ...] = (12.5, -80.25, 130.0)
    rr_ms: float = 800.0
    description: str = ""
    first_slice: int = 0
    extra: dict[str, Any] = field(default_factory=dict)

    @property
    def normal(self) -> np.ndarray:
        """Right-handed, as the importer counts slices."""
        normal = np.cross(self.orientation[:3], self.orientation[3:])
        return normal / np.linalg.norm(normal)

    def pixels(self, k: int, t: int) -> np.ndarray:
        """(rows, columns) of slice ``k`` in phase ``t``."""
        return np.random.default_rng([self.number, k, t]).integers(0, 4000, (self.rows, self.columns)).astype(np.uint16)

    def position(self, k: int) -> list[float]:
        """Of the first pixel of slice ``k``, as a header has it."""
        return [round(float(v), 5) for v in np.array(self.origin) + self.normal * self.gap * (k + self.first_slice)]

    def array(self) -> np.ndarray:
        """(columns, rows, slices, phases): what must come out."""
        return np.stack([np.stack([self.pixels(k, t).T for k in range(self.slices)], 2) for t in range(self.phases)], 3)

    def image(self, k: int, t: int) -> FileDataset:
        """One classic MR image."""
        meta = FileMetaDataset()
        meta.MediaStorageSOPClassUID, meta.TransferSyntaxUID = MR, ExplicitVRLittleEndian
        meta.MediaStorageSOPInstanceUID = uid(self.study, self.number, k, t)
        ds = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
        ds.is_little_endian, ds.is_implicit_VR = True, False
        ds.SpecificCharacterSet = "ISO_IR 192"
        ds.SOPClassUID, ds.SOPInstanceUID, ds.Modality = MR, meta.MediaStorageSOPInstanceUID, "MR"
        self._describe(ds)
        ds.ImageType = ["ORIGINAL", "PRIMARY", "M"]
        ds.SliceThickness, ds.EchoTime = 8.0, 1.5
        ds.InstanceNumber = 1 + k * self.phases + t
        ds.TriggerTime = round(20 + k * 0.4 + t * self.rr_ms / self.phases, 3)  # they differ a little from slice to slice
        ds.NominalInterval = int(self.rr_ms)
        ds.ImagePositionPatient, ds.ImageOrientationPatient = self.position(k), list(self.orientation)
        ds.PixelSpacing = list(self.spacing)
        _set_pixels(ds, self.pixels(k, t))
        for name, value in self.extra.items():
            setattr(ds, name, value)
        return ds

    def images(self) -> list[FileDataset]:
        """All of them, slice by slice."""
        return [self.image(k, t) for k in range(self.slices) for t in range(self.phases)]

    def one_series_a_slice(self) -> list[FileDataset]:
        """The same images, each slice as a series of its own."""
        found = []
        for k in range(self.slices):
            for t in range(self.phases):
                ds = self.image(k, t)
                ds.SeriesInstanceUID, ds.SeriesNumber, ds.InstanceNumber = uid(self.study, self.number, "slice", k), 100 + k, t + 1
                found.append(ds)
        return found

    def enhanced(self, shuffled: bool = True) -> FileDataset:
        """The same images as one enhanced multi-frame object, its frames in no order, or phase by phase."""
        ds = self.image(0, 0)
        for name in ("TriggerTime", "NominalInterval", "ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "EchoTime"):
            delattr(ds, name)
        ds.SOPClassUID = ds.file_meta.MediaStorageSOPClassUID = ENHANCED
        order = np.arange(self.slices * self.phases).reshape(self.slices, self.phases).T.ravel()
        if shuffled:
            order = np.random.default_rng(7).permutation(len(order))
        ds.NumberOfFrames = len(order)
        shared = Dataset()
        shared.PlaneOrientationSequence = Sequence([_item(ImageOrientationPatient=list(self.orientation))])
        shared.PixelMeasuresSequence = Sequence([_item(PixelSpacing=list(self.spacing), SliceThickness=8.0)])
        ds.SharedFunctionalGroupsSequence = Sequence([shared])
        pointers = (0x00209056, 0x00209057, 0x00209128)  # stack, position in it, time
        ds.DimensionIndexSequence = Sequence([_item(DimensionIndexPointer=tag, FunctionalGroupPointer=0x00209111) for tag in pointers])
        groups = []
        for n in order:
            k, t = divmod(int(n), self.phases)
            group = Dataset()
            group.PlanePositionSequence = Sequence([_item(ImagePositionPatient=self.position(k))])
            content: dict[str, Any] = {"StackID": "1", "InStackPositionNumber": k + 1, "TemporalPositionIndex": t + 1}
            content["DimensionIndexValues"] = [1, k + 1, t + 1]
            group.FrameContentSequence = Sequence([_item(**content)])
            timing = _item(NominalCardiacTriggerDelayTime=t * self.rr_ms / self.phases, RRIntervalTimeNominal=self.rr_ms)
            group.CardiacSynchronizationSequence = Sequence([timing])
            groups.append(group)
        ds.PerFrameFunctionalGroupsSequence = Sequence(groups)
        ds.PixelData = np.stack([self.pixels(*divmod(int(n), self.phases)) for n in order]).tobytes()
        return ds

    def _describe(self, ds: Dataset) -> None:
        ds.PatientName, ds.PatientID, ds.PatientBirthDate = NAME, self.patient, BIRTH
        ds.StudyDate, ds.StudyTime, ds.AccessionNumber = "20240229", "101112", "ACC-99"
        ds.StudyInstanceUID, ds.SeriesInstanceUID = uid(self.study), uid(self.study, self.number)
        ds.FrameOfReferenceUID = uid(self.study, "frame")
        ds.SeriesNumber, ds.SeriesDescription = self.number, self.description or f"series of {NAME}"


def _item(**values: Any) -> Dataset:
    item = Dataset()
    for name, value in values.items():
        setattr(item, name, value)
    return item


def _set_pixels(ds: Dataset, pixels: np.ndarray) -> None:
    ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, "MONOCHROME2"
    ds.Rows, ds.Columns = pixels.shape
    ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 16, 12, 11, 0
    ds.PixelData = pixels.tobytes()


def to_big_endian(ds: FileDataset) -> FileDataset:
    """The same image in the other byte order."""
    ds.PixelData = np.frombuffer(ds.PixelData, "<u2").astype(">u2").tobytes()
    ds.file_meta.TransferSyntaxUID, ds.is_little_endian = ExplicitVRBigEndian, False
    return ds


def to_bytes(ds: FileDataset) -> bytes:
    """The file."""
    stream = io.BytesIO()
    pydicom.dcmwrite(stream, ds, write_like_original=False)
    return stream.getvalue()


def save(folder: Path, images: Iterable[FileDataset], name: Callable[[int], str] = "im{:05d}".format, seed: int = 3) -> Path:
    """Write ``images`` in random order, under names that say nothing, to ``folder``, which is returned."""
    folder.mkdir(parents=True, exist_ok=True)
    every = list(images)
    start = len(list(folder.iterdir()))
    for n, index in enumerate(np.random.default_rng(seed).permutation(len(every))):
        (folder / name(start + n)).write_bytes(to_bytes(every[index]))
    return folder


def decoys() -> list[FileDataset]:
    """What an examination holds besides the cine: scouts, long axes, flow, late enhancement, perfusion, a sagittal stack."""
    cine = Scan()
    scouts = [Scan(2, phases=1, slices=3, orientation=o, description="scout") for o in (AXIAL, SAGITTAL, (1.0, 0.0, 0.0, 0.0, 0.0, -1.0))]
    found = [replace(scan, origin=(n, 0.0, 0.0)).image(k, 0) for n, scan in enumerate(scouts) for k in range(3)]
    for n, ds in enumerate(found):
        ds.InstanceNumber, ds.SOPInstanceUID = n + 1, uid("scout", n)
    found += Scan(3, slices=1, orientation=FOUR_CHAMBER, description="4ch").images()
    found += Scan(4, slices=4, orientation=SAGITTAL, description="aorta").images()
    flow = [(ds, kind) for kind in "MP" for ds in Scan(6, slices=1, description="flow").images()]
    for n, (ds, kind) in enumerate(flow):
        ds.ImageType, ds.SOPInstanceUID, ds.InstanceNumber = ["ORIGINAL", "PRIMARY", kind], uid("flow", n), n + 1
    found += [ds for ds, _ in flow]
    found += replace(cine, number=7, phases=1, description="LGE").images()
    for n, ds in enumerate(replace(cine, number=8, slices=3, phases=30, description="first pass").images()):
        ds.TriggerTime = 30.0
        ds.AcquisitionTime = f"1011{(n % 30) * 0.9:09.6f}"
        found.append(ds)
    return found


def record_of(parts: str | list[str]) -> Dataset:
    """A DICOMDIR's record of the file ``parts``."""
    return _item(DirectoryRecordType="IMAGE", ReferencedFileID=parts)


def only(report: Report, target: Path) -> tuple[nib.Nifti1Image, dict[str, Any]]:
    """The one cine that was imported, and its sidecar."""
    [cine] = report.imported
    sidecar = json.loads((target / f"{cine.study}.json").read_text(encoding="utf-8"))
    return nib.load(target / f"{cine.study}.nii.gz"), sidecar


def check(scan: Scan, report: Report, target: Path) -> None:
    """Every intensity lies where the scanner said, and the grid is right-handed."""
    image, _ = only(report, target)
    assert np.array_equal(np.asarray(image.dataobj), scan.array())
    assert np.linalg.det(image.affine[:3, :3]) > 0
    for k in (0, scan.slices - 1):
        for column, row in ((0, 0), (scan.columns - 1, scan.rows - 1)):
            along = np.reshape(scan.orientation, (2, 3))
            lps = np.array(scan.position(k)) + along[0] * scan.spacing[1] * column + along[1] * scan.spacing[0] * row
            assert np.allclose(image.affine @ [column, row, k, 1], LPS_TO_RAS @ [*lps, 1], atol=0.01)
