"""What every result says of its making."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path


def commit() -> str:
    """The checkout's commit, ``-dirty`` behind it where files were changed since; "unknown" outside a checkout."""
    here = Path(__file__).parents[1]
    done = subprocess.run(["git", "describe", "--always", "--dirty"], capture_output=True, text=True, cwd=here, check=False)
    return done.stdout.strip() or "unknown"


def command() -> str:
    """The command line as it was typed, from the script's name on."""
    return " ".join([f"scripts/{Path(sys.argv[0]).name}", *sys.argv[1:]])
