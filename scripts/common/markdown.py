"""Markdown, and pages whose parts between two marks a script writes."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from prato.data.atomic import write_bytes

_MARK = re.compile(r"<!-- ([\w ]+): begin -->")


def grid(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table."""
    return "".join("| " + " | ".join(cells) + " |\n" for cells in (head, ["---"] * len(head), *rows))


def markdown_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table with an empty line behind it."""
    return grid(head, rows) + "\n"


def fill_page(path: Path, blocks: Mapping[str, str]) -> None:
    """Write ``blocks`` into the page at ``path``, as :func:`filled` does."""
    write_bytes(path, filled(path.read_text(), blocks).encode())


def fill_pages(paths: Sequence[Path], blocks: Mapping[str, str]) -> None:
    """Write ``blocks`` into the pages at ``paths``, each into the one that has it.

    Raises:
        ValueError: a block is on none of the pages, or a page has one that nobody writes.
    """
    there = {path: _MARK.findall(path.read_text()) for path in paths}
    lost = set(blocks).difference(*there.values())
    if lost:
        raise ValueError(f"None of the pages {[path.name for path in paths]} has the blocks {sorted(lost)}.")
    for path, names in there.items():
        fill_page(path, {name: blocks[name] for name in names if name in blocks})


def filled(page: str, blocks: Mapping[str, str]) -> str:
    """``page`` with what stands between ``<!-- name: begin -->`` and ``<!-- name: end -->`` replaced, for every name.

    Raises:
        ValueError: the page has not got a block exactly once, or has one that nobody writes.
    """
    there = _MARK.findall(page)
    if sorted(there) != sorted(blocks):
        raise ValueError(f"The page has the blocks {sorted(there)}; written are {sorted(blocks)}.")
    for name, text in blocks.items():
        marks = re.compile(rf"(<!-- {name}: begin -->\n).*?(<!-- {name}: end -->)", re.DOTALL)
        page, count = marks.subn(lambda found, text=text: found[1] + text.rstrip("\n") + "\n" + found[2], page)  # type: ignore[misc]
        if count != 1:
            raise ValueError(f"The block {name!r} has no end.")
    return page
