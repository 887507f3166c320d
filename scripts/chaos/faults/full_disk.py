"""A disk that is full: of the studies, of the models, of temporary files. Each is a small file system of its own, which takes root."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from scripts.chaos.faults.bench import Bench

_BLOCK = 4096


class SkippedError(RuntimeError):
    """The fault cannot be brought about here; the message is one sentence."""


def studies(bench: Bench) -> str:
    """No label is taken that is not stored, whichever step of it finds no room; all that writes nothing goes on, also after a start."""
    with _small_disk(bench.studies) as disk:
        bench.start()
        refused = 0
        for blocks in range(0, 40, 5):
            disk.fill(leaving=blocks)
            reply = bench.submit(list(bench.labels)[blocks % 2])
            refused += reply is not None and reply.status_code == 507
            bench.use()
        if not refused:
            bench.wrong.append("no label was refused with 507")
        _full_at_a_start(bench, disk)
    bench.start()
    return "the studies' disk full but for 0 to 35 blocks while labels come in, full at a start, then with room again"


def models(bench: Bench) -> str:
    """A training that finds no room says so, and the model that answered goes on answering."""
    with _small_disk(bench.app / "model") as disk:
        bench.start()
        for blocks in (0, 2, 30):
            disk.fill(leaving=blocks)
            bench.use()
            job = bench.train()
            if job and job.get("state") == "failed" and "disk" not in job.get("sentence", ""):
                bench.wrong.append(f"a training on a full disk failed with: {job.get('sentence')}")
        _full_at_a_start(bench, disk)
    bench.start()
    return "the models' disk full while a training runs and at a start, then with room again"


def temporary(bench: Bench) -> str:
    """Whatever needs a temporary file is refused."""
    with _small_disk(bench.scratch) as disk:
        bench.start()
        for blocks in (0, 1, 4):
            disk.fill(leaving=blocks)
            bench.use()
        disk.free()
        bench.use(well=True)
        bench.stop()
    bench.start()
    return "the disk of temporary files full, then with room again"


def _full_at_a_start(bench: Bench, disk: _Disk) -> None:
    """Killed while there is no room at all, started again all the same, and as good as ever once there is room."""
    disk.fill(leaving=0)
    bench.kill()
    bench.start()
    bench.use()
    disk.free()
    bench.use(well=True)
    bench.stop()


class _Disk:
    """A mounted folder and the ballast in it."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._ballast = folder, folder / ".ballast"

    def fill(self, leaving: int) -> None:
        """All but ``leaving`` blocks."""
        self.free()
        with self._ballast.open("wb", buffering=0) as file:
            for size in (256, 16, 1):
                with suppress(OSError):
                    while True:
                        file.write(bytes(size * _BLOCK))
            file.truncate(max(file.seek(0, 2) - leaving * _BLOCK, 0))

    def free(self) -> None:
        self._ballast.unlink(missing_ok=True)


@contextmanager
def _small_disk(folder: Path) -> Iterator[_Disk]:
    """``folder`` with all that is in it on a file system of 64 MiB, until the block ends, when what is in it is brought back.

    Raises:
        SkippedError: this machine or user may not mount.
    """
    kept = folder.with_name(f"{folder.name}_kept")
    shutil.copytree(folder, kept)
    try:
        done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", str(folder)], capture_output=True, text=True, check=False)
        problem = done.stderr.strip() if done.returncode else ""
    except OSError as error:
        problem = str(error)
    if problem:
        shutil.rmtree(kept)
        reason = problem.splitlines()[0]
        raise SkippedError(f"A small file system could not be mounted ({reason}): run this as root where mounting is allowed.")
    disk = _Disk(folder)
    try:
        shutil.copytree(kept, folder, dirs_exist_ok=True)
        yield disk
        disk.free()
        shutil.rmtree(kept)
        shutil.copytree(folder, kept)
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)
    shutil.rmtree(folder)
    kept.rename(folder)
