"""Whether a file is still what it was: by what the file system says of it, at no cost, and by its content."""

from __future__ import annotations

import hashlib
import os

FileStamp = tuple[int, int, int]
#: Bytes that are read at once.
_BLOCK = 2**20


def file_stamp(path: str | os.PathLike[str]) -> FileStamp | None:
    """What changes whenever the file at ``path`` is replaced or rewritten; None where there is none.

    Raises:
        OSError: it may not be looked at.
    """
    try:
        stat = os.stat(path)
    except FileNotFoundError:
        return None
    return stat.st_mtime_ns, stat.st_ino, stat.st_size


def file_sha256(path: str | os.PathLike[str]) -> str | None:
    """The SHA-256 of the file at ``path`` in hexadecimal digits; None where it cannot be read."""
    digest = hashlib.sha256()
    try:
        with open(path, "rb") as stream:
            while block := stream.read(_BLOCK):
                digest.update(block)
    except OSError:
        return None
    return digest.hexdigest()
