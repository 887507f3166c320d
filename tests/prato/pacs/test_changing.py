"""Examinations that arrive, or break off, while they are looked at; and objects that hold more than one cine."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from pydicom.dataset import Dataset

from lib.datastore.pacs import PacsDatastore
from prato.pacs.catalog import Catalog
from prato.pacs.fetch import fetch_cine, has_other_images
from prato.pacs.web import Pacs, PacsError
from prato_server.settings import load_settings
from tests.prato.dicom.scans import SAGITTAL, uid
from tests.prato.pacs.cines import FILTERS, SCAN, label, only_cine
from tests.prato.pacs.orthanc import PASSWORD, USER, Orthanc
from tests.waiting import wait_until

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore::UserWarning")]


class WithoutImages(Pacs):
    """Gives headers, and breaks off when it is asked for an image."""

    def image(self, study: str, series: str, instance: str) -> Dataset:
        raise PacsError("The PACS cannot be reached.", True)


class CutLists(Pacs):
    """Lists the first of all series alone, and does not say that it is all."""

    def search_series(self, filters: Mapping[str, Any]) -> tuple[list[Dataset], bool]:
        return super().search_series(filters)[0][:1], False


def test_what_a_list_that_was_cut_does_not_name_is_not_forgotten_and_the_fault_is_told(
    orthanc: Orthanc, pacs: Pacs, tmp_path: Path
) -> None:
    for study in "ab":
        orthanc.add([ds for number in (1, 2) for ds in replace(SCAN, study=study, number=number, patient=study).images()])
    Catalog(pacs, tmp_path, FILTERS).refresh()
    catalog = Catalog(CutLists(orthanc.url, USER, PASSWORD), tmp_path, FILTERS)
    before = catalog.cines()
    assert len({cine.study_instance_uid for cine in before.values()}) == 2
    with pytest.raises(PacsError, match="lists 1 series, and may hold more than it lists at once: raise the limit of its lists"):
        catalog.refresh()
    assert catalog.cines() == before == Catalog(pacs, tmp_path, FILTERS).cines()


def test_an_examination_whose_images_could_not_be_compared_is_looked_at_again(orthanc: Orthanc, pacs: Pacs, tmp_path: Path) -> None:
    again = SCAN.image(0, 0)
    again.SOPInstanceUID = again.file_meta.MediaStorageSOPInstanceUID = uid("again")
    orthanc.add([*SCAN.images(), again])  # a copy, unless the pixels differ
    with pytest.raises(PacsError, match="cannot be reached"):
        Catalog(WithoutImages(orthanc.url, USER, PASSWORD), tmp_path, FILTERS).refresh()
    assert not list(tmp_path.iterdir())
    assert only_cine(pacs, tmp_path).phases == SCAN.phases


def test_a_cine_that_was_fetched_while_it_arrived_is_fetched_again_unless_it_is_labelled(
    orthanc: Orthanc, pacs: Pacs, tmp_path: Path
) -> None:
    whole, catalog, places = (
        replace(SCAN, slices=5),
        Catalog(pacs, tmp_path / "catalog", FILTERS),
        (tmp_path / "free", tmp_path / "labelled"),
    )
    orthanc.add(SCAN.images())
    catalog.refresh()
    [part] = catalog.cines().values()
    paths = [fetch_cine(pacs, part, folder, tmp_path / "scratch") for folder in places]
    label(places[1], part.study, {0: 1})
    before = paths[1].read_bytes()
    orthanc.add(whole.images()[len(SCAN.images()) :])
    assert catalog.refresh()
    [cine] = catalog.cines().values()
    assert cine.study == part.study and not has_other_images(places[0], part) and has_other_images(places[0], cine)
    fetch_cine(pacs, cine, places[0], tmp_path / "scratch")
    assert np.array_equal(np.asarray(nib.load(paths[0]).dataobj), whole.array()) and not has_other_images(places[0], cine)
    with pytest.raises(PacsError, match="already exists with other content"):
        fetch_cine(pacs, cine, places[1], tmp_path / "scratch")
    assert paths[1].read_bytes() == before


def test_a_cine_keeps_its_name_when_another_of_its_examination_arrives(orthanc: Orthanc, pacs: Pacs, tmp_path: Path) -> None:
    orthanc.add(SCAN.images())
    catalog = Catalog(pacs, tmp_path / "catalog", FILTERS)
    catalog.refresh()
    [name] = catalog.cines()
    fetch_cine(pacs, catalog.cines()[name], tmp_path / "folder", tmp_path / "scratch")
    other = replace(SCAN, number=2)
    orthanc.add(other.images())
    for listed in (catalog, Catalog(pacs, tmp_path / "catalog", FILTERS)):
        listed.refresh()
        assert len(listed.cines()) == 2 and name in listed.cines()
        assert not has_other_images(tmp_path / "folder", listed.cines()[name])
    [second] = set(catalog.cines()) - {name}
    path = fetch_cine(pacs, catalog.cines()[second], tmp_path / "folder", tmp_path / "scratch")
    assert np.array_equal(np.asarray(nib.load(path).dataobj), other.array())


def test_a_cine_stays_its_patient_s_when_a_series_arrives_that_names_the_issuer(orthanc: Orthanc, pacs: Pacs, tmp_path: Path) -> None:
    """It could not be fetched again, as its sidecar names the patient."""
    catalog = Catalog(pacs, tmp_path / "catalog", FILTERS)
    orthanc.add(SCAN.images())
    catalog.refresh()
    [cine] = catalog.cines().values()
    image = fetch_cine(pacs, cine, tmp_path / "studies", tmp_path / "scratch")
    image.unlink()  # as to make room
    orthanc.add(replace(SCAN, number=9, slices=1, orientation=SAGITTAL, extra={"IssuerOfPatientID": "HOSPITAL"}).images())
    catalog.refresh()
    [same] = catalog.cines().values()
    assert same == cine
    assert fetch_cine(pacs, catalog.cines()[cine.study], tmp_path / "studies", tmp_path / "scratch").exists()


def test_of_an_object_that_holds_another_stack_too_the_short_axis_is_fetched(orthanc: Orthanc, pacs: Pacs, tmp_path: Path) -> None:
    objects = [SCAN.enhanced(shuffled=False), replace(SCAN, orientation=SAGITTAL).enhanced(shuffled=False)]
    for ds in objects:
        plane = ds.SharedFunctionalGroupsSequence[0].PlaneOrientationSequence
        for group in ds.PerFrameFunctionalGroupsSequence:
            group.PlaneOrientationSequence = plane
        del ds.SharedFunctionalGroupsSequence[0].PlaneOrientationSequence
    both, other = objects
    both.PerFrameFunctionalGroupsSequence = [*both.PerFrameFunctionalGroupsSequence, *other.PerFrameFunctionalGroupsSequence]
    both.NumberOfFrames, both.PixelData = 2 * both.NumberOfFrames, both.PixelData + other.PixelData
    orthanc.add([both])
    path = fetch_cine(pacs, only_cine(pacs, tmp_path / "catalog"), tmp_path / "folder", tmp_path / "scratch")
    assert np.array_equal(np.asarray(nib.load(path).dataobj), SCAN.array())


def test_what_is_opened_is_what_the_pacs_holds_now(orthanc: Orthanc, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"USER": USER, "PASSWORD": PASSWORD, "FOLDER": str(tmp_path / "kept")}.items():
        monkeypatch.setenv(f"PRATO_LABEL_PACS_{name}", value)
    monkeypatch.setattr("lib.datastore.pacs._REFRESH_S", 0.2)
    whole = replace(SCAN, slices=5)
    orthanc.add(SCAN.images())
    store = PacsDatastore(orthanc.url, load_settings(), FILTERS)
    try:
        wait_until(store.list_images)
        [study] = store.list_images()
        assert nib.load(store.get_image_uri(study)).shape[2] == 3
        orthanc.add(whole.images()[len(SCAN.images()) :])
        wait_until(lambda: any(len(cine.images) == len(whole.images()) for cine in store._catalog.cines().values()))
        opened = np.asarray(nib.load(store.get_image_uri(study)).dataobj)
        assert np.array_equal(opened, whole.array())
    finally:
        store.close()
