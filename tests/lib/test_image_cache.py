"""Images kept between requests: the same masks, found by content, within a bound, and for several requests at once."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch

from lib.infers.image_cache import ImageCache
from prato import image_stack
from prato.data.nifti import VolumeError, read_volume, write_volume
from prato.inference.predictor import Pipeline
from prato.models.checkpoint import save_model
from prato.prompts.box import Box
from prato.prompts.request import Request
from tests.prato.conftest import small_spec

AFFINE = np.diag([1.4, 1.4, 8.0, 1.0])
BOXES = [Box((8, 8, 0), (30, 34, 3)), Box((12, 6, 1), (36, 30, 4)), Box((8, 8, 0), (30, 34, 3))]


def write(path: Path, seed: int) -> Path:
    write_volume(path, np.random.default_rng(seed).integers(0, 900, (44, 40, 4)).astype(np.int16), AFFINE)
    return path


@pytest.fixture
def image(tmp_path: Path) -> Path:
    return write(tmp_path / "heart.nii.gz", 0)


@pytest.fixture(scope="module")
def pipeline(tmp_path_factory: pytest.TempPathFactory) -> Pipeline:
    spec = small_spec("unetr")
    path = tmp_path_factory.mktemp("model") / "small.safetensors"
    save_model(path, spec.build(), spec)
    return Pipeline(path, None, "cpu")


def test_masks_are_the_same_with_and_without_the_cache(image: Path, pipeline: Pipeline) -> None:
    cache = ImageCache(2**30)
    for box in BOXES:
        request = Request((box,), "roi", return_tokens=True)
        kept, fresh = pipeline.predict(cache.read(image), request), pipeline.predict(read_volume(image), request)
        assert np.array_equal(kept.mask, fresh.mask)
        assert np.array_equal(kept.tokens, fresh.tokens)


def test_the_second_box_finds_the_image_prepared(image: Path, pipeline: Pipeline) -> None:
    cache = ImageCache(2**30)
    first = cache.read(image)
    pipeline.predict(first, Request((BOXES[0],), "roi"))
    prepared = first.slices(pipeline.segmenter.spec.pixel)
    again = cache.read(image)
    assert again is first
    assert again.slices(pipeline.segmenter.spec.pixel) is prepared


@pytest.fixture(scope="module", params=["unetr", "swin_unetr"])
def pruning(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Pipeline:
    spec = small_spec(request.param)
    path = tmp_path_factory.mktemp("pruning") / "small.safetensors"
    torch.manual_seed(1)
    save_model(path, spec.build(), spec)
    return Pipeline(path, None, "cpu")


def test_a_box_moved_a_little_costs_only_what_hangs_on_it(image: Path, pruning: Pipeline) -> None:
    kept = ImageCache(2**30).read(image)
    for number, shift in enumerate((2, 3, 4)):  # the window stays
        request = Request((Box((8, 8 + shift, 0), (30, 34 + shift, 3)),), "roi", return_tokens=True)
        found, fresh = pruning.predict(kept, request), pruning.predict(read_volume(image), request)
        assert np.array_equal(found.mask, fresh.mask) and np.array_equal(found.tokens, fresh.tokens)
        assert found.gflops < fresh.gflops if number else found.gflops == fresh.gflops


def test_other_slices_and_other_weights_are_begun_anew(image: Path, pruning: Pipeline, tmp_path: Path) -> None:
    kept = ImageCache(2**30).read(image)
    request = Request((Box((8, 8, 0), (30, 34, 3)),), "roi")
    first = pruning.predict(kept, request)
    fewer = Request((Box((8, 8, 0), (30, 34, 2)),), "roi")
    assert pruning.predict(kept, fewer).gflops == pruning.predict(read_volume(image), fewer).gflops
    spec = pruning.segmenter.spec
    save_model(tmp_path / "other.safetensors", spec.build(), spec)
    other = Pipeline(tmp_path / "other.safetensors", None, "cpu")
    found, fresh = other.predict(kept, request), other.predict(read_volume(image), request)
    assert found.gflops == fresh.gflops and np.array_equal(found.mask, fresh.mask)
    assert pruning.predict(kept, request).gflops < first.gflops


def test_what_is_begun_on_an_image_is_bounded(image: Path, pruning: Pipeline, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = ImageCache(2**30).read(image)
    pruning.predict(kept, Request((BOXES[0],), "roi"))
    once = kept.nbytes
    monkeypatch.setattr(image_stack, "_MOST", once - kept.stored.array.nbytes)
    for last in (1, 2, 3, 4):
        pruning.predict(kept, Request((Box((8, 8, 0), (30, 34, last)),), "roi"))
    assert kept.nbytes <= 2 * once


def test_of_a_long_stack_as_much_is_kept_as_there_is_room_for(tmp_path: Path, pruning: Pipeline, monkeypatch: pytest.MonkeyPatch) -> None:
    """Three calls of the network a request: the parts of one request must not push each other out."""
    path = tmp_path / "long.nii.gz"
    write_volume(path, np.random.default_rng(0).integers(0, 900, (44, 40, 40)).astype(np.int16), AFFINE)
    request = Request((Box((8, 8, 0), (30, 34, 40)),), "roi")
    kept, fresh = ImageCache(2**30).read(path), pruning.predict(read_volume(path), request).gflops
    pruning.predict(kept, request)
    whole = fresh - pruning.predict(kept, request).gflops
    assert whole > 0
    kept.forget_begun()
    assert pruning.predict(kept, request).gflops == fresh
    monkeypatch.setattr(image_stack, "_MOST", int(0.9 * kept._begun_bytes()))
    kept.forget_begun()
    pruning.predict(kept, request)
    assert 0 < fresh - pruning.predict(kept, request).gflops < whole


def test_what_networks_began_goes_before_images_do(tmp_path: Path, pruning: Pipeline) -> None:
    paths = [write(tmp_path / f"{n}.nii.gz", n) for n in range(3)]
    plain = ImageCache(2**30)
    for path in paths:
        pruning.predict(plain.read(path), Request((BOXES[0],), "roi"))
    most = sum(plain.read(path).nbytes for path in paths) - 1
    cache = ImageCache(most)
    first = [cache.read(path) for path in paths]
    for image in first:
        pruning.predict(image, Request((BOXES[0],), "roi"))
    assert all(cache.read(path) is image for path, image in zip(paths, first))
    assert sum(image.nbytes for image in first) <= most


def test_another_content_under_the_same_name_is_another_image(image: Path) -> None:
    cache = ImageCache(2**30)
    before = cache.read(image)
    times = image.stat()
    write(image, 1)
    os.utime(image, ns=(times.st_atime_ns, times.st_mtime_ns))  # by content, whatever the clock says
    after = cache.read(image)
    assert not np.array_equal(before.stored.array, after.stored.array)
    assert np.array_equal(after.stored.array, read_volume(image).array)
    write(image, 0)
    assert cache.read(image) is before


def test_memory_is_bounded_and_the_longest_unused_goes(tmp_path: Path) -> None:
    paths = [write(tmp_path / f"{n}.nii.gz", n) for n in range(4)]
    cache = ImageCache(int(2.5 * read_volume(paths[0]).array.nbytes))
    first, second = cache.read(paths[0]), cache.read(paths[1])
    assert cache.read(paths[0]) is first
    cache.read(paths[2])  # drops the second, used longest ago
    assert cache.read(paths[0]) is first
    assert cache.read(paths[1]) is not second


def test_nobody_can_change_what_is_kept(image: Path) -> None:
    with pytest.raises(ValueError, match="read-only"):
        ImageCache(2**30).read(image).stored.array[0, 0, 0] = 1


def test_what_cannot_be_read_is_said_each_time(tmp_path: Path) -> None:
    cache = ImageCache(2**30)
    broken = tmp_path / "broken.nii.gz"
    broken.write_bytes(b"no image")
    for path in (broken, broken, tmp_path / "missing.nii.gz"):
        with pytest.raises(VolumeError):
            cache.read(path)


def test_requests_at_the_same_time_get_the_same_masks(image: Path, pipeline: Pipeline) -> None:
    cache = ImageCache(2**30)
    wanted = [pipeline.predict(read_volume(image), Request((box,), "roi")).mask for box in BOXES]
    with ThreadPoolExecutor(6) as pool:
        found = list(pool.map(lambda n: pipeline.predict(cache.read(image), Request((BOXES[n % 3],), "roi")).mask, range(18)))
    for n, mask in enumerate(found):
        assert np.array_equal(mask, wanted[n % 3])
