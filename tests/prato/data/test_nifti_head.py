"""Files that say they hold more than they may, and files that hold more than they say."""

from __future__ import annotations

import gzip
import io
import struct
import tracemalloc
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from prato.data.nifti import read_volume
from prato.data.nifti_head import MAX_VOXEL_BYTES, VolumeError, VolumeTooLargeError, check_size, may_pass


def header(shape: tuple[int, ...], offset: float = 352.0) -> bytes:
    made = nib.Nifti1Header()
    made.set_data_dtype(np.int16)
    made.set_data_shape(shape)
    raw = bytearray(made.binaryblock)
    raw[108:112] = struct.pack("<f", offset)
    raw[344:348] = b"n+1\0"
    return bytes(raw) + bytes(4)


@pytest.mark.parametrize("pack", [gzip.compress, bytes], ids=["gzip", "plain"])
@pytest.mark.parametrize("shape", [(512, 512, 513), (32767, 32767, 32767), (2, 2, 2, 32767, 32767, 32767)])
def test_a_header_that_announces_too_much_is_refused_unread(tmp_path: Path, pack: type[bytes], shape: tuple[int, ...]) -> None:
    (tmp_path / "x.nii").write_bytes(pack(header(shape)))
    with pytest.raises(VolumeTooLargeError, match=f"than the {MAX_VOXEL_BYTES // 2**20}"):
        read_volume(tmp_path / "x.nii")
    stream = io.BytesIO(pack(header(shape)))
    with pytest.raises(VolumeTooLargeError):
        check_size(stream, "x.nii")
    assert stream.tell() == 0


class OnlyRead:
    """What an upload of Python 3.10 can do: a SpooledTemporaryFile has no ``readinto`` there."""

    def __init__(self, content: bytes) -> None:
        stream = io.BytesIO(content)
        self.read, self.seek, self.tell = stream.read, stream.seek, stream.tell


@pytest.mark.parametrize("pack", [gzip.compress, bytes], ids=["gzip", "plain"])
def test_an_upload_of_python_3_10_is_checked_like_any_other(pack: type[bytes]) -> None:
    fits: Any = OnlyRead(pack(header((4, 4, 4)) + bytes(128)))
    check_size(fits, "x.nii.gz")
    assert fits.tell() == 0
    with pytest.raises(VolumeTooLargeError):
        check_size(OnlyRead(pack(header((512, 512, 513)))), "x.nii.gz")  # type: ignore[arg-type]


@pytest.mark.parametrize("shape", [(40, 36, 5), (2, 2, 2)])
def test_a_gzip_that_unfolds_beyond_its_header_is_refused_before_it_fills_the_memory(tmp_path: Path, shape: tuple[int, ...]) -> None:
    packed = io.BytesIO()
    with gzip.GzipFile(fileobj=packed, mode="wb", compresslevel=1) as out:
        out.write(header(shape))
        for _ in range(200):
            out.write(bytes(2**20))
    (tmp_path / "bomb.nii.gz").write_bytes(packed.getvalue())
    tracemalloc.start()
    try:
        with pytest.raises(VolumeError, match="has much data after its voxels"):
            read_volume(tmp_path / "bomb.nii.gz")
        assert tracemalloc.get_traced_memory()[1] < 20 * 2**20
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("offset", [-5.0, 2.0**40, float("nan"), float("inf")])
def test_voxels_that_begin_nowhere(tmp_path: Path, offset: float) -> None:
    words = "has a header that makes no sense: export it again" if offset == 2.0**40 else r"is not readable NIfTI \(cut short, damaged"
    (tmp_path / "x.nii").write_bytes(header((4, 4, 4), offset) + bytes(256))
    with pytest.raises(VolumeError, match=rf"^x\.nii {words}"):
        read_volume(tmp_path / "x.nii")


@pytest.mark.parametrize(
    "text", ["/annex/objects/MD5E-s4123--0123456789abcdef.nii.gz\n", "version https://git-lfs.github.com/spec/v1\noid sha256:0\n"]
)
def test_a_pointer_to_a_file_that_was_not_fetched_says_so(tmp_path: Path, text: str) -> None:
    (tmp_path / "x.nii.gz").write_text(text)
    with pytest.raises(VolumeError, match=r"x.nii.gz is a pointer to a file that was not fetched: fetch it by .*git lfs pull"):
        read_volume(tmp_path / "x.nii.gz")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"NRRD0004\ntype: short\n", "NRRD, not NIfTI: export it as .nii.gz."),
        (b"ObjectType = Image\nNDims = 3\n", "MetaImage, not NIfTI: export it as .nii.gz."),
        (bytes(128) + b"DICM" + bytes(500), "DICOM, not NIfTI: import its examination, or convert its series into one .nii.gz."),
    ],
)
def test_what_is_exported_in_another_format_is_named(content: bytes, words: str) -> None:
    """As the stock 3D Slicer module sends images and masks where it is set to."""
    with pytest.raises(VolumeError) as told:
        check_size(io.BytesIO(content), "The uploaded image")
    assert str(told.value) == f"The uploaded image is {words}"


def test_the_system_s_own_reason_is_told_and_may_pass(tmp_path: Path) -> None:
    cut, loop = tmp_path / "cut.nii.gz", tmp_path / "loop.nii.gz"
    cut.write_bytes(gzip.compress(header((4, 4, 4)) + bytes(128))[:-9])
    loop.symlink_to(loop)
    for path, reason, passes in ((cut, "cut short, damaged, another format", False), (loop, "Too many levels of symbolic links", True)):
        with pytest.raises(VolumeError) as told:
            read_volume(path)
        assert str(told.value).startswith(f"{path.name} is not readable NIfTI ({reason}): ")
        assert may_pass(told.value) == passes
