"""Parts of an inference that a server without a GPU, or in one go, does not show: devices, file formats, the token map's bytes."""

from __future__ import annotations

import base64
import errno
import tempfile
import threading
import time
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import nrrd
import numpy as np
import pytest
import SimpleITK as sitk
import torch

from lib.infers import live_predictor
from lib.infers.devices import device_named, offered_devices
from lib.infers.live_predictor import LivePredictor
from lib.infers.result_files import encode_tokens, write_mask
from prato.data.atomic import write_bytes
from prato.data.cine import read_cine, write_cine
from prato.data.nifti import Volume
from prato.inference.image_stack import ImageStack
from prato.inference.request import RESULT_EXTENSIONS, RequestError
from prato.inference.segmenter import Segmenter
from prato.models.checkpoint import CheckpointError, load_model, save_model
from tests.app.live import tiny_model
from tests.waiting import wait_until

GPUS = ("NVIDIA A", "NVIDIA B")
CUBE = Volume(np.zeros((3, 3, 3), np.uint8), np.eye(4))


@pytest.fixture
def gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if torch saw two GPUs."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: len(GPUS))
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda n: GPUS[n])


@pytest.mark.usefixtures("gpus")
@pytest.mark.parametrize(
    ("name", "device"),
    [
        (None, "cuda:0"),
        (["NVIDIA A:0", "NVIDIA B:1", "cpu"], "cuda:0"),
        ("cuda", "cuda:0"),
        ("cuda:1", "cuda:1"),
        ("NVIDIA B:1", "cuda:1"),
        ("cpu", "cpu"),
    ],
)
def test_device_with_two_gpus(name: object, device: str) -> None:
    assert device_named(name) == device


@pytest.mark.usefixtures("gpus")
def test_offered_devices_are_all_known() -> None:
    assert offered_devices() == ["NVIDIA A:0", "NVIDIA B:1", "cpu"]
    assert [device_named(name) for name in offered_devices()] == ["cuda:0", "cuda:1", "cpu"]


@pytest.mark.usefixtures("gpus")
@pytest.mark.parametrize("name", ["cuda:2", "NVIDIA C", "mps", 3, {"a": 1}])
def test_devices_that_are_not_there(name: object) -> None:
    with pytest.raises(RequestError, match=r"choose NVIDIA A:0, NVIDIA B:1, cpu\."):
        device_named(name)


def test_device_with_one_gpu_goes_by_its_plain_name(gpus: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    assert offered_devices() == ["NVIDIA A", "cpu"]
    assert device_named("NVIDIA A") == device_named("cuda") == device_named(None) == "cuda:0"


def test_device_without_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    assert [device_named(name) for name in (None, "", "cuda", "cpu")] == ["cpu"] * 4
    with pytest.raises(RequestError, match="cuda:0"):
        device_named("cuda:0")


@pytest.mark.parametrize("extension", RESULT_EXTENSIONS)
def test_every_format_holds_all_phases_in_the_same_place(extension: str, tmp_path: Path) -> None:
    affine = np.array([[0, -1.5, 0, -30], [1.4, 0, 0, 12.5], [0, 0, 8, 70], [0, 0, 0, 1.0]])
    mask: np.ndarray = np.random.default_rng(2).integers(0, 4, (7, 6, 5, 3)).astype(np.uint8)
    write_cine(tmp_path / "cine.nii.gz", mask, affine, 300)
    path = Path(write_mask(read_cine(tmp_path / "cine.nii.gz").grid().with_array(mask), extension))
    try:
        image = sitk.ReadImage(str(path))
    finally:
        path.unlink()
    voxels = sitk.GetArrayFromImage(image)  # a NRRD file's phases are components of a vector
    np.testing.assert_array_equal(voxels.T if image.GetDimension() == 4 else voxels.transpose(2, 1, 0, 3), mask)
    world = affine @ (5, 3, 4, 1)
    index = (5, 3, 4, 0)[: image.GetDimension()]
    np.testing.assert_allclose(image.TransformIndexToPhysicalPoint(index)[:3], world[:3] * (-1, -1, 1), atol=1e-4)


@pytest.mark.parametrize("extension", RESULT_EXTENSIONS)
@pytest.mark.parametrize("left_handed", [False, True])
def test_every_format_holds_the_same_mask_in_the_same_place(extension: str, left_handed: bool) -> None:
    q, _ = np.linalg.qr(np.random.default_rng(1).standard_normal((3, 3)))
    affine = np.eye(4)
    affine[:3, :3] = q * (1.4, 1.5, 8.0)
    if (np.linalg.det(q) < 0) != left_handed:
        affine[:3, 2] *= -1
    affine[:3, 3] = (-30.0, 12.5, 70.0)
    mask: np.ndarray = np.random.default_rng(2).integers(0, 4, (7, 6, 5)).astype(np.uint8)
    path = Path(write_mask(Volume(mask, affine), extension, "uint16"))
    try:
        image = sitk.ReadImage(str(path))
    finally:
        path.unlink()
    assert image.GetPixelIDTypeAsString() == "16-bit unsigned integer"
    np.testing.assert_array_equal(sitk.GetArrayFromImage(image).T, mask)
    index = (5, 3, 4)
    world = affine @ (*index, 1)
    np.testing.assert_allclose(image.TransformIndexToPhysicalPoint(index), world[:3] * (-1, -1, 1), atol=1e-4)


def test_nrrd_is_raw_so_that_browsers_need_not_inflate_it() -> None:
    path = Path(write_mask(CUBE, ".nrrd"))
    try:
        assert nrrd.read_header(str(path))["encoding"] == "raw"
    finally:
        path.unlink()


def test_token_map_survives_the_journey() -> None:
    tokens: np.ndarray = (np.random.default_rng(0).integers(0, 4, (6, 5, 4)) / 3).astype(np.float32)
    sent = encode_tokens(tokens)
    levels = np.frombuffer(zlib.decompress(base64.b64decode(sent["data"])), np.uint8).reshape(sent["shape"])
    np.testing.assert_allclose(levels / 255, tokens, atol=0.002)


def measured_costs(predictor: LivePredictor) -> dict[str, dict[str, float]]:
    return wait_until(lambda: predictor.costs)


def test_a_model_without_a_plan_has_two_costs(tmp_path: Path) -> None:
    path = tmp_path / "dense.safetensors"
    tiny_model(path, "unetr")
    network, spec, _ = load_model(path)
    save_model(path, network, spec.with_plan(None))
    predictor = LivePredictor(path, tmp_path / "none")
    assert predictor.costs == {}
    predictor.warm_up("cpu")
    assert list(measured_costs(predictor)) == ["off", "default"]
    assert predictor.costs["off"]["gflops"] == predictor.costs["default"]["gflops"] > 0


def test_a_request_does_not_wait_until_all_costs_are_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tiny_model(tmp_path / "model.safetensors", "unetr")
    predictor, measured = LivePredictor(tmp_path / "model.safetensors", tmp_path / "none"), []
    began, asked, answered = threading.Event(), threading.Event(), threading.Event()
    measure = Segmenter.slice_cost

    def in_turns(segmenter: Segmenter, prune: str | None) -> Any:
        """The first once a request waits, the others once it is answered."""
        began.set()
        assert (answered if measured else asked).wait(200)
        measured.append(prune)
        return measure(segmenter, prune)

    def predict() -> None:
        predictor.predict("cpu", ImageStack(Volume(np.zeros((20, 20, 1), np.float32), np.diag([3.0, 3.0, 8.0, 1.0]))))
        answered.set()

    monkeypatch.setattr(Segmenter, "slice_cost", in_turns)
    predictor.warm_up("cpu")
    assert began.wait(200)
    with ThreadPoolExecutor(1) as pool:
        request = pool.submit(predict)
        while not live_predictor._COMPUTE_THREAD._work_queue.qsize():  # behind the first cost, which is being measured
            time.sleep(0.01)
        asked.set()
        request.result(200)
    assert list(measured_costs(predictor)) == ["off", "25", "50", "75", "default"]
    assert measured == ["off", "25", "50", "75", None]


def test_costs_come_although_the_file_was_damaged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """At first, and again while they were measured."""
    path = tmp_path / "model.safetensors"
    tiny_model(path, "unetr")
    whole = path.read_bytes()
    predictor = LivePredictor(path, tmp_path / "none")
    write_bytes(path, whole[:1000])
    with pytest.raises(CheckpointError):
        predictor.warm_up("cpu")
    write_bytes(path, whole)
    measure, damaged = Segmenter.slice_cost, threading.Event()

    def damaging(segmenter: Segmenter, prune: str | None) -> Any:
        if not damaged.is_set():
            write_bytes(path, whole[:1000])
            damaged.set()
        return measure(segmenter, prune)

    monkeypatch.setattr(Segmenter, "slice_cost", damaging)
    predictor.warm_up("cpu")
    assert damaged.wait(300)
    with pytest.raises(CheckpointError):
        predictor.warm_up("cpu")
    write_bytes(path, whole)
    predictor.warm_up("cpu")
    assert list(measured_costs(predictor)) == ["off", "25", "50", "75", "default"]


@pytest.mark.parametrize("extension", RESULT_EXTENSIONS)
def test_a_mask_that_finds_no_room_leaves_no_file(extension: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(Path, "open", full)
    monkeypatch.setattr("nrrd.write", full)
    with pytest.raises(OSError, match="No space left"):
        write_mask(CUBE, extension)
    assert not list(tmp_path.iterdir())
