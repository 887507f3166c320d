"""Tables on the terminal, in which no cell is cut short."""

from __future__ import annotations

import sys

from rich.console import Console
from rich.table import Table

#: Of a file or a pipe, which has no width of its own.
_ENDLESS = 10_000


def print_table(table: Table) -> None:
    """Print ``table``: in a terminal long cells go on in the next line, elsewhere each row is one line. Text is never read as markup."""
    for column in table.columns:
        column.overflow = "fold"
    Console(markup=False, width=None if sys.stdout.isatty() else _ENDLESS).print(table)
