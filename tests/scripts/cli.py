"""Scripts run in the test's own process: a new one would load torch and MONAI first, which takes longer than most of what is tested."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import typer
from click.testing import Result
from typer.testing import CliRunner


def run_script(main: typer.Typer | Callable[..., Any], *arguments: object) -> Result:
    """What ``python script.py arguments`` does and prints; anything that would end in a traceback is raised here.

    Args:
        main: the script's app, or the one function that it gives to ``typer.run``.
    """
    if isinstance(main, typer.Typer):
        app = main
    else:
        app = typer.Typer()
        app.command()(main)
    plain = {"COLUMNS": "200", "TERM": "dumb"}
    return CliRunner().invoke(app, [str(argument) for argument in arguments], env=plain, catch_exceptions=False)
