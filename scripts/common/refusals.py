"""How a script refuses what it cannot use: in one sentence, with exit code 2."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import ParamSpec

import typer

from prato.data.atomic import first_line
from scripts.common.results import check_table

P = ParamSpec("P")


def refuses_in_one_sentence(main: Callable[P, None]) -> Callable[P, None]:
    """``main`` as a command whose ValueError, RuntimeError or OSError ends it with the reason on a line of its own, and exit code 2."""

    @functools.wraps(main)
    def command(*args: P.args, **kwargs: P.kwargs) -> None:
        try:
            main(*args, **kwargs)
        except (typer.Exit, typer.Abort):  # RuntimeErrors, too
            raise
        except (ValueError, RuntimeError, OSError) as error:
            typer.echo(first_line(error), err=True)
            raise typer.Exit(2) from None

    return command


def checked_table(path: Path) -> Path:
    """Callback of an option: a CSV file of results, or a place for one; anything else ends the program with exit code 2, at its start."""
    try:
        return check_table(path)
    except (ValueError, OSError) as error:
        typer.echo(first_line(error), err=True)
        raise typer.Exit(2) from None


def refuse_target(target: Path, error: OSError) -> typer.Exit:
    """Say why the folder or file ``target`` cannot be written; the exception to raise."""
    typer.echo(f"{target} cannot be written to ({error.strerror}): free some space or choose another folder, then run again.", err=True)
    return typer.Exit(2)
