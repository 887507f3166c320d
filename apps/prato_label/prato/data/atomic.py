"""Files that are whole or not there: temporary file beside the target, fsync, rename."""

from __future__ import annotations

import errno
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_TEMPORARY = ".tmp"


def _umask() -> int:
    current = os.umask(0)
    os.umask(current)
    return current


#: Read once, at import: it can only be read by setting it, which a server's other threads would notice.
_UMASK = _umask()


def write_bytes(path: str | os.PathLike[str], data: bytes) -> None:
    """Write ``data`` to ``path`` so that a reader, or a power cut, finds the old file or the new one and never a part of either.

    Raises:
        OSError: the folder does not exist or cannot be written to; ``path`` is then as it was.
    """
    with stage_bytes(path, data):
        pass


@contextmanager
def stage_bytes(path: str | os.PathLike[str], data: bytes, folder: Path | None = None) -> Iterator[None]:
    """As ``write_bytes``, but ``data`` is on the disk when the block begins, and takes the place of ``path`` when it ends well.

    Two files that belong together are both staged before either is put in place, so that a full disk stops neither half-way. The
    temporary file lies in ``folder`` (of the same file system), by default beside ``path``.

    Raises:
        OSError: as ``write_bytes``.
    """
    path = Path(path)
    temporary = _write_temporary(path, data, folder or path.parent)
    try:
        yield
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def _write_temporary(path: Path, data: bytes, folder: Path) -> Path:
    """A file in ``folder`` with ``data`` on the disk, which is to become ``path``; an OSError names ``path``, as a person knows it."""
    temporary = None
    try:
        # The temporary name ends in ".tmp": a server that watches the folder for images must not pick it up.
        handle, temporary = tempfile.mkstemp(dir=folder, prefix=f".{path.name}.", suffix=_TEMPORARY)
        with os.fdopen(handle, "wb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        os.chmod(temporary, 0o666 & ~_UMASK)  # mkstemp makes it 0600, which a server run by another user could not read
    except BaseException as error:
        if temporary is not None:
            Path(temporary).unlink(missing_ok=True)
        if isinstance(error, OSError) and error.errno is not None:  # else its message is all that it says
            error.filename = str(path)
        raise
    return Path(temporary)


def make_folder(path: Path) -> None:
    """Make the folder ``path`` and those above it, so that a power cut does not take them back."""
    if not path.is_dir():
        make_folder(path.parent)
        path.mkdir(exist_ok=True)
        sync_folder(path.parent)


def sync_folder(path: Path) -> None:
    """Make what was put into the folder ``path``, or removed from it, survive a power cut."""
    folder = os.open(path, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def is_disk_full(error: BaseException | None) -> bool:
    """Whether ``error`` says that a disk, or a quota on it, is full."""
    return isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)


def find_leftovers(folder: Path) -> list[Path]:
    """Temporary files in ``folder``: of processes that were killed, or that write right now."""
    names = os.listdir(folder) if folder.is_dir() else []
    return [folder / name for name in names if name.startswith(".") and name.endswith(_TEMPORARY)]


def remove_leftovers(path: Path) -> None:
    """Remove what writers of the file ``path`` that were killed have left beside it, hidden; nobody may write it now."""
    for temporary in find_leftovers(path.parent):
        if temporary.name.startswith(f".{path.name}."):
            temporary.unlink(missing_ok=True)
