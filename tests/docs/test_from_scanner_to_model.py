"""Every command of docs/from_scanner_to_model.md, in its order, on a CD with the generated hearts of two patients."""

from __future__ import annotations

import importlib
import re
import shlex
import shutil
import subprocess
import zipfile
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import requests

from prato.data.cine import read_cine, write_cine
from prato.phantom.beat import make_beat
from tests.app.hearts import stack_model
from tests.app.live import copy_app, start_server
from tests.prato.dicom.scans import Scan, decoys, to_bytes
from tests.scripts.cli import run_script
from tests.waiting import wait_until

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "from_scanner_to_model.md").read_text(encoding="utf-8")
COMMANDS = [line for block in re.findall(r"^```sh\n(.*?)^```$", PAGE, flags=re.MULTILINE | re.DOTALL) for line in block.splitlines()]
MODEL = "prato_overview_unet"


@dataclass(frozen=True)
class HeartScan(Scan):
    """A generated heart as a scanner sends it; ``pictures`` are (columns, rows, slices, phases)."""

    pictures: np.ndarray | None = None

    def pixels(self, k: int, t: int) -> np.ndarray:
        assert self.pictures is not None
        return self.pictures[:, :, k, t].T


def make_cd(path: Path) -> list[tuple[np.ndarray, np.ndarray]]:
    """A CD with the cines of two patients among other series, at ``path``; returns images and labels of each, (X, Y, Z, T)."""
    beat = make_beat(5, 1, phases=6)  # the other patient's heart is the same, darker
    images, labels = (array[::2, ::2, 3:7].astype(np.uint16) for array in (beat.images, beat.labels))
    hearts = [(images, labels), (images * 2 // 3, labels)]
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for n, (own, _) in enumerate(hearts):
            columns, rows, slices, phases = own.shape
            scan = HeartScan(20 + n, f"study {n}", f"MRN-{n}", slices, phases, rows=rows, columns=columns, spacing=(2.8, 2.8), pictures=own)
            for i, ds in enumerate(scan.images()):
                archive.writestr(f"DICOM/S{n}/IM{i:04d}", to_bytes(ds))
        for i, ds in enumerate(decoys()[:12]):
            archive.writestr(f"DICOM/OTHER/IM{i:04d}", to_bytes(ds))
    return hearts


class Walk:
    """Runs the page's commands in a folder, one after the other."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(folder)
        self.folder, self.server, self.address = folder, None, ""
        self._stack = ExitStack()

    def run(self, command: str) -> str:
        if command.startswith("make serve"):
            return self._serve(command)
        if command.startswith("S="):
            self.address = command
            return ""
        if command.startswith("python scripts/"):
            return self._script(shlex.split(command)[1:])
        assert self.server is not None or not command.startswith("curl")
        command = f"{self.address}\n{command}".replace("8000", self._port()).replace("-d '{}'", "-d '{\"max_steps\": 2}'")
        done = subprocess.run(["bash", "-euc", command], capture_output=True, text=True, check=False, timeout=300)
        assert done.returncode == 0 and '"request_id"' not in done.stdout, f"{command}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    def close(self) -> None:
        self._stack.close()

    def _port(self) -> str:
        return self.server.url.rsplit(":", 1)[1] if self.server else ""

    def _serve(self, command: str) -> str:
        """What make would run is run, with a small network and on a port that is free."""
        shown = subprocess.run(
            ["make", "-n", "-o", ".venv/.installed", *shlex.split(command)[1:]], cwd=ROOT, capture_output=True, text=True, check=True
        )
        studies = re.search(r"apps/prato_label/serve.py --studies='(.*?)' --host='127.0.0.1' --port='8000'", shown.stdout)
        assert studies is not None, shown.stdout
        app = copy_app(self.folder / "apps" / "prato_label")
        (app / "model").mkdir()
        stack_model(app / "model" / f"{MODEL}.safetensors")
        self.server = self._stack.enter_context(start_server(app, self.folder / studies[1], self.folder / "server.log", {}))
        return ""

    def _script(self, words: list[str]) -> str:
        """In this process: torch and MONAI are loaded already."""
        module = importlib.import_module(words[0].removesuffix(".py").replace("/", "."))
        done = run_script(getattr(module, "app", None) or module.main, *words[1:])
        assert done.exit_code == 0, f"{words}\n{done.output}"
        return done.output


@pytest.fixture
def walk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Walk]:
    missing = [name for name in ("bash", "curl", "make") if shutil.which(name) is None]
    if missing:
        pytest.skip(f"the page's commands need {', '.join(missing)}")
    monkeypatch.setattr("os.fsync", lambda handle: None)
    found = Walk(tmp_path, monkeypatch)
    yield found
    found.close()


def correct(folder: Path, studies: Path, hearts: list[tuple[np.ndarray, np.ndarray]]) -> None:
    """As a labeller would: the proposals of two phases become the truth, and the others stay as they are."""
    for path in sorted(folder.glob("*.nii.gz")):
        cine = read_cine(studies / path.name)
        [truth] = [labels for images, labels in hearts if np.array_equal(images, cine.image.dataobj)]
        mask = np.asarray(read_cine(path).image.dataobj).astype(np.uint8)
        mask[..., [0, 2]] = truth[..., [0, 2]]
        write_cine(path, mask, cine.phase(0).affine)


@pytest.mark.slow
def test_every_command_of_the_page(walk: Walk, tmp_path: Path) -> None:
    hearts = make_cd(tmp_path / "CD.zip")
    said: dict[str, str] = {}
    for command in COMMANDS:
        said[command] = walk.run(command)
        if command.startswith("cp "):
            correct(tmp_path / "out" / "corrected", tmp_path / "out" / "heart", hearts)
        if "/train/prato" in command:
            assert walk.server is not None
            wait_until(
                lambda: requests.get(f"{walk.server.url}/train/", timeout=60).json()["state"] not in ("queued", "running"), every=0.2
            )

    def of(words: str) -> str:
        return next(text for command, text in said.items() if words in command)

    assert of("import_dicom").count("4 slices, 6 phases") == 2
    assert len(list((tmp_path / "out" / "heart").glob("*_4d.nii.gz"))) == 2
    assert "2 labels are stored." in of("labels.py import") and "4 labels have names" in of("labels.py check")
    assert '"state":"done"' in of('"$S/train/"').replace(" ", ""), of('"$S/train/"')
    assert '"trained"' in of("/history")
    assert (
        len(list((tmp_path / "out" / "dicom").glob("*_seg_*.dcm"))) == 4
        and len(list((tmp_path / "out" / "dicom").glob("*_report_*.dcm"))) == 2
    )
    assert len(list((tmp_path / "out" / "nnUNet_raw" / "Dataset027_Heart" / "labelsTr").iterdir())) == 4


def test_the_page_has_commands_for_every_step() -> None:
    assert len(COMMANDS) == 12 and PAGE.count("## ") == 5
