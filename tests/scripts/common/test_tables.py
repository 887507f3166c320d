"""A table whose cells are wider than a terminal of 80 columns."""

import sys

from rich.table import Table

from scripts.common.tables import print_table, shorten_list

STUDY, NUMBER = "a_study_with_a_long_name_[bold]_4d", "1234567890"


def table() -> Table:
    made = Table("study", *(f"column {n}" for n in range(8)))
    made.add_row(STUDY, *[NUMBER] * 8)
    return made


def test_a_row_is_one_line_in_a_pipe(capsys):
    print_table(table())
    [line] = [line for line in capsys.readouterr().out.splitlines() if STUDY in line]
    assert line.count(NUMBER) == 8


def test_nothing_is_cut_short_in_a_terminal(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    print_table(table())
    out = capsys.readouterr().out
    cells = [[cell.strip() for cell in line.split("│")[1:-1]] for line in out.splitlines() if line.startswith("│")]
    assert "…" not in out and max(len(line) for line in out.splitlines() if line.startswith("│")) <= 80
    assert ["".join(parts) for parts in zip(*cells)] == [STUDY, *[NUMBER] * 8]


def test_a_long_list_of_names_ends_early_and_says_so():
    assert shorten_list([*"abcde"]) == "a, b, c, d, e"
    assert shorten_list([*"abcdef"]) == "a, b, c, d, e, ..."
