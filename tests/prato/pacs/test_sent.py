"""What a viewer sends to a real Orthanc through the server: segmentations of a phase become labels, all else goes on."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from fastapi import FastAPI
from pydicom.dataset import Dataset, FileDataset
from starlette.testclient import TestClient

from lib.datastore.pacs import PacsDatastore
from lib.server import viewer
from prato.pacs.phase_series import PhaseSeries
from prato_server.settings import load_settings
from tests.prato.dicom.labels.segs import NAMES, VALUES, forget_images, join, make_seg
from tests.prato.dicom.scans import to_bytes, uid
from tests.prato.pacs.cines import FILTERS, SCAN
from tests.prato.pacs.orthanc import PASSWORD, USER, Orthanc
from tests.waiting import wait_until

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore::UserWarning")]
RNG = np.random.default_rng(1)
NUMBERS = RNG.integers(0, 4, (SCAN.columns, SCAN.rows, SCAN.slices)).astype(np.uint8)


@pytest.fixture
def store(orthanc: Orthanc, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[PacsDatastore]:
    for name, value in {"USER": USER, "PASSWORD": PASSWORD, "FOLDER": str(tmp_path / "kept")}.items():
        monkeypatch.setenv(f"PRATO_LABEL_PACS_{name}", value)
    orthanc.add(SCAN.images())
    store = PacsDatastore(orthanc.url, load_settings(), FILTERS)
    monkeypatch.setattr(viewer, "app_instance", lambda: SimpleNamespace(studies=orthanc.url, datastore=lambda: store))
    wait_until(store.list_images)
    yield store
    store.close()


def seg_of(
    store: PacsDatastore, phase: int, creator: str = "Bea^", names: Mapping[int, Any] = NAMES, numbers: np.ndarray = NUMBERS
) -> Dataset:
    """As OHIF makes it: it refers to the images of the phase, and to the series that stands for it."""
    seg = make_seg(SCAN, numbers, phase, names, content_creator_name=creator or None)
    [cine] = store._catalog.cines().values()
    seg.ReferencedSeriesSequence[0].SeriesInstanceUID = PhaseSeries(cine, phase).uid
    return seg


def send(*objects: Dataset | bytes, path: str = "wado/studies") -> Any:
    app = FastAPI()
    app.include_router(viewer.router)
    files = [
        one if isinstance(one, bytes) else to_bytes(FileDataset("", one, file_meta=one.file_meta, preamble=b"\0" * 128)) for one in objects
    ]
    body = b"".join(b"--edge\r\nContent-Type: application/dicom\r\n\r\n" + file + b"\r\n" for file in files) + b"--edge--\r\n"
    kind = 'multipart/related; type="application/dicom"; boundary="edge"'
    headers = {"Content-Type": kind, "Accept": "application/dicom+json"}
    return TestClient(app).post(f"/proxy/dicom/{path}", content=body, headers=headers)


def labels(store: PacsDatastore) -> list[Any]:
    [study] = store.list_images()
    return list(store.versions(study, "final").all())


def voxels(store: PacsDatastore) -> np.ndarray:
    [study] = store.list_images()
    return np.asarray(nib.load(store.get_label_uri(study, "final")).dataobj)


def test_a_segmentation_of_a_phase_is_its_label(orthanc: Orthanc, store: PacsDatastore) -> None:
    sent = seg_of(store, 2)
    reply = send(sent, path=f"wado/studies/{uid('study')}")
    assert reply.status_code == 200, reply.text
    stored = Dataset.from_json(reply.json()).ReferencedSOPSequence[0]
    assert (stored.ReferencedSOPClassUID, stored.ReferencedSOPInstanceUID) == (sent.SOPClassUID, sent.SOPInstanceUID)
    [version] = labels(store)
    assert version.annotator == "Bea" and {t: phase.state for t, phase in version.phases.items()} == {2: "corrected"}
    assert np.array_equal(voxels(store)[..., 2], VALUES[NUMBERS]) and not voxels(store)[..., [0, 1, 3, 4, 5]].any()
    assert not orthanc.segmentations()  # it is no final label yet


def test_other_phases_stay_and_whose_work_is_replaced_is_said(store: PacsDatastore) -> None:
    assert [send(seg).status_code for seg in (seg_of(store, 1), seg_of(store, 3, ""))] == [200, 200]
    reply = send(seg_of(store, 1, "Ötzi", numbers=NUMBERS[:, ::-1]))
    assert reply.status_code == 200 and "This label replaces version 1 by Bea, but was not made from it" in reply.headers["Warning"]
    assert {t: phase.editor for t, phase in labels(store)[-1].phases.items()} == {1: "Ötzi", 3: "unknown"}
    assert np.array_equal(voxels(store)[..., 3], VALUES[NUMBERS]) and np.array_equal(voxels(store)[..., 1], VALUES[NUMBERS[:, ::-1]])


def test_frames_without_references_are_of_the_images_of_the_whole(store: PacsDatastore) -> None:
    seg = seg_of(store, 4)
    for group in seg.PerFrameFunctionalGroupsSequence:
        del group.DerivationImageSequence
    assert send(seg).status_code == 200
    assert [*labels(store)[0].phases] == [4] and np.array_equal(voxels(store)[..., 4], VALUES[NUMBERS])


def refused(store: PacsDatastore) -> Iterable[tuple[list[Dataset], str]]:
    named = {1: "Segment 1", **{n: NAMES[n] for n in (2, 3)}}
    yield (
        [seg_of(store, 0, names=named)],
        "It names the segment 'Segment 1': the structures are RV cavity, myocardium, LV cavity, and background.",
    )
    yield [seg_of(store, 0, names={**NAMES, 3: "LV"})], "It names LV cavity twice: merge the two segments."
    yield [seg_of(store, 0), seg_of(store, 1)], "It is one of 2 objects: send each segmentation by itself."
    yield [seg_of(store, 0), SCAN.image(0, 0)], "It is one of 2 objects"
    elsewhere = seg_of(store, 0)
    elsewhere.PerFrameFunctionalGroupsSequence[0].DerivationImageSequence[0].SourceImageSequence[0].ReferencedSOPInstanceUID = "1.2.3"
    yield [elsewhere], "and on others, that are not of this cine: save them apart."
    damaged = seg_of(store, 0)
    damaged.PixelData = damaged.PixelData[:10]
    yield [damaged], "export it again"
    yield [seg_of(store, 0, creator="x" * 151)], "annotator must be a name"


def test_what_cannot_be_a_label_is_refused_in_a_sentence_and_stored_nowhere(orthanc: Orthanc, store: PacsDatastore) -> None:
    for objects, sentence in refused(store):
        reply = send(*objects)
        assert reply.status_code == 400 and sentence in reply.json()["detail"], reply.text
    assert not labels(store) and not orthanc.segmentations()


def test_all_else_goes_on_to_the_pacs(orthanc: Orthanc, store: PacsDatastore) -> None:
    of_the_series = make_seg(SCAN, NUMBERS)
    assert send(of_the_series, forget_images(join([make_seg(SCAN, NUMBERS, 1)]))).status_code == 200
    assert len(orthanc.segmentations()) == 2 and not labels(store)
    assert send(b"no DICOM").status_code >= 400
    assert send(SCAN.image(0, 0)).status_code == 200 and not labels(store)
