"""Files that are either complete or absent: temporary file beside the target, fsync, rename."""

from __future__ import annotations

import errno
import os
import re
import shutil
import stat
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

if sys.platform != "win32":  # where masks can be predicted all the same
    import fcntl

_TEMPORARY = ".tmp"
#: Of images, labels and what is said of them, and of none that other programs make: ``.heart.nii.gz.k3x_9qzb.tmp``.
_OF_A_STUDY = re.compile(r"\..+(\.nii\.gz|\.json)\.[a-z0-9_]{8}\.tmp")


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
    """As ``write_bytes``, but ``data`` is on the disk when the block begins, and takes the place of ``path`` when it ends without an error.

    Two files that belong together are both staged before either is put in place, so that a full disk stops neither half-way. The
    temporary file lies in ``folder`` (of the same file system), by default beside ``path``.

    Raises:
        OSError: as ``write_bytes``.
    """
    path = Path(path)
    with _written_temporary(path, data, folder or path.parent) as temporary:
        try:
            yield
            os.replace(temporary, path)
        except BaseException as error:
            temporary.unlink(missing_ok=True)
            if isinstance(error, OSError) and error.filename == str(temporary):  # which nobody knows, and it may lie in another folder
                error.filename, error.filename2 = str(path), None
            raise
    sync_folder(path.parent)


@contextmanager
def _written_temporary(path: Path, data: bytes, folder: Path) -> Iterator[Path]:
    """A file in ``folder`` with ``data`` on the disk, which is to become ``path``, and not abandoned for as long as the block lasts; an
    OSError before that names ``path``, as a person knows it."""
    temporary = stream = None
    try:
        while True:
            # The temporary name ends in ".tmp": a server that watches the folder for images must not pick it up.
            handle, temporary = tempfile.mkstemp(dir=folder, prefix=f".{path.name}.", suffix=_TEMPORARY)
            stream = os.fdopen(handle, "wb")
            if _hold(handle, temporary):
                break
            stream.close()
        stream.write(data)
        stream.flush()
        os.fsync(handle)
        os.chmod(temporary, 0o666 & ~_UMASK)  # mkstemp makes it 0600, which a server run by another user could not read
    except BaseException as error:
        if stream is not None:
            with suppress(OSError):  # what is still in its buffer finds no room either
                stream.close()
        if temporary is not None:
            Path(temporary).unlink(missing_ok=True)
        if isinstance(error, OSError) and error.errno is not None:  # else its message is all that it says
            error.filename = str(path)
        raise
    with stream:
        yield Path(temporary)


@contextmanager
def temporary_folder(parent: str | os.PathLike[str], prefix: str) -> Iterator[Path]:
    """A new folder in ``parent`` that does not count as abandoned for as long as the block lasts, and goes with it.

    Raises:
        OSError: ``parent`` cannot be written to.
    """
    folder, handle = _make_held_folder(parent, prefix)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        if handle is not None:
            os.close(handle)


def _make_held_folder(parent: str | os.PathLike[str], prefix: str) -> tuple[Path, int | None]:
    while True:
        folder = Path(tempfile.mkdtemp(dir=parent, prefix=prefix, suffix=_TEMPORARY))
        if sys.platform == "win32":  # where no folder can be opened
            return folder, None
        with suppress(FileNotFoundError):
            handle = os.open(folder, os.O_RDONLY)
            if _hold(handle, folder):
                return folder, handle
            os.close(handle)


def _hold(handle: int, path: str | os.PathLike[str]) -> bool:
    """Let the new file or folder ``path`` not count as abandoned until ``handle`` is closed, or its process ends, however it does.

    Returns:
        Whether it is still there: before it was held, another process may have taken it for abandoned.
    """
    if sys.platform != "win32":
        with suppress(OSError):  # of a file system without locks, nothing counts as abandoned
            fcntl.flock(handle, fcntl.LOCK_EX)  # waits while another process removes it
    return os.path.lexists(path)


def remove_if_abandoned(path: Path) -> None:
    """Remove the file or folder ``path`` if nobody holds it any more; a link never counts as abandoned, nor does what cannot be told of."""
    if sys.platform == "win32":
        return
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
    except OSError:
        return
    try:
        with suppress(BlockingIOError):
            # held until it is gone: whoever has only just made it waits, and then makes another
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if stat.S_ISDIR(os.fstat(handle).st_mode):
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)
    finally:
        os.close(handle)


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


def why_unwritable(error: BaseException | None) -> str | None:
    """What the system says where ``error`` is that nothing may be written in a folder; None where it is something else, such as a file that
    may not be read."""
    if not isinstance(error, OSError) or error.errno not in (errno.EROFS, errno.EACCES, errno.EPERM):
        return None
    is_read = isinstance(error.filename, (str, bytes)) and os.path.exists(error.filename) and not os.access(error.filename, os.R_OK)
    return None if is_read else os.strerror(error.errno).lower()


def scratch_fault(error: BaseException) -> str | None:
    """A sentence where ``error`` is that the folder for temporary files may not be written to any more, or is gone; None otherwise."""
    folder, name = tempfile.gettempdir(), getattr(error, "filename", None)
    is_there = isinstance(name, (str, bytes)) and Path(os.fsdecode(name)).is_relative_to(folder)
    if not isinstance(error, OSError) or not is_there or os.access(folder, os.W_OK):
        return None
    why = (error.strerror or type(error).__name__).lower()
    return f"Temporary files cannot be written to {folder} ({why}): the server needs that folder, and write permission there."


def first_line(error: BaseException) -> str:
    """What ``error`` says, on one line; of a file that could not be read or written, which and why."""
    said = f"{error.filename}: {error.strerror}" if isinstance(error, OSError) and error.strerror and error.filename else str(error)
    return next(filter(str.strip, said.splitlines()), type(error).__name__)  # some begin with an empty line


def find_leftovers(folder: Path) -> list[Path]:
    """Temporary files in ``folder``: of processes that were killed, or that write right now."""
    names = os.listdir(folder) if folder.is_dir() else []
    return [folder / name for name in names if name.startswith(".") and name.endswith(_TEMPORARY)]


def remove_abandoned(folder: Path) -> None:
    """Remove from ``folder``, of studies, labels or trainings, the temporary files of processes that were killed, and no others."""
    for temporary in find_leftovers(folder):
        if _OF_A_STUDY.fullmatch(temporary.name):
            remove_if_abandoned(temporary)


def remove_leftovers(path: Path) -> None:
    """Remove what writers of the file ``path`` that were killed have left beside it, hidden; nobody may write it now."""
    for temporary in find_leftovers(path.parent):
        if temporary.name.startswith(f".{path.name}."):
            temporary.unlink(missing_ok=True)
