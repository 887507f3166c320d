"""Labels that cannot go out as DICOM get a sentence, and cost themselves alone."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from pydicom.datadict import dictionary_VR, tag_for_keyword
from pydicom.dataset import FileDataset

from prato.data.nifti import read_volume, write_volume
from prato.dicom.importer import import_dicom
from tests.prato.dicom.labels.test_export_dicom import SCAN, draw, export, imported, read, submit
from tests.prato.dicom.scans import NUMBER, save

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")  # pydicom, of UIDs that break a rule


def test_a_damaged_object_in_the_target_costs_its_own_cine_alone(tmp_path: Path) -> None:
    source = save(save(tmp_path / "in", SCAN.images()), replace(SCAN, study="b", patient="another").images())
    first, second = sorted(cine.study[:-3] for cine in import_dicom(source, tmp_path / "cines", phases="ed,es").imported)
    studies = tmp_path / "cines" / "phases"
    for name in (first, second):
        submit(studies, f"{name}_frame01", draw(1, (SCAN.columns, SCAN.rows, SCAN.slices)))
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / f"{second}_frame01_seg_1.dcm").write_bytes(b"no DICOM")
    said = export(studies, tmp_path / "out", source, code=1)
    assert f"{second} is left out" in said and "is damaged" in said
    assert {path.name[: len(first)] for path in (tmp_path / "out").glob("*_report_*.dcm")} == {first}


@pytest.mark.parametrize(
    ("tags", "blanked"),
    [
        ({"LossyImageCompression": "01"}, ""),  # nobody says how much, or how, as many scanners and archives do not
        ({"LossyImageCompression": "01", "LossyImageCompressionRatio": 10}, ""),
        ({"PatientWeight": "70,5"}, "PatientWeight"),
        ({"SeriesNumber": 2**31 - 1}, ""),
        ({"TimezoneOffsetFromUTC": "CET"}, "TimezoneOffsetFromUTC"),
    ],
)
def test_what_the_source_leaves_out_or_writes_wrongly_costs_no_export(tmp_path: Path, tags: dict[str, object], blanked: str) -> None:
    def with_tags(ds: FileDataset) -> FileDataset:
        for name, value in tags.items():
            ds.add_new(tag_for_keyword(name), "LO" if blanked else dictionary_VR(name), value)  # as programs that do not know it write it
        return ds

    source, studies, names = imported(tmp_path, map(with_tags, SCAN.images()))
    submit(studies, names[0], draw(1, (SCAN.columns, SCAN.rows, SCAN.slices)))
    said = export(studies, tmp_path / "out", source)
    assert f"left empty: {blanked}." in said if blanked else "left empty" not in said
    [seg] = read(tmp_path / "out")
    assert seg.PatientID == NUMBER and seg.get("LossyImageCompression", "00") == tags.get("LossyImageCompression", "00")
    assert int(seg.SeriesNumber) < 2**31


@pytest.mark.parametrize(
    "case",
    [
        "other source",
        "no sidecar",
        "damaged sidecar",
        "a name that leads elsewhere",
        "no instance UIDs",
        "no study UID",
        "other image",
        "other voxels",
        "no labels",
        "no folder",
        "no address",
    ],
)
def test_what_cannot_be_exported_gets_a_sentence(tmp_path: Path, case: str) -> None:
    source, studies, names = imported(tmp_path, SCAN.images())
    if case != "no labels":
        submit(studies, names[0], draw(1, (SCAN.columns, SCAN.rows, SCAN.slices)))
    [sidecar] = (tmp_path / "cines").glob("*_4d.json")
    if case == "other source":
        source = save(tmp_path / "other", replace(SCAN, study="another").images())
    elif case == "no sidecar":
        sidecar.unlink()
    elif case == "damaged sidecar":
        sidecar.write_text(sidecar.read_text()[:-40])
    elif case == "a name that leads elsewhere":
        sidecar.write_text(json.dumps({**json.loads(sidecar.read_text()), "study": "../elsewhere"}))
    elif case == "no study UID":
        content = json.loads(sidecar.read_text())
        content["dicom"]["study_instance_uid"] = ""
        sidecar.write_text(json.dumps(content))
    elif case == "no instance UIDs":  # nor have those of another patient
        text = json.loads(sidecar.read_text())
        text["dicom"]["sop_instance_uids"] = [[""] * SCAN.phases] * SCAN.slices
        sidecar.write_text(json.dumps(text))
        others = replace(SCAN, patient="another").images()
        for ds in others:
            ds.SOPInstanceUID = ""
        source = save(tmp_path / "other", others)
    elif case == "other image":
        text = json.loads(sidecar.read_text())
        text["affine_ras_mm"][0][3] += 1
        sidecar.write_text(json.dumps(text))
    elif case == "other voxels":
        volume = read_volume(image := studies / f"{names[0]}.nii.gz")
        write_volume(image, volume.array[::-1], volume.affine)
    elif case == "no folder":
        studies = tmp_path / "nowhere"
    before = set(tmp_path.iterdir())
    said = export(studies, tmp_path / "out", "http://[::1" if case == "no address" else source, code=2)
    sentences = {
        "other source": "the source has none of its images",
        "no sidecar": "was not imported from DICOM",
        "damaged sidecar": "is not a sidecar of prato-label/cine/1",
        "a name that leads elsewhere": "its study's name cannot be a part of a file's",
        "no instance UIDs": "its DICOM images have no SOP instance UIDs",
        "no study UID": "its DICOM images have no UIDs of their examination and series",
        "no address": "The PACS's address is not valid",
        "other image": "it lies 1.00 mm off the DICOM images",
        "other voxels": "its voxels have other values than the DICOM images",
        "no labels": "There are no final labels",
        "no folder": "is not a folder",
    }
    assert sentences[case] in said
    assert set(tmp_path.iterdir()) == before
