"""docs/protocol/fields.md: where each parameter, key and warning of the wire contract is explained, read from the pages' own tables."""

from __future__ import annotations

import re
from pathlib import Path

from scripts.common.markdown import fill_page, grid

#: What the first column of a table of fields is called.
_KINDS = ("parameter", "key", "warning")
_TABLE = re.compile(r"^## (?P<heading>.*)$|^\| (?P<kind>\w+)[^|]*\|.*\n\|(?:-+\|)+\n(?P<rows>(?:\|.*\n)+)", re.MULTILINE)


def write_page(folder: Path) -> None:
    """Fill the index of the pages in ``folder``, docs/protocol.

    Raises:
        ValueError: the page of the index has other marks.
        OSError: there is no such page.
    """
    fill_page(folder / "fields.md", {"fields": field_table(folder)})


def field_table(folder: Path) -> str:
    """By field, which kinds of it there are and where each is explained; fields of one name stand together."""
    found: dict[str, list[tuple[str, str]]] = {}
    for page in sorted(folder.glob("*.md")):
        heading = ""
        for part in _TABLE.finditer(page.read_text(encoding="utf-8") + "\n"):
            if part["heading"]:
                heading = part["heading"]
            elif part["kind"] in _KINDS:
                place = f"[{page.stem}: {heading}]({page.name}#{_anchor(heading)})" if heading else f"[{page.stem}]({page.name})"
                for name in re.findall(r"`([^`]+)`", "\n".join(row.split("|")[1] for row in part["rows"].splitlines())):
                    found.setdefault(name, []).append((part["kind"], place))
    rows = []
    for name, places in sorted(found.items(), key=lambda item: item[0].lower()):
        rows.append([f"`{name}`", ", ".join(dict.fromkeys(kind for kind, _ in places)), ", ".join(dict.fromkeys(p for _, p in places))])
    return grid(["field", "kind", "explained in"], rows)


def _anchor(heading: str) -> str:
    """The name by which GitHub lets ``heading`` be linked to."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")
