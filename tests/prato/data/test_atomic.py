"""Files that are whole or not there."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from prato.data.atomic import first_line, write_bytes


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
