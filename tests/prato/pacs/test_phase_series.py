"""What a viewer is told of a cine in a real Orthanc: each phase is a series, whose images come."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from prato.pacs.catalog import RemoteCine
from prato.pacs.fetch import fetch_cine
from prato.pacs.outbox import Outbox
from prato.pacs.phase_series import PhaseSeries, find_phase_series, real_address, split_into_phases
from prato.pacs.web import Pacs, PacsError
from tests.prato.dicom.labels.segs import join, make_seg
from tests.prato.dicom.scans import FOUR_CHAMBER, Scan, uid
from tests.prato.pacs.cines import SCAN, label, only_cine
from tests.prato.pacs.orthanc import USER, Orthanc

JSON = {"accept": "application/dicom+json"}


def headers_of(pacs: Pacs, study: str) -> list[dict[str, Any]]:
    return list(json.loads(pacs.relay("GET", f"studies/{study}/metadata", headers=JSON).content))


def value(header: dict[str, Any], tag: str) -> Any:
    return header[tag]["Value"][0]


@pytest.mark.parametrize("layout", ["one series", "one series a slice"])
def test_each_phase_is_a_series_in_order(orthanc: Orthanc, pacs: Pacs, tmp_path: Path, layout: str) -> None:
    orthanc.add(SCAN.images() if layout == "one series" else SCAN.one_series_a_slice())
    other = Scan(9, slices=1, phases=1, orientation=FOUR_CHAMBER)
    orthanc.add(other.images())
    cine = only_cine(pacs, tmp_path)
    told = split_into_phases(headers_of(pacs, uid("study")), [cine])
    assert value(told[0], "0020000E") == uid("study", 9)  # of no cine: as it was
    phases: dict[str, list[str]] = {}
    for header in told[1:]:
        phases.setdefault(value(header, "0020000E"), []).append(value(header, "00080018"))
    assert [{*images} for images in phases.values()] == [{uid("study", 1, k, t) for k in range(SCAN.slices)} for t in range(SCAN.phases)]
    assert [find_phase_series([cine], series) for series in phases] == [PhaseSeries(cine, t) for t in range(SCAN.phases)]
    assert [value(header, "0008103E").endswith(", phase 1 of 6") for header in told[1:]].count(True) == SCAN.slices
    for series, images in phases.items():
        asked = f"studies/{uid('study')}/series/{series}/instances/{images[0]}/frames/1"
        assert pacs.relay("GET", asked).status == 404
        assert pacs.relay("GET", real_address(asked, [cine])).status == 200


def test_objects_of_several_images_stay_as_they_are(orthanc: Orthanc, pacs: Pacs, tmp_path: Path) -> None:
    orthanc.add([SCAN.enhanced()])
    headers = headers_of(pacs, uid("study"))
    assert split_into_phases(headers, [only_cine(pacs, tmp_path)]) == headers


def test_another_address_stays_as_it_is() -> None:
    cine = RemoteCine(study="a_4d", patient="a", study_instance_uid="1.2", images=(("1.3", "1.4"),), phases=1, step_ms=None)
    for path in ("studies", "studies/1.2/metadata", "studies/1.9/series/1/instances/1.4", "studies/1.2/series/1/instances/1.5/frames/1"):
        assert real_address(path, [cine]) == path
    assert real_address("studies/1.2/series/1/instances/1.4", [cine]) == "studies/1.2/series/1.3/instances/1.4"


def test_a_query_goes_along_and_no_path_leads_out_of_the_service(orthanc: Orthanc, pacs: Pacs) -> None:
    orthanc.add(SCAN.images()[:1])
    orthanc.add(replace(SCAN, study="another", patient="MRN-2").images()[:1])
    assert len(json.loads(pacs.relay("GET", "studies", "PatientID=MRN-2", JSON).content)) == 1
    for path in ("studies/%2e%2e/%2e%2e/system", "studies/../../system"):
        assert pacs.relay("GET", path).status in (400, 404)


def test_credentials_that_the_pacs_refuses_are_no_matter_of_the_viewer(orthanc: Orthanc) -> None:
    with pytest.raises(PacsError, match="requires credentials: set PRATO_LABEL_PACS_USER"):
        Pacs(orthanc.url, USER, "wrong").relay("GET", "studies")


def test_what_was_drawn_on_a_phase_refers_to_its_series(orthanc: Orthanc, pacs: Pacs, tmp_path: Path) -> None:
    orthanc.add(SCAN.one_series_a_slice())
    cine = only_cine(pacs, tmp_path / "catalog")
    fetch_cine(pacs, cine, tmp_path / "folder", tmp_path / "scratch")
    label(tmp_path / "folder", cine.study, {4: 1})
    Outbox(pacs, tmp_path / "folder", tmp_path / "sent").send_all()
    numbers = np.ones((SCAN.columns, SCAN.rows, SCAN.slices), np.uint8)
    of_two = join([make_seg(SCAN, numbers, t) for t in (0, 1)])
    of_other = make_seg(replace(SCAN, number=2), numbers)
    for seg in (of_two, of_other):
        pacs.store(seg)
    told = {
        value(one, "00080018"): one for one in split_into_phases(headers_of(pacs, uid("study")), [cine]) if value(one, "00080060") == "SEG"
    }
    before = {value(one, "00080018"): one for one in headers_of(pacs, uid("study"))}
    [(own, header)] = [(one, told[one]) for one in told if one not in (of_two.SOPInstanceUID, of_other.SOPInstanceUID)]
    [series] = header["00081115"]["Value"]
    assert value(series, "0020000E") == PhaseSeries(cine, 4).uid
    assert {value(image, "00081155") for image in series["0008114A"]["Value"]} == {uid("study", 1, k, 4) for k in range(SCAN.slices)}
    assert header | {"00081115": before[own]["00081115"]} == before[own]
    for seg in (of_two, of_other):
        assert told[seg.SOPInstanceUID] == before[seg.SOPInstanceUID]
