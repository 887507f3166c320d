"""Headers, links and names as people have them, on the real server: every good study is served and labelled, every bad one named once."""

from __future__ import annotations

import gzip
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import requests
import SimpleITK as sitk

from prato.data.nifti import read_volume
from tests.app.forked import ForkedServer
from tests.app.hearts import app_that_learns, heart
from tests.app.live import LiveServer, start_server, write_study
from tests.prato.data.nifti_files import itk_reading, rigid, write_nifti
from tests.waiting import HANG_S, wait_until

MM = (4.0, 4.0, 9.0)
AFFINE, TURNED = rigid(spacing=MM), rigid((0.8, -0.1, 0.5, 0.2), MM)
SHEAR = np.eye(4)
SHEAR[0, 1] = 5e-4
#: Headers that programs read differently, and what the reply warns of.
HEADERS: dict[str, tuple[dict[str, Any], list[str]]] = {
    "sound": ({"sform": AFFINE, "qform": AFFINE}, []),
    "forms_differ": ({"sform": TURNED, "qform": AFFINE, "codes": (2, 1)}, []),
    "no_forms": ({"codes": (0, 0)}, ["orientation_unknown"]),
    "unit_columns": ({"sform": AFFINE @ np.diag([1 / 4, 1 / 4, 1 / 9, 1]), "codes": (1, 0)}, ["voxel_size_uncertain"]),
    "sheared_by_rounding": ({"sform": AFFINE @ SHEAR, "qform": AFFINE}, []),
    "qform_only": ({"qform": AFFINE, "codes": (0, 1)}, []),
    "metres_by_name": ({"sform": AFFINE, "qform": AFFINE, "xyzt_units": 1}, ["unit_ignored"]),
    "big_endian_2": ({"sform": AFFINE, "qform": AFFINE, "endian": ">", "version": 2, "extension": b"{" * 2000}, []),
}
BOX = {"roi": [8, 32, 6, 30, 1, 4]}
#: What lies beside the studies, and a part of the sentence that names it.
BAD = {
    "gone.nii.gz": "is a link to nothing",
    "loop.nii.gz": "is a link to nothing",
    "twice.nii.gz.nii.gz": "its name has two endings",
    "folder.nii.gz": "a folder or a device",
    "pipe.nii.gz": "a folder or a device",
    "._sound.nii.gz": "begin with a dot",
    "SHOUTED.NII.GZ": "lower case",
    "new\nline.nii.gz": "printable text",
    "back\\slash.nii.gz": "printable text",
    "sound.nii": "there is sound.nii.gz beside it",
    os.fsdecode(b"caf\xe9.nii.gz"): "printable text",
}


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Somebody's archive of two phases of a heart, under the names of their contents."""
    folder = tmp_path_factory.mktemp("archive")
    for n, name in enumerate(("MD5E-s1--aa", "MD5E-s1--bb")):
        write_study(folder / f"{name}.nii.gz", seed=n).rename(folder / name)
    return folder


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, archive: Path) -> Iterator[LiveServer]:
    folder = tmp_path_factory.mktemp("odd")
    app, studies = app_that_learns(folder / "app"), folder / "studies"
    studies.mkdir()
    write_study(folder / "source.nii.gz")
    array = np.asarray(nib.load(folder / "source.nii.gz").dataobj).astype(np.int16)
    for name, (header, _) in HEADERS.items():
        write_nifti(studies / f"{name}.nii.gz", array, **{"pixdim": MM, **header})
    for name in ("with spaces (1)", "ünïcode 漢字", "a$b#c%20d", "long" * 50):
        write_nifti(studies / f"{name}.nii", array, pixdim=MM, sform=AFFINE, qform=AFFINE)
    single = array[:, :, 2:3].transpose(0, 2, 1)
    write_nifti(studies / "single_slice.nii.gz", single, pixdim=(4.0, 0.0, 4.0), qform=AFFINE[:, [0, 2, 1, 3]], codes=(0, 1))
    filled = array.copy()
    filled[:4] = -1000
    write_nifti(studies / "filled.nii.gz", filled, pixdim=MM, sform=AFFINE, qform=AFFINE)
    for phase, name in (("ED", "MD5E-s1--aa"), ("ES", "MD5E-s1--bb")):
        (studies / f"linked_{phase}.nii.gz").symlink_to(archive / name)
    whole = (studies / "sound.nii.gz").read_bytes()
    (studies / "half.nii.gz").write_bytes(whole[: len(whole) // 2])
    (studies / "unreadable.nii.gz").symlink_to("/proc/self/mem")  # a disk that is broken: to be opened, but not to be read
    (studies / "gone.nii.gz").symlink_to(archive / "fetched-by-nobody")
    (studies / "loop.nii.gz").symlink_to(studies / "loop.nii.gz")
    (studies / "folder.nii.gz").mkdir()
    os.mkfifo(studies / "pipe.nii.gz")
    for name in BAD:
        if not os.path.lexists(studies / name):
            (studies / name).write_bytes(gzip.decompress(whole) if name.endswith(".nii") else whole)
    with start_server(app, studies, folder / "server.log") as running:
        yield running


def submit(server: LiveServer, study: str, data: bytes) -> requests.Response:
    return requests.put(
        f"{server.url}/datastore/label",
        params={"image": study, "tag": "final"},
        data={"params": "{}"},
        files={"label": ("label.nii.gz", data)},
        timeout=200,
    )


def studies(server: LiveServer) -> dict[str, Any]:
    return dict(requests.get(f"{server.url}/datastore/", params={"output": "all"}, timeout=200).json()["objects"])


def test_every_good_study_is_listed_and_every_bad_one_named_once(server: LiveServer) -> None:
    good = {path.name.removesuffix(".gz").removesuffix(".nii") for path in server.studies.iterdir() if path.name not in BAD}
    good -= {"labels", ".lock", "datastore_v2.json", "label_history"}
    assert set(studies(server)) == good
    log = server.log.read_text()
    for name, words in BAD.items():
        shown = name if name.isprintable() and "\\" not in name and not any("\ud800" <= c <= "\udfff" for c in name) else ascii(name)
        lines = [line for line in log.splitlines() if f"{shown} is left out" in line]
        assert len(lines) == 1 and words in lines[0], (name, lines)
    refused = server.infer("prato_unetr", "half", BOX)
    assert refused.status == 400 and "half.nii.gz" in refused.json["detail"]


def test_a_file_that_the_disk_does_not_give_is_answered_in_a_sentence(server: LiveServer) -> None:
    assert server.infer("prato_unetr", "unreadable", BOX).status == 400
    for method in ("GET", "HEAD"):
        query = {"image": "unreadable", "check_sum": "SHA256:0"}
        sent = requests.request(method, f"{server.url}/datastore/image", params=query, timeout=200)
        assert sent.status_code == 409
        assert method == "HEAD" or sent.json()["detail"].startswith("unreadable.nii.gz in the studies folder cannot be used (")


def test_the_stock_command_says_in_a_sentence_why_a_folder_cannot_be_served(server: LiveServer, tmp_path: Path) -> None:
    (tmp_path / "labels").touch()
    command = ["monailabel", "start_server", "--app", str(server.app), "--studies", str(tmp_path), "--host", "127.0.0.1", "--port", "1"]
    environment = {"PATH": os.environ["PATH"], "OMP_NUM_THREADS": "1", "TMPDIR": str(tmp_path)}
    started = ForkedServer(command, tmp_path / "log", environment)
    assert started.wait(HANG_S) == 2
    said = (tmp_path / "log").read_text()
    assert (
        f"{tmp_path / 'labels'} must be a folder: rename what is there, and the server creates the folder." in said
        and "Traceback" not in said
    )


def test_the_stock_command_says_in_a_sentence_that_the_port_is_taken(server: LiveServer, tmp_path: Path) -> None:
    port, folder = server.url.rpartition(":")[2], tmp_path / "studies"
    folder.mkdir()
    command = ["monailabel", "start_server", "-a", str(server.app), "-s", str(folder), "-i", "127.0.0.1", "-p", port]
    environment = {"PATH": os.environ["PATH"], "OMP_NUM_THREADS": "1", "TMPDIR": str(tmp_path)}
    started = ForkedServer(command, tmp_path / "log", environment)
    assert started.wait(HANG_S) == 2
    said = (tmp_path / "log").read_text()
    assert said.count(f"Port {port} of 127.0.0.1 is in use by another program") == 1 and "Traceback" not in said
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize("study", HEADERS)
def test_masks_and_labels_lie_on_the_image_in_every_program(server: LiveServer, study: str, tmp_path: Path) -> None:
    image = server.studies / f"{study}.nii.gz"
    reply = server.infer("prato_unetr", study, BOX)
    assert [name for name in reply.json["warnings"] if not name.startswith(("box_", "mask_"))] == HEADERS[study][1]
    mask = tmp_path / reply.name
    mask.write_bytes(reply.file or b"")
    nrrd = tmp_path / "mask.nrrd"
    nrrd.write_bytes(server.infer("prato_unetr", study, {**BOX, "result_extension": ".nrrd"}).file or b"")
    wanted = itk_reading(image)
    label = sitk.GetImageFromArray(heart().T)
    if wanted is not None:
        for path in (mask, nrrd):
            np.testing.assert_allclose(itk_reading(path), wanted, atol=1e-3)
        label.CopyInformation(sitk.ReadImage(str(image)))
        sitk.WriteImage(label, str(tmp_path / "itk.nii.gz"))
    np.testing.assert_allclose(nib.load(mask).affine, nib.load(image).affine, atol=1e-5)
    nib.save(nib.Nifti1Image(heart(), nib.load(image).affine), tmp_path / "nibabel.nii.gz")
    labels = [path for path in (tmp_path / "itk.nii.gz", tmp_path / "nibabel.nii.gz") if path.exists()]
    for sent in labels:
        stored = submit(server, study, sent.read_bytes())
        assert stored.status_code == 200, stored.text
        kept = server.studies / "labels" / "final" / f"{study}.nii.gz"
        ours, theirs = read_volume(kept), read_volume(image)
        assert np.array_equal(ours.array, heart()) and np.array_equal(ours.affine, theirs.affine)
        assert ours.header["pixdim"].astype("<f8").tobytes() == theirs.header["pixdim"].astype("<f8").tobytes()
        assert all(ours.header[code] == theirs.header[code] for code in ("sform_code", "qform_code", "xyzt_units"))


@pytest.mark.parametrize("study", ["with spaces (1)", "ünïcode 漢字", "a$b#c%20d", "long" * 50, "single_slice", "filled"])
def test_odd_names_single_slices_and_fill_values_are_segmented_and_labelled(server: LiveServer, study: str) -> None:
    shape = (40, 1, 36) if study == "single_slice" else (40, 36, 5)
    reply = server.infer("prato_unetr", study, {"foreground": [[20, 0, 18] if study == "single_slice" else [20, 18, 2]]})
    assert reply.status == 200, reply.json
    box = reply.json["box"]
    assert ("intensity_outliers" in reply.json["warnings"]) == (study == "filled")
    assert ("voxel_size_unknown" in reply.json["warnings"]) == (study == "single_slice")
    if study == "single_slice":  # 30 mm round the click, in the slice
        assert box == [12, 29, 0, 1, 10, 27]
    path = next(server.studies.glob(f"{study}.nii*"))
    label = heart()[:, :, 2:3].transpose(0, 2, 1) if study == "single_slice" else heart()
    image = nib.load(path)
    stored = submit(server, study, nib.Nifti1Image(label.reshape(shape), image.affine, image.header, dtype=np.uint8).to_bytes())
    assert stored.status_code == 200, stored.text


def test_a_linked_study_is_what_its_name_here_says_and_its_archive_stays_as_it_was(server: LiveServer, archive: Path) -> None:
    before = {path.name: path.read_bytes() for path in archive.iterdir()}
    known = studies(server)
    assert {"linked_ED", "linked_ES"} <= set(known) and not any(study.startswith("MD5E") for study in known)
    image = nib.load(server.studies / "linked_ED.nii.gz")
    label = nib.Nifti1Image(heart(), image.affine).to_bytes()
    for study in ("linked_ED", "linked_ES"):
        assert server.infer("prato_unetr", study, BOX).status == 200
        assert submit(server, study, label).status_code == 200
    training = server.post("/train/prato_unetr?run_sync=true", {"max_steps": 1})
    assert training.status in (200, 400)  # one patient alone, or with the others
    chosen = requests.post(f"{server.url}/activelearning/first", json={}, timeout=200).json()
    assert chosen["path"].startswith(str(server.studies))
    for study in ("linked_ED", "linked_ES"):
        removed = requests.delete(f"{server.url}/datastore/image", params={"id": study}, timeout=200)
        assert removed.status_code == 200
        wait_until(lambda study=study: study not in studies(server))
        assert not os.path.lexists(server.studies / f"{study}.nii.gz")
    assert {path.name: path.read_bytes() for path in archive.iterdir()} == before


def test_a_training_keeps_a_patient_of_links_on_one_side_and_its_split_in_the_folder(server: LiveServer, archive: Path) -> None:
    linked = [server.studies / f"p9_{phase}.nii.gz" for phase in ("ED", "ES")]
    for link, name in zip(linked, ("MD5E-s1--aa", "MD5E-s1--bb")):
        link.symlink_to(archive / name)
    wait_until(lambda: {"p9_ED", "p9_ES"} <= set(studies(server)))
    image = nib.load(linked[0])
    for study in ("p9_ED", "p9_ES", "sound"):
        affine = nib.load(server.studies / f"{study}.nii.gz").affine if study == "sound" else image.affine
        assert submit(server, study, nib.Nifti1Image(heart(), affine).to_bytes()).status_code == 200
    job = server.post("/train/prato_unetr?run_sync=true", {"max_steps": 1})
    assert job.status == 200, job.json
    swapped = np.array([0, 3, 2, 1], np.uint8)[heart()]
    assert submit(server, "p9_ES", nib.Nifti1Image(swapped, image.affine).to_bytes()).status_code == 200
    (warning,) = server.post("/train/prato_unetr", {"max_steps": 1}).json["warnings"]
    assert warning.startswith("p9_ES: RV and LV cavity seem to be swapped") and "training leaves the label out" in warning
    split = json.loads((server.studies / "training_split.json").read_text())
    assert ("p9" in split["train"]) != ("p9" in split["validation"])
    assert not any("MD5E" in patient for side in ("train", "validation") for patient in split[side])
    assert not (archive / "training_split.json").exists()


@pytest.mark.parametrize(
    ("query", "more", "words"),
    [
        ({"roi": "[8,32,6,30,1,4]"}, {"data": {"params": "{}"}}, "'roi' was sent in the URL"),
        ({}, {"data": {"params": "{}", "roi": "[8,32,6,30,1,4]"}}, "'roi' was sent in a form field of its own"),
        ({}, {"json": {"params": BOX}}, "was sent in a JSON body"),
        ({}, {"json": BOX}, "was sent in a JSON body"),
        ({"parms": "{}"}, {"data": {"params": "{}"}}, "'parms' was sent in the URL"),
        ({}, {"data": {"params": json.dumps({"params": BOX})}}, "'params' is not a parameter here"),
        ({}, {"data": {"params": json.dumps({"box": BOX["roi"]})}}, "'box' is not a parameter here"),
    ],
)
def test_a_box_where_nobody_looks_is_refused_with_the_right_form(
    server: LiveServer, query: dict[str, str], more: dict[str, Any], words: str
) -> None:
    sent = requests.post(f"{server.url}/infer/prato_unetr", params={"image": "sound", **query}, timeout=200, **more)
    assert sent.status_code == 400 and words in sent.json()["detail"]


def test_what_nobody_reads_is_said(server: LiveServer) -> None:
    reply = server.infer("prato_unetr", "sound", {**BOX, "foreground": [[1, 2, 3]], "slice": 2, "client_id": "me"})
    ignored = [name for name in reply.json["warnings"] if name.startswith("parameter_ignored")]
    assert ignored == ["parameter_ignored: slice", "parameter_ignored: foreground"]
    chosen = server.post("/activelearning/first", {"sede": 3})
    assert chosen.json["warnings"] == ["parameter_ignored: sede"]
    listed = requests.get(f"{server.url}/datastore/label/agreement", params={"tga": "final"}, timeout=200)
    assert listed.status_code == 200 and listed.headers["X-Unread-Parameters"] == "tga"
    assert "ignored the unknown parameters tga" in server.log.read_text()
