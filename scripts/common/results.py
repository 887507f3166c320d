"""Measured results as CSV files that a person can read: one row per case or run, with columns that say how each was made.

A nested value has a column of its own, ``dice.myocardium``; an empty cell is a value that the row has not got, and ``null`` one that it has
and that is not defined. Numbers and lists are written as in JSON, text as it is, but in JSON's quotes where it would read as anything else:
a version of digits alone is no number.
"""

from __future__ import annotations

import csv
import fcntl
import io
import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any

from prato.data.atomic import make_folder, write_bytes
from scripts.common.paths import check_writable

Row = dict[str, Any]
#: How a row was made stands behind what was measured.
_LAST = ("threads", "seed", "device", "commit", "command")


def read_rows(path: Path) -> list[Row]:
    """The rows of ``path``, nested again, in their order.

    Raises:
        ValueError: it is no such file; the message names it.
        OSError: it cannot be read.
    """
    try:
        with path.open(newline="", encoding="utf-8") as file:
            reader = csv.DictReader(file, strict=True)
            if not reader.fieldnames:
                raise ValueError("it is empty")
            if len(reader.fieldnames) < 2:
                raise ValueError("it has no second column")
            rows = list(reader)
            if any(None in cells or None in cells.values() for cells in rows):
                raise ValueError("its rows have other columns than its first line")
            return [_nested(cells) for cells in rows]
    except (ValueError, csv.Error, TypeError, AttributeError) as error:
        raise ValueError(f"{path} is not a CSV file of results: {error}.") from None


def check_table(path: Path) -> Path:
    """``path``, if rows can be written to it: a file of results, or a place for one. Makes nothing.

    Raises:
        ValueError: it cannot be written, or is no such file. OSError: it cannot be read.
    """
    check_writable(path, is_folder=False)
    if path.exists():
        read_rows(path)
    return path


def write_rows(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """Replace ``path`` by a file of ``rows``; the columns keep the order in which rows first have them."""
    flat = [dict(_flat(row)) for row in rows]
    columns = list(dict.fromkeys(name for cells in flat for name in cells))
    tops = list(dict.fromkeys(name.split(".")[0] for name in columns))
    columns.sort(key=lambda name: _LAST.index(name) if name in _LAST else tops.index(name.split(".")[0]) - len(tops))
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(flat)
    make_folder(path.parent)
    write_bytes(path, text.getvalue().encode())


def replace_rows(path: Path, rows: Sequence[Mapping[str, Any]], by: Sequence[str]) -> None:
    """Put ``rows`` into ``path`` in the place of those that agree with one of them in the columns ``by``; all others stay as they are.

    Two processes may do so at the same time, on one machine.

    Raises:
        ValueError: ``path`` is there, and no file of results.
    """
    make_folder(path.parent)
    with _locked(path.parent):
        written = read_rows(path) if path.exists() else []
        new = {_key(row, by) for row in rows}
        at = next((n for n, row in enumerate(written) if _key(row, by) in new), len(written))
        kept = [(n, row) for n, row in enumerate(written) if _key(row, by) not in new]
        write_rows(path, [*(row for n, row in kept if n < at), *rows, *(row for n, row in kept if n >= at)])


def delete_rows(path: Path, is_outdated: Callable[[Row], bool]) -> list[Row]:
    """Take the rows that are outdated out of ``path``, where it is there, and return them; two processes may do so at the same time."""
    if not path.exists():
        return []
    with _locked(path.parent):
        rows = read_rows(path)
        outdated = [row for row in rows if is_outdated(row)]
        if outdated:
            write_rows(path, [row for row in rows if row not in outdated])
    return outdated


def _key(row: Mapping[str, Any], by: Sequence[str]) -> tuple[str, ...]:
    return tuple(_cell(row.get(name)) for name in by)


def _flat(value: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    for name, each in value.items():
        if isinstance(each, Mapping):
            yield from _flat(each, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", _cell(each)


def _cell(value: Any) -> str:
    """How ``value`` is written: text in quotes, too, where :func:`_read` would not find it again or a carriage return break the cell."""
    is_plain = isinstance(value, str) and "\r" not in value and (value == "" or _read(value) == value)
    return value if is_plain else json.dumps(value, ensure_ascii=False)


def _nested(cells: Mapping[str, str]) -> Row:
    row: Row = {}
    for column, cell in cells.items():
        if cell == "":
            continue
        *outer, name = column.split(".")
        inside = row
        for part in outer:
            inside = inside.setdefault(part, {})
        inside[name] = _value(cell)
    return row


def _value(cell: str) -> Any:
    """What ``cell`` says, read once where it cannot be changed: most columns say the same in row after row."""
    return _read(cell) if cell[0] in "[{" else _read_once(cell)


def _read(cell: str) -> Any:
    """What ``cell`` says; text unless it is written just as JSON would write it, so that no version or commit becomes a number."""
    try:
        value = json.loads(cell)
    except ValueError:
        return cell
    return value if json.dumps(value, ensure_ascii=False) == cell else cell


_read_once = lru_cache(2**16)(_read)


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """No other process is in such a block for ``folder`` meanwhile."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)
