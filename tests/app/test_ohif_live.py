"""The OHIF viewer that MONAI Label ships, in a real browser, on a real server with a real Orthanc behind it."""

from __future__ import annotations

import json
import shutil
import zlib
from collections.abc import Iterator
from dataclasses import replace
from functools import cache, partial
from pathlib import Path
from typing import Any

import monailabel.endpoints
import nibabel as nib
import numpy as np
import pytest
import requests

from prato.data.structures import COLOURS_8BIT, STRUCTURES
from prato.phantom.beat import make_beat
from tests.app.browsing import PICTURES, open_page
from tests.app.live import APP, LiveServer, copy_app, start_server, tiny_model
from tests.prato.dicom.scans import Scan, uid
from tests.prato.pacs.orthanc import PASSWORD, USER, Orthanc
from tests.waiting import wait_until

VIEWER = Path(monailabel.endpoints.__file__).parent / "static" / "ohif" / "index.html"


class _Heartbeat(Scan):
    """For the documentation: of a heart that looks like one."""

    def pixels(self, k: int, t: int) -> np.ndarray:
        return self._images()[:, :, k, t].T.astype(np.uint16)

    @staticmethod
    @cache
    def _images() -> np.ndarray:
        return make_beat(0, 2, phases=6).images

    @classmethod
    def make(cls) -> Scan:
        beat = make_beat(0, 2, phases=6)
        columns, rows, slices = beat.images.shape[:3]
        lps, mm = beat.affine[:3] * np.array([[-1], [-1], [1]]), np.linalg.norm(beat.affine[:3, :3], axis=0)
        along, origin = tuple((lps[:, :2] / mm[:2]).T.ravel()), tuple(lps[:, 3])
        size = {"slices": slices, "phases": 6, "rows": rows, "columns": columns, "spacing": (mm[1], mm[0]), "gap": mm[2]}
        return cls(**size, orientation=along, origin=origin, description="cine short axis")


SCAN = replace(_Heartbeat.make() if PICTURES else Scan(slices=4, phases=6, rows=36, columns=40, spacing=(4.0, 4.0)), patient="MRN-1")
#: JavaScript: the volumes that the viewer holds, and the numbers of its segments by name.
VOLUMES = """() => [...cornerstone.cache._volumeCache.values()].filter(cached => cached.volume).map(({volume}) => (
    {size: volume.dimensions, voxels: Array.from(volume.voxelManager.getCompleteScalarDataArray())}))"""
SEGMENTS = (
    "Object.fromEntries(Object.values(services.segmentationService.getSegmentations()[0].config.segments)"
    ".map(segment => [segment.label, segment.segmentIndex]))"
)
#: JavaScript: the voxels of the segments.
HEART = "services.segmentationService.getLabelmapVolume('1').voxelManager"
#: JavaScript: whether the segments have the colours, by name.
COLOURED = """colours => {
    const [viewport] = services.viewportGridService.getState().viewports.keys();
    const [found] = services.segmentationService.getSegmentations();
    const seen = index => cornerstoneTools.segmentation.config.color.getSegmentIndexColor(viewport, found.segmentationId, index);
    return found && Object.entries(colours).every(([name, colour]) => {
        const segment = Object.values(found.config.segments).find(segment => segment.label === name);
        return segment && colour.every((part, n) => seen(segment.segmentIndex)[n] === part);
    });
}"""


@pytest.fixture(scope="module")
def orthanc(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Orthanc]:
    if not VIEWER.exists():
        pytest.skip("OHIF is untested: this MONAI Label was installed without the viewer's files")
    server = Orthanc(tmp_path_factory.mktemp("orthanc"))
    server.add(SCAN.images())
    server.add(replace(SCAN, study="another", patient="MRN-2").images())
    yield server
    server.kill()


@pytest.fixture(scope="module")
def server(orthanc: Orthanc, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    folder = tmp_path_factory.mktemp("ohif")
    app = copy_app(folder / "app")
    (app / "model").mkdir()
    if PICTURES:
        shutil.copy(APP / "model" / "prato_overview_unet.safetensors", app / "model")
    else:
        tiny_model(app / "model" / "prato_overview_unet.safetensors", "overview_unet")
    pacs = {"PRATO_LABEL_PACS_USER": USER, "PRATO_LABEL_PACS_PASSWORD": PASSWORD, "PRATO_LABEL_PACS_FOLDER": str(folder / "kept")}
    with start_server(app, orthanc.url, folder / "server.log", pacs) as server:
        wait_until(lambda: len(studies(server)) == 2, every=0.2)
        yield server


def studies(server: LiveServer) -> list[str]:
    return [*requests.get(f"{server.url}/datastore/?output=all", timeout=200).json()["objects"]]


def ask(server: LiveServer, path: str, method: str = "GET") -> requests.Response:
    return requests.request(method, f"{server.url}/proxy/dicom/{path}", timeout=200)


def phase_series(server: LiveServer, study: str) -> list[str]:
    told = ask(server, f"wado/studies/{uid(study)}/metadata").json()
    return [*dict.fromkeys(header["0020000E"]["Value"][0] for header in told)]


def first_label(server: LiveServer, study: str) -> tuple[Any, Any]:
    """What is said of the first version of its label, and the mask; None where there is none."""
    told = requests.get(f"{server.url}/datastore/label/versions?image={study}", timeout=200).json()["versions"]
    if not told:
        return None, None
    file = requests.get(f"{server.url}/datastore/label?label={study}&tag=final", timeout=200).content
    return told[0], np.asarray(nib.Nifti1Image.from_bytes(zlib.decompress(file, 31)).dataobj)


@pytest.mark.slow
def test_a_phase_or_a_series_is_named_as_a_viewer_names_it(server: LiveServer) -> None:
    series = phase_series(server, "study")
    assert len(series) == SCAN.phases
    names = {server.infer("prato_overview_unet", one, output="json").json["mask_phase"]: one for one in series}
    assert [*names] == [*range(SCAN.phases)]
    assert server.infer("prato_overview_unet", uid("study", 1), output="json").status == 200  # as one that knows the PACS alone
    assert server.infer("prato_overview_unet", uid("study", 2), output="json").status == 404


@pytest.mark.slow
def test_a_viewer_finds_reads_and_stores_images_and_nothing_else(server: LiveServer) -> None:
    assert len(ask(server, "qido/studies").json()) == 2
    assert len(ask(server, "qido/studies?PatientID=MRN-2").json()) == 1
    assert ask(
        server, f"wado/studies/{uid('study')}/series/{phase_series(server, 'study')[1]}/instances/{uid('study', 1, 0, 1)}/frames/1"
    ).ok
    for method, path in (
        ("GET", "servers"),
        ("POST", "wado/servers/x/stow"),
        ("POST", "studies/1/series"),
        ("GET", "qido/%252e%252e/system"),
    ):
        reply = ask(server, path, method)
        assert reply.status_code == 404 and "is not passed on" in reply.json()["detail"]


def take_picture(page: Any) -> None:
    page.get_by_role("button", name="Confirm and Hide").click()
    page.set_viewport_size({"width": 1400, "height": 760})
    page.wait_for_timeout(3000)
    page.screenshot(path=f"{PICTURES}/ohif.png")


def check_background(server: LiveServer, page: Any, segments: dict[str, int], point: list[int]) -> None:
    """Points of the background are prompts alone: they make no segment, and have a colour that can be seen on an image."""
    page.evaluate(f"{HEART}.setCompleteScalarDataArray(new Uint8Array({HEART}.getCompleteScalarDataArray().length))")
    background = page.locator(".tab-content:visible tr.clickable-row", has_text="background").first
    assert background.locator(".segColor").evaluate("swatch => swatch.style.backgroundColor") == "rgb(204, 204, 204)"
    background.click()
    view = page.locator(".cornerstone-canvas").nth(1)
    size = view.bounding_box()
    view.click(position={"x": size["width"] / 2 + 25, "y": size["height"] / 2 + 10}, delay=500)
    page.wait_for_timeout(1000)
    with page.expect_response(lambda response: "/infer/prato_overview_unet" in response.url) as segmented:
        page.locator(".tab-content:visible button", has_text="Run").first.click()
    sent = json.loads(segmented.value.request.post_data.split("\r\n\r\n")[1].split("\r\n")[0])
    assert segmented.value.status == 200 and len(sent["background"]) == 1 and sent["LV cavity"] == [point]
    points = {name: sent[name] for name in ("background", "LV cavity")}
    reply = server.infer("prato_overview_unet", phase_series(server, "study")[0], points, output="all")
    mask = np.asarray(nib.Nifti1Image.from_bytes(zlib.decompress(reply.file or b"", 31)).dataobj)
    voxels = np.where(mask.ravel(order="F") == STRUCTURES["LV cavity"], segments["LV cavity"], 0)
    page.wait_for_function(
        f"seen => {HEART}.getCompleteScalarDataArray().every((voxel, n) => voxel === seen[n])", arg=voxels.tolist(), timeout=20000
    )


@pytest.mark.slow
def test_from_the_list_of_studies_to_a_mask_and_the_next_study(server: LiveServer, browser: Any) -> None:
    page, told, _ = open_page(browser, f"{server.url}/ohif/")
    page.get_by_text("MRN-1").first.click()
    page.get_by_role("button", name="MONAI Label").click()
    page.locator("#monailabelServerURL").fill(f"{server.url}/")
    page.wait_for_function(
        "window.cornerstone && [...cornerstone.cache._volumeCache.values()].some(cached => cached.volume?.loadStatus.loaded)"
    )
    page.locator(".settingsTable button").click()
    page.wait_for_function(COLOURED, arg={name: list(colour) for name, colour in COLOURS_8BIT.items()})
    page.locator("label.tab-label", has_text="Auto-Segmentation").wait_for()
    page.wait_for_function(f"services.segmentationService.getSegmentations().length && {SEGMENTS}")
    with page.expect_response(lambda response: "/infer/prato_auto" in response.url) as segmented:
        page.locator(".tab-content:visible button", has_text="Run").first.click()
    assert segmented.value.status == 200
    page.get_by_text("Running Segmentation - Successful").wait_for()

    # slice by slice as the server has them, the structures under their names
    segments, volumes = page.evaluate(SEGMENTS), page.evaluate(VOLUMES)
    shown = [np.array(volume["voxels"]).reshape(volume["size"], order="F") for volume in volumes]
    assert any(np.array_equal(voxels, SCAN.array()[..., 0]) for voxels in shown)
    reply = server.infer("prato_auto", phase_series(server, "study")[0], output="all")
    mask = np.asarray(nib.Nifti1Image.from_bytes(zlib.decompress(reply.file or b"", 31)).dataobj)
    expected = np.array([0, *(segments[name] for name in STRUCTURES)])[mask]
    assert mask.any() and any(np.array_equal(voxels, expected) for voxels in shown)

    if PICTURES:
        take_picture(page)
    page.on("dialog", lambda dialog: dialog.accept("Bea Ø"))
    page.locator("[data-cy=panelSegmentationWithTools-btn]").click()
    page.locator("div:has(> [role=combobox]) > [aria-haspopup=menu]").click()
    page.get_by_text("Export & Download").click()
    page.get_by_text("Export DICOM SEG").click()
    page.get_by_text("Label submitted").wait_for()
    [(version, label)] = [(told, mask) for told, mask in map(partial(first_label, server), studies(server)) if told]
    assert version["annotator"] == "Bea Ø" and {t: phase["state"] for t, phase in version["phases"].items()} == {"0": "corrected"}
    assert np.array_equal(label[..., 0], mask)
    page.locator("[data-cy=monailabel-btn]").click()
    page.locator(".settingsTable button").click()
    page.locator("label.tab-label", has_text="Point Prompts").click()
    page.locator(".tab-content:visible td", has_text="LV cavity").first.click()
    for _ in range(2):  # the first click on a view selects it
        page.locator(".cornerstone-canvas").nth(1).click(delay=500)
        page.wait_for_timeout(1000)
    with page.expect_response(lambda response: "/infer/prato_overview_unet" in response.url) as segmented:
        page.locator(".tab-content:visible button", has_text="Run").first.click()
    [point] = json.loads(segmented.value.request.post_data.split("\r\n\r\n")[1].split("\r\n")[0])["LV cavity"]
    assert segmented.value.status == 200 and all(0 <= v < n for v, n in zip(point, mask.shape))

    check_background(server, page, segments, point)

    page.locator("label.tab-label", has_text="Active Learning").click()
    page.get_by_role("button", name="Next Sample").click()
    page.locator(".nextSampleForm button", has_text="OK").last.click()
    page.wait_for_url(lambda url: url.endswith((f"={uid('study')}", f"={uid('another')}")), wait_until="commit")
    page.get_by_text("phase 1 of 6").first.wait_for()
    assert not [
        fault for fault in told if "ERR_NAME_NOT_RESOLVED" not in fault and "404" not in fault
    ]  # a font from elsewhere; no training
    page.context.close()
