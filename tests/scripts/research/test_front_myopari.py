"""scripts/research/front_myopari.py and the program that it starts in another environment, where nothing of this project is."""

import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from prato.data.nifti import write_volume
from prato.data.studies.splits import Split, save_split
from scripts.research import front_myopari
from tests.scripts.cli import run_script

WORKER = Path(front_myopari.__file__).with_name("myopari_worker.py")
NEEDED = pytest.mark.skipif(find_spec("myopari") is not None, reason="myopari is installed here")


def test_it_can_be_asked_what_it_does_without_what_it_needs() -> None:
    done = subprocess.run([sys.executable, str(WORKER), "--help"], capture_output=True, text=True, check=False)
    assert done.returncode == 0 and "OUT STUDY" in done.stdout and not done.stderr


@NEEDED
def test_what_is_missing_is_said_in_one_sentence(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, str(WORKER), str(tmp_path / "out"), "a.nii.gz"], capture_output=True, text=True, check=False)
    assert done.returncode == 2 and "is not installed here" in done.stderr and len(done.stderr.splitlines()) == 1
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(("python", "words"), [("nowhere/python", "nowhere/python: No such file"), (sys.executable, "myopari ended with")])
@NEEDED
def test_nothing_is_written_where_it_cannot_run(tmp_path: Path, python: str, words: str) -> None:
    for folder in (tmp_path, tmp_path / "labels" / "final"):
        folder.mkdir(parents=True, exist_ok=True)
        write_volume(folder / "a.nii.gz", np.ones((8, 8, 2), np.uint8), np.eye(4))
    save_split(tmp_path / "split.json", Split(seed=0, train=["b"], validation=["a"]))
    out = tmp_path / "front.csv"
    given = ["--python", python, "--studies", tmp_path, "--split", tmp_path / "split.json", "--out", out]
    done = run_script(front_myopari.main, *given)
    assert done.exit_code == 2 and words in done.output and not out.exists()
