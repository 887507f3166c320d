"""MONAI is imported without mlflow, and nothing else than that is different."""

from __future__ import annotations

import subprocess
import sys

import pytest

MONAI = "import sys, monai, importlib.util; names = {*sys.modules}; assert importlib.util.find_spec('mlflow');"


def errors_of(code: str) -> str:
    """What a process that runs ``code`` says of it; its assertions are about its own modules."""
    done = subprocess.run([sys.executable, "-c", code], env={"PYTHONPATH": ":".join(sys.path)}, capture_output=True, text=True, check=False)
    return done.stderr if done.returncode else ""


def test_mlflow_is_not_imported_with_monai() -> None:
    more = "assert 'mlflow' not in names; from monai.networks.nets import UNETR; import monai.config; monai.config.print_config"
    assert errors_of(f"import prato; {MONAI} {more}") == ""


@pytest.mark.slow
def test_who_imports_monai_or_mlflow_first_finds_them_whole() -> None:
    assert errors_of(f"{MONAI} import prato; from monai.handlers import MLFlowHandler; assert 'mlflow' in names") == ""
    assert errors_of(f"import mlflow, prato; {MONAI} assert sys.modules['mlflow'] is mlflow") == ""
