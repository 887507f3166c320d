"""A real Orthanc: its cines are listed and fetched, labels are sent back, and being killed at any moment costs nothing."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset

from prato.dicom.importer import import_dicom
from prato.dicom.labels.labelled_cines import LabelledCine
from prato.dicom.reading.files import DicomError
from prato.pacs import outbox as outbox_module
from prato.pacs.catalog import Catalog
from prato.pacs.fetch import drop_abandoned, fetch_cine, make_room
from prato.pacs.outbox import Outbox
from prato.pacs.web import Pacs, PacsError
from scripts import export_dicom
from tests.prato.dicom.scans import NAME, NUMBER, Scan, decoys, save, uid
from tests.prato.pacs.cines import FILTERS, SCAN, label, only_cine
from tests.prato.pacs.orthanc import PASSWORD, USER, Orthanc
from tests.scripts.cli import run_script
from tests.waiting import wait_until

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore::UserWarning")]


def test_the_cine_among_decoys_is_listed_as_the_importer_calls_it(orthanc: Orthanc, pacs: Pacs, tmp_path: Path) -> None:
    images = [*Scan(9, slices=5).images(), *decoys()]
    orthanc.add(images)
    catalog = Catalog(pacs, tmp_path / "catalog", FILTERS)
    assert catalog.refresh() and not catalog.refresh()
    report = import_dicom(save(tmp_path / "in", images), tmp_path / "out")
    assert list(catalog.cines()) == [report.imported[0].study]
    fetched = fetch_cine(pacs, next(iter(catalog.cines().values())), tmp_path / "folder", tmp_path / "scratch")
    for name in (fetched.name, fetched.name.replace(".nii.gz", ".json")):
        assert (tmp_path / "folder" / name).read_bytes() == (tmp_path / "out" / name).read_bytes()
    assert not list((tmp_path / "scratch").iterdir())
    written = b"".join(path.read_bytes() for path in tmp_path.rglob("*.json") if "in" not in path.parts)
    assert NAME.encode() not in written and NUMBER.encode() not in written


def test_what_is_noted_of_images_that_are_not_fetched_is_noted_all_the_same(orthanc: Orthanc, pacs: Pacs, tmp_path: Path) -> None:
    images = SCAN.one_series_a_slice()
    again = [ds for ds in replace(SCAN, number=2).one_series_a_slice() if ds.ImagePositionPatient == list(SCAN.position(1))]
    for n, ds in enumerate(again):
        ds.SeriesInstanceUID, ds.SOPInstanceUID, ds.SeriesNumber, ds.AcquisitionTime = uid("again"), uid("again", n), 900, "235959"
    orthanc.add([*images, *again])
    report = import_dicom(save(tmp_path / "in", [*images, *again]), tmp_path / "out")
    assert any("acquired twice: the images of series 900 are used" in note for note in report.imported[0].notes)
    fetched = fetch_cine(pacs, only_cine(pacs, tmp_path / "catalog"), tmp_path / "folder", tmp_path / "scratch")
    sidecar = fetched.name.replace(".nii.gz", ".json")
    assert (tmp_path / "folder" / sidecar).read_bytes() == (tmp_path / "out" / sidecar).read_bytes()


@pytest.mark.parametrize("layout", ["one series a slice", "enhanced"])
def test_other_layouts(orthanc: Orthanc, pacs: Pacs, tmp_path: Path, layout: str) -> None:
    orthanc.add([SCAN.enhanced()] if layout == "enhanced" else SCAN.one_series_a_slice())
    path = fetch_cine(pacs, only_cine(pacs, tmp_path / "catalog"), tmp_path / "folder", tmp_path / "scratch")
    assert np.array_equal(np.asarray(nib.load(path).dataobj), SCAN.array())


def test_what_comes_and_goes_is_noticed_and_a_start_looks_at_nothing_again(orthanc: Orthanc, pacs: Pacs, tmp_path: Path) -> None:
    catalog = Catalog(pacs, tmp_path, FILTERS)
    orthanc.add(SCAN.images()[:-1])  # one image is still on its way
    assert not catalog.refresh() and not catalog.cines()
    orthanc.add(SCAN.images()[-1:])
    orthanc.add(replace(SCAN, study="another", patient="other").images())
    assert catalog.refresh() and len(catalog.cines()) == 2
    again = Catalog(Pacs("http://127.0.0.1:9/nowhere"), tmp_path, FILTERS)
    assert again.cines() == catalog.cines()
    with pytest.raises(PacsError, match="cannot be reached"):
        again.refresh()
    assert again.cines() == catalog.cines()
    orthanc.clear()
    assert catalog.refresh() and not catalog.cines() and not list(tmp_path.iterdir())


class LosingOne(Pacs):
    """Cannot say anything of one examination."""

    def series_headers(self, study: str, series: str) -> list[Dataset]:
        if study == uid("study"):
            raise PacsError("The PACS answered with something other than the headers of a series.")
        return super().series_headers(study, series)


def test_an_examination_that_cannot_be_read_hides_no_other(orthanc: Orthanc, tmp_path: Path) -> None:
    for study in ("a", "study", "z"):
        orthanc.add(replace(SCAN, study=study, patient=study).images())
    catalog = Catalog(LosingOne(orthanc.url, USER, PASSWORD), tmp_path, FILTERS)
    with pytest.raises(PacsError, match="other than the headers of a series"):
        catalog.refresh()
    assert {cine.study_instance_uid for cine in catalog.cines().values()} == {uid("a"), uid("z")}


def test_fetching_goes_on_where_the_pacs_was_killed(orthanc: Orthanc, pacs: Pacs, tmp_path: Path) -> None:
    orthanc.add(SCAN.images())
    cine = only_cine(pacs, tmp_path / "catalog")
    counting = Counting(pacs, after=5, then=orthanc.kill)
    with pytest.raises(PacsError, match="cannot be reached, or closed the connection"):
        fetch_cine(counting, cine, tmp_path / "folder", tmp_path / "scratch")
    assert not (tmp_path / "folder").exists()
    there = len(list((tmp_path / "scratch").rglob("*.dcm")))
    assert there >= 5
    orthanc.start()
    counting = Counting(pacs, after=10**6, then=lambda: None)
    path = fetch_cine(counting, cine, tmp_path / "folder", tmp_path / "scratch")
    assert np.array_equal(np.asarray(nib.load(path).dataobj), SCAN.array())
    assert counting.count == len(cine.images) - there


class Counting(Pacs):
    """Does ``then`` once it has fetched ``after`` images, or before it stores as many objects."""

    def __init__(self, pacs: Pacs, after: int, then: Callable[[], None]) -> None:
        super().__init__(pacs.url, USER, PASSWORD)
        self.count, self._after, self._then, self._lock = 0, after, then, threading.Lock()

    def image(self, study: str, series: str, instance: str) -> Dataset:
        found = super().image(study, series, instance)
        self._step()
        return found

    def _step(self) -> None:
        with self._lock:
            self.count += 1
            if self.count == self._after:
                self._then()


class LosingAnswers(Pacs):
    """What it stores is there, but its answers are lost: the PACS is killed before it gives them."""

    def __init__(self, orthanc: Orthanc) -> None:
        super().__init__(orthanc.url, USER, PASSWORD)
        self._orthanc = orthanc

    def store(self, dataset: Dataset) -> None:
        super().store(dataset)
        self._orthanc.kill()
        raise PacsError("The PACS cannot be reached.", True)


@pytest.fixture
def labelled(orthanc: Orthanc, pacs: Pacs, tmp_path: Path) -> tuple[Path, str]:
    """A studies folder with the cine of the PACS, two phases of which are final."""
    orthanc.add(SCAN.images())
    path = fetch_cine(pacs, only_cine(pacs, tmp_path / "catalog"), tmp_path / "studies", tmp_path / "scratch")
    study = path.name.removesuffix(".nii.gz")
    label(tmp_path / "studies", study, {0: 1, 2: 2})
    return tmp_path / "studies", study


def test_final_phases_are_sent_once_and_corrections_name_what_they_replace(
    orthanc: Orthanc, pacs: Pacs, labelled: tuple[Path, str], tmp_path: Path
) -> None:
    studies, study = labelled
    outbox = Outbox(pacs, studies, tmp_path / "sent")
    assert outbox.waiting() == [study] and outbox.send_all() == 2 and outbox.waiting() == []
    first = {seg["SOPInstanceUID"]: seg for seg in orthanc.segmentations()}
    assert len(first) == 2 and all((seg["PatientID"], seg["StudyInstanceUID"]) == (NUMBER, uid("study")) for seg in first.values())
    assert Outbox(pacs, studies, tmp_path / "sent").send_all() == 0  # after a start
    label(studies, study, {2: 3})
    assert outbox.send_all() == 1
    [new] = [seg for seg in orthanc.segmentations() if seg["SOPInstanceUID"] not in first]
    assert new["ReferencedInstanceSequence"][0]["ReferencedSOPInstanceUID"] in first
    assert Outbox(pacs, studies, tmp_path / "elsewhere").send_all() == 2  # without the ledger: phase 1 as it was, phase 3 as if it were new
    assert len(orthanc.segmentations()) == 4


def test_a_label_waits_where_its_images_were_deleted_in_the_pacs(
    orthanc: Orthanc, pacs: Pacs, labelled: tuple[Path, str], tmp_path: Path
) -> None:
    studies, study = labelled
    orthanc.clear()
    outbox = Outbox(pacs, studies, tmp_path / "sent")
    with pytest.raises(PacsError, match=f"The label of {study} cannot be sent. The PACS does not hold an image any more that it held"):
        outbox.send_all()
    assert outbox.waiting() == [study]
    orthanc.add(SCAN.images())
    assert outbox.send_all() == 2 and outbox.waiting() == []


def test_export_asks_the_pacs_who_was_examined(
    orthanc: Orthanc, labelled: tuple[Path, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PRATO_LABEL_PACS_USER", USER)
    monkeypatch.setenv("PRATO_LABEL_PACS_PASSWORD", PASSWORD)
    result = run_script(export_dicom.main, labelled[0], tmp_path / "out", "--source", orthanc.url)
    assert result.exit_code == 0, result.output
    segs = [pydicom.dcmread(path) for path in (tmp_path / "out").glob("*_seg_*.dcm")]
    assert [(str(seg.PatientName), seg.PatientID) for seg in segs] == [(NAME, NUMBER)] * 2
    monkeypatch.setenv("PRATO_LABEL_PACS_PASSWORD", "wrong")
    result = run_script(export_dicom.main, labelled[0], tmp_path / "other", "--source", orthanc.url)
    assert result.exit_code == 2 and "requires credentials" in result.output and not (tmp_path / "other").exists()


def test_an_examination_that_was_deleted_in_the_pacs_is_left_out_of_an_export(
    orthanc: Orthanc, pacs: Pacs, labelled: tuple[Path, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PRATO_LABEL_PACS_USER", USER)
    monkeypatch.setenv("PRATO_LABEL_PACS_PASSWORD", PASSWORD)
    orthanc.clear()
    orthanc.add(replace(SCAN, study="another", patient="other").images())
    path = fetch_cine(pacs, only_cine(pacs, tmp_path / "catalog2"), labelled[0], tmp_path / "scratch")
    label(labelled[0], path.name.removesuffix(".nii.gz"), {0: 1})
    result = run_script(export_dicom.main, labelled[0], tmp_path / "out", "--source", orthanc.url)
    assert result.exit_code == 1 and "is left out: the source has none of its images" in result.output, result.output
    assert len(list((tmp_path / "out").glob("*_seg_*.dcm"))) == 1
    orthanc.clear()
    result = run_script(export_dicom.main, labelled[0], tmp_path / "none", "--source", orthanc.url)
    assert result.exit_code == 2 and result.output.count("is left out") == 2 and not (tmp_path / "none").exists(), result.output
    result = run_script(export_dicom.main, labelled[0], tmp_path / "none", "--source", f"{orthanc.url}/elsewhere")
    assert result.exit_code == 2 and "check that the address" in result.output, result.output


def test_a_lost_answer_leads_to_no_second_object(orthanc: Orthanc, pacs: Pacs, labelled: tuple[Path, str], tmp_path: Path) -> None:
    studies, study = labelled
    with pytest.raises(PacsError):
        Outbox(LosingAnswers(orthanc), studies, tmp_path / "sent").send_all()
    with pytest.raises(PacsError, match="cannot be reached"):
        Outbox(pacs, studies, tmp_path / "sent").send_all()
    orthanc.start()
    label(studies, study, {0: 9})  # before anybody knows whether the first one arrived
    assert Outbox(pacs, studies, tmp_path / "sent").send_all() == 2
    segs = orthanc.segmentations()
    assert len(segs) == 3
    named = [seg["ReferencedInstanceSequence"][0]["ReferencedSOPInstanceUID"] for seg in segs if "ReferencedInstanceSequence" in seg]
    assert len(named) == 1 and named[0] in {seg["SOPInstanceUID"] for seg in segs}


def test_a_label_that_cannot_be_sent_holds_up_no_other(
    orthanc: Orthanc, pacs: Pacs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    orthanc.add([ds for study in "ab" for ds in replace(SCAN, study=study, patient=study).images()])
    catalog = Catalog(pacs, tmp_path / "catalog", FILTERS)
    catalog.refresh()
    studies = tmp_path / "studies"
    for study, cine in catalog.cines().items():
        fetch_cine(pacs, cine, studies, tmp_path / "scratch")
        label(studies, study, {0: 1})
    first, _ = Outbox(pacs, studies, tmp_path / "sent").waiting()

    def fail(cine: LabelledCine, *arguments: Any) -> Any:
        if f"{cine.reference.study}_4d" == first:
            raise AttributeError("what nobody has thought of")
        return export(cine, *arguments)

    export = outbox_module.export_segmentations
    monkeypatch.setattr(outbox_module, "export_segmentations", fail)
    outbox = Outbox(pacs, studies, tmp_path / "sent")
    with pytest.raises(DicomError, match=f"The label of {first} cannot be sent"):
        outbox.send_all()
    assert outbox.waiting() == [first] and len(orthanc.segmentations()) == 1


def test_the_outbox_tries_again_by_itself(
    orthanc: Orthanc, pacs: Pacs, labelled: tuple[Path, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outbox_module, "_AGAIN_S", 0.2)
    orthanc.kill()
    outbox = Outbox(pacs, labelled[0], tmp_path / "sent")
    thread = threading.Thread(target=outbox.run, daemon=True)
    thread.start()
    wait_until(lambda: outbox.fault is not None)
    assert "Objects that it has not acknowledged will be sent again." in str(outbox.fault) and PASSWORD not in str(outbox.fault)
    orthanc.start()
    wait_until(lambda: outbox.fault is None and not outbox.waiting())
    outbox.stop()
    thread.join(200)
    assert len(orthanc.segmentations()) == 2


def test_wrong_credentials_get_a_sentence(orthanc: Orthanc) -> None:
    with pytest.raises(PacsError, match="requires credentials: set PRATO_LABEL_PACS_USER"):
        Pacs(orthanc.url, USER, "wrong").search_series(FILTERS)


def test_room_is_made_by_what_was_opened_longest_ago(tmp_path: Path) -> None:
    for n, name in enumerate(("old", "labelled", "new")):
        path = tmp_path / f"{name}.nii.gz"
        path.write_bytes(bytes(100))
        os.utime(path, (1000 + n, 1000))
    assert make_room(tmp_path, ["old", "labelled", "new", "gone"], {"labelled"}, 300) == []
    assert make_room(tmp_path, ["old", "labelled", "new", "gone"], {"labelled"}, 250) == ["old"]
    assert make_room(tmp_path, ["old", "labelled", "new", "gone"], {"labelled"}, 10) == ["new"]
    assert (tmp_path / "labelled.nii.gz").exists()


def test_what_never_became_a_cine_is_dropped_after_a_day(tmp_path: Path) -> None:
    for name in ("yesterday", "now", "ahead"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "image.dcm").touch()
    os.utime(tmp_path / "yesterday", (1000, 1000))
    os.utime(tmp_path / "ahead", (1e10, 1e10))  # of a clock that has been set back since
    drop_abandoned(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["now"]
