"""What every result says of how it was made."""

from __future__ import annotations

import shlex
import subprocess
import sys
from pathlib import Path

from scripts.common.paths import ROOT


def origin(device: str = "cpu", at: str | None = None) -> dict[str, str]:
    """How a row was made: on what, by which commit (``at``, where there is no checkout) and by which command."""
    return {"device": device, "commit": at or commit(), "command": command()}


def commit() -> str:
    """The checkout's commit, ``-dirty`` behind it where files were changed since; "unknown" outside a checkout."""
    done = subprocess.run(["git", "describe", "--always", "--dirty"], capture_output=True, text=True, cwd=ROOT, check=False)
    return done.stdout.strip() or "unknown"


def command() -> str:
    """The command line, fit to be typed into a shell, with the script's path below the repository (its bare name, if it lies elsewhere)."""
    script = Path(sys.argv[0]).resolve()
    name = script.relative_to(ROOT).as_posix() if script.is_relative_to(ROOT) else script.name
    return shlex.join([name, *sys.argv[1:]])
