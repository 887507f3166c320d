"""prato/data/file_identity.py: a file that was rewritten or replaced is another one, however alike."""

import os

from prato.data.file_identity import file_sha256, file_stamp


def test_a_stamp_is_that_of_one_content_of_one_file(tmp_path):
    path, other = tmp_path / "a", tmp_path / "b"
    assert file_stamp(path) is None
    path.write_bytes(b"one")
    stamps = [file_stamp(path)]
    assert file_stamp(path) == stamps[0]
    os.utime(path, ns=(0, 10**9))
    stamps.append(file_stamp(path))
    other.write_bytes(b"two")  # as long, and as old
    os.utime(other, ns=(0, 10**9))
    os.replace(other, path)
    stamps.append(file_stamp(path))
    assert len({*stamps}) == 3


def test_a_checksum_is_of_the_content_alone(tmp_path):
    (tmp_path / "a").write_bytes(b"heart" * 2**20)
    (tmp_path / "b").write_bytes(b"heart" * 2**20)
    assert file_sha256(tmp_path / "a") == file_sha256(tmp_path / "b") != file_sha256(os.devnull)
    assert file_sha256(tmp_path) is None and file_sha256(tmp_path / "missing") is None
