"""Images kept between requests: the same masks, found by content, within a bound, and for several requests at once."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from shutil import copy

import numpy as np
import pytest
import torch

from lib.infers.image_cache import ImageCache
from prato.data.cine import Cine, write_cine
from prato.data.nifti import VolumeError, read_volume, write_volume
from prato.inference.predictor import Predictor
from prato.models.checkpoint import save_model
from prato.prompts.box import Box
from prato.runtime.feature_cache import FeatureCache
from tests.prato.conftest import predict, small_spec

AFFINE = np.diag([1.4, 1.4, 8.0, 1.0])
BOXES = [Box((8, 8, 0), (30, 34, 3)), Box((12, 6, 1), (36, 30, 4)), Box((8, 8, 0), (30, 34, 3))]


def write(path: Path, seed: int) -> Path:
    write_volume(path, np.random.default_rng(seed).integers(0, 900, (44, 40, 4)).astype(np.int16), AFFINE)
    return path


@pytest.fixture
def image(tmp_path: Path) -> Path:
    return write(tmp_path / "heart.nii.gz", 0)


@pytest.fixture(scope="module")
def predictor(tmp_path_factory: pytest.TempPathFactory) -> Predictor:
    spec = small_spec("unetr")
    path = tmp_path_factory.mktemp("model") / "small.safetensors"
    save_model(path, spec.build(), spec)
    return Predictor.from_files(path)


@pytest.mark.slow
def test_masks_are_the_same_with_and_without_the_cache(image: Path, predictor: Predictor) -> None:
    cache = ImageCache(2**30, 2**30)
    for box in BOXES:
        kept, fresh = (predict(predictor, each, box, return_tokens=True) for each in (cache.read(image), read_volume(image)))
        assert np.array_equal(kept.mask, fresh.mask)
        assert np.array_equal(kept.tokens, fresh.tokens)


def test_the_second_box_finds_the_image_prepared(image: Path, predictor: Predictor) -> None:
    cache = ImageCache(2**30, 2**30)
    first = cache.read(image)
    predict(predictor, first, BOXES[0])
    prepared = first.slices(predictor.segmenter.spec.pixel)
    again = cache.read(image)
    assert again is first
    assert again.slices(predictor.segmenter.spec.pixel) is prepared


@pytest.fixture(scope="module", params=["unetr", "swin_unetr"])
def pruning(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Predictor:
    spec = small_spec(request.param)
    path = tmp_path_factory.mktemp("pruning") / "small.safetensors"
    torch.manual_seed(1)
    save_model(path, spec.build(), spec)
    return Predictor.from_files(path)


@pytest.mark.slow
def test_a_box_moved_a_little_costs_only_what_hangs_on_it(image: Path, pruning: Predictor) -> None:
    kept = ImageCache(2**30, 2**30).read(image)
    for number, shift in enumerate((2, 3, 4)):  # the window stays
        box = Box((8, 8 + shift, 0), (30, 34 + shift, 3))
        found, fresh = (predict(pruning, each, box, return_tokens=True) for each in (kept, read_volume(image)))
        assert np.array_equal(found.mask, fresh.mask) and np.array_equal(found.tokens, fresh.tokens)
        assert found.gflops < fresh.gflops if number else found.gflops == fresh.gflops


@pytest.mark.slow
def test_other_slices_and_other_weights_are_embedded_anew(image: Path, pruning: Predictor, tmp_path: Path) -> None:
    kept = ImageCache(2**30, 2**30).read(image)
    box, fewer = Box((8, 8, 0), (30, 34, 3)), Box((8, 8, 0), (30, 34, 2))
    first = predict(pruning, kept, box)
    assert predict(pruning, kept, fewer).gflops == predict(pruning, read_volume(image), fewer).gflops
    spec = pruning.segmenter.spec
    save_model(tmp_path / "other.safetensors", spec.build(), spec)
    other = Predictor.from_files(tmp_path / "other.safetensors")
    found, fresh = (predict(other, each, box) for each in (kept, read_volume(image)))
    assert found.gflops == fresh.gflops and np.array_equal(found.mask, fresh.mask)
    assert predict(pruning, kept, box).gflops < first.gflops


@pytest.mark.slow
def test_another_image_is_embedded_anew(tmp_path: Path, pruning: Predictor) -> None:
    cache, paths = ImageCache(2**30, 2**30), [write(tmp_path / f"{n}.nii.gz", n) for n in range(2)]
    _, second = (predict(pruning, cache.read(path), BOXES[0]) for path in paths)
    assert np.array_equal(second.mask, predict(pruning, read_volume(paths[1]), BOXES[0]).mask)
    assert predict(pruning, cache.read(paths[1]), BOXES[0]).gflops < second.gflops


@pytest.mark.slow
def test_what_is_embedded_of_an_image_is_bounded(image: Path, pruning: Predictor) -> None:
    whole = ImageCache(2**30, 2**30)
    predict(pruning, whole.read(image), BOXES[0])
    once = whole.features.nbytes
    cache = ImageCache(2**30, once)
    kept = cache.read(image)
    for last in (1, 2, 3, 4):
        predict(pruning, kept, Box((8, 8, 0), (30, 34, last)))
        assert cache.features.nbytes <= once and (cache.features.nbytes > 0 or last == 4)  # four slices may be more than there is room for


@pytest.mark.slow
def test_of_a_long_stack_as_much_is_kept_as_there_is_room_for(tmp_path: Path, pruning: Predictor) -> None:
    """Three calls of the network a request: the parts of one request must not push each other out."""
    path = tmp_path / "long.nii.gz"
    write_volume(path, np.random.default_rng(0).integers(0, 900, (44, 40, 40)).astype(np.int16), AFFINE)
    box = Box((8, 8, 0), (30, 34, 40))
    cache, fresh = ImageCache(2**30, 2**30), predict(pruning, read_volume(path), box).gflops
    assert predict(pruning, cache.read(path), box).gflops == fresh
    whole = fresh - predict(pruning, cache.read(path), box).gflops
    assert whole > 0
    less = ImageCache(2**30, int(0.9 * cache.features.nbytes))
    predict(pruning, less.read(path), box)
    assert 0 < fresh - predict(pruning, less.read(path), box).gflops < whole


@pytest.mark.slow
def test_embeddings_used_longest_ago_are_dropped_first(tmp_path: Path, pruning: Predictor) -> None:
    paths = [write(tmp_path / f"{n}.nii.gz", n) for n in range(3)]
    plain = ImageCache(2**30, 2**30)
    fresh = [predict(pruning, plain.read(path), BOXES[0]).gflops for path in paths]
    cache = ImageCache(2**30, int(0.9 * plain.features.nbytes))
    stacks = [cache.read(path) for path in paths]
    for number in (0, 1, 0, 2):  # the second one's are those used longest ago
        predict(pruning, stacks[number], BOXES[0])
    assert [predict(pruning, stacks[number], BOXES[0]).gflops == fresh[number] for number in (2, 0, 1)] == [False, False, True]
    assert all(cache.read(path) is stack for path, stack in zip(paths, stacks))  # images have room of their own


def test_an_embedding_that_finds_no_room_is_not_kept() -> None:
    cache = FeatureCache(10)
    small, large = torch.zeros(8, dtype=torch.uint8), torch.zeros(11, dtype=torch.uint8)
    assert cache.get("a", (0,), lambda: small) is small and cache.get("a", (0,), lambda: large) is small
    assert cache.get("b", (0,), lambda: large) is large and cache.nbytes == 8
    assert cache.get("a", (1,), small.clone) is not small and cache.nbytes == 8  # beside the other part there is no room
    assert cache.get("a", (0,), lambda: large) is small


def test_another_content_under_the_same_name_is_another_image(image: Path) -> None:
    cache = ImageCache(2**30, 2**30)
    before = cache.read(image)
    times = image.stat()
    write(image, 1)
    os.utime(image, ns=(times.st_atime_ns, times.st_mtime_ns))  # by content, whatever the clock says
    after = cache.read(image)
    assert not np.array_equal(before.stored.array, after.stored.array)
    assert np.array_equal(after.stored.array, read_volume(image).array)
    write(image, 0)
    assert cache.read(image) is before


def test_what_is_said_of_a_copy_names_the_copy(tmp_path: Path) -> None:
    cache = ImageCache(2**30, 2**30)
    write_cine(tmp_path / "beat.nii.gz", np.ones((20, 18, 3, 4), np.int16), AFFINE, 150)
    copy(tmp_path / "beat.nii.gz", tmp_path / "other.nii.gz")
    for name in ("beat", "other", "beat"):
        with pytest.raises(VolumeError, match=f"^{name}.nii.gz has the phases 0 to 3"):
            cache.read_phase(tmp_path / f"{name}.nii.gz", 4)
    one, other = (cache.read_study(tmp_path / f"{name}.nii.gz") for name in ("beat", "other"))
    assert isinstance(one, Cine) and isinstance(other, Cine) and one.image is other.image, "what is known of one is known of the other"


def test_memory_is_bounded_and_the_longest_unused_goes(tmp_path: Path) -> None:
    paths = [write(tmp_path / f"{n}.nii.gz", n) for n in range(4)]
    cache = ImageCache(int(2.5 * read_volume(paths[0]).array.nbytes), 2**20)
    first, second = cache.read(paths[0]), cache.read(paths[1])
    assert cache.read(paths[0]) is first
    cache.read(paths[2])  # drops the second, used longest ago
    assert cache.read(paths[0]) is first
    assert cache.read(paths[1]) is not second


def test_an_image_that_grows_makes_the_others_go_and_one_is_kept_whatever_its_size(tmp_path: Path) -> None:
    paths = [write(tmp_path / f"{n}.nii.gz", n) for n in range(2)]
    cache = ImageCache(int(2.5 * read_volume(paths[0]).array.nbytes), 2**20)
    first, second = (cache.read(path) for path in paths)
    assert cache.read(paths[0]) is first
    second.slices(0.5)  # many times as large as what is stored
    assert cache.read(paths[1]) is second and cache.read(paths[0]) is not first


def test_nobody_can_change_what_is_kept(image: Path) -> None:
    with pytest.raises(ValueError, match="read-only"):
        ImageCache(2**30, 2**30).read(image).stored.array[0, 0, 0] = 1


def test_what_cannot_be_read_is_said_each_time(tmp_path: Path) -> None:
    cache = ImageCache(2**30, 2**30)
    broken = tmp_path / "broken.nii.gz"
    broken.write_bytes(b"no image")
    for path in (broken, broken, tmp_path / "missing.nii.gz"):
        with pytest.raises(VolumeError):
            cache.read(path)


@pytest.mark.slow
def test_requests_at_the_same_time_get_the_same_masks(image: Path, predictor: Predictor) -> None:
    cache = ImageCache(2**30, 2**30)
    wanted = [predict(predictor, read_volume(image), box).mask for box in BOXES]
    with ThreadPoolExecutor(6) as pool:
        found = list(pool.map(lambda n: predict(predictor, cache.read(image), BOXES[n % 3]).mask, range(18)))
    for n, mask in enumerate(found):
        assert np.array_equal(mask, wanted[n % 3])
