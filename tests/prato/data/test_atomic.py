"""Files that are whole or not there."""

from __future__ import annotations

import errno
import fcntl
import os
import tempfile
from pathlib import Path
from typing import Any

import pytest

from prato.data.atomic import first_line, remove_abandoned, stage_bytes, write_bytes


def test_what_cannot_be_written_is_named_and_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = tmp_path / "rows.csv"
    target.write_bytes(b"old")

    def full(handle: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match=r"No space left on device: .*rows\.csv") as caught:
        write_bytes(target, b"new")
    assert caught.value.filename == str(target) and caught.value.errno == errno.ENOSPC
    assert target.read_bytes() == b"old" and list(tmp_path.iterdir()) == [target]


def test_a_folder_that_is_not_there_is_told_by_the_file_s_own_name(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError) as caught:
        write_bytes(tmp_path / "gone" / "rows.csv", b"new")
    assert caught.value.filename == str(tmp_path / "gone" / "rows.csv")


@pytest.mark.parametrize(("said", "line"), [("\n$_$\n^\nParseError", "$_$"), ("", "ValueError"), ("one\ntwo", "one")])
def test_what_an_error_says_on_one_line_is_never_nothing(said: str, line: str) -> None:
    assert first_line(ValueError(said)) == line


@pytest.mark.parametrize("moment", ["made", "held"])
def test_a_file_that_another_process_takes_for_abandoned_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    """Another server may start in the moment between the making of a temporary file and its lock."""
    make, lock, made = tempfile.mkstemp, fcntl.flock, list[str]()

    def make_and_note(*arguments: Any, **options: Any) -> tuple[int, str]:
        handle, name = make(*arguments, **options)
        made.append(name)
        if moment == "made" and len(made) == 1:
            remove_abandoned(tmp_path)
        return handle, name

    def lock_and_lose(handle: int, how: int) -> None:
        if moment == "held" and len(made) == 1 and os.path.exists(made[0]):
            os.unlink(made[0])  # by one who held it until now
        lock(handle, how)

    monkeypatch.setattr(tempfile, "mkstemp", make_and_note)
    monkeypatch.setattr(fcntl, "flock", lock_and_lose)
    write_bytes(tmp_path / "a.nii.gz", b"new")
    assert len(made) == 2 and os.listdir(tmp_path) == ["a.nii.gz"] and (tmp_path / "a.nii.gz").read_bytes() == b"new"


def test_a_place_that_cannot_be_taken_is_named_and_not_the_temporary_file(tmp_path: Path) -> None:
    (elsewhere := tmp_path / "elsewhere").mkdir()
    (place := tmp_path / "a.json").mkdir()
    with pytest.raises(OSError) as refused, stage_bytes(place, b"{}", elsewhere):
        pass
    assert refused.value.filename == str(place) and not list(elsewhere.iterdir())
