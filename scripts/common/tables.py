"""Tables and lists of names on the terminal; in tables no cell is cut short."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

#: Of a file or a pipe, which has no width of its own.
_ENDLESS = 10_000


def print_table(table: Table) -> None:
    """Print ``table``: in a terminal long cells go on in the next line, elsewhere each row is one line. Text is never read as markup."""
    for column in table.columns:
        column.overflow = "fold"
    Console(markup=False, width=None if sys.stdout.isatty() else _ENDLESS).print(table)


def shorten_list(names: Sequence[str]) -> str:
    """The first of ``names``, for a message."""
    return ", ".join(names[:5]) + ", ..." * (len(names) > 5)
