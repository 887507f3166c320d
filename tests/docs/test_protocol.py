"""The pages of docs/protocol: their Python runs as it stands there, their index is up to date, and each is short."""

from __future__ import annotations

import gzip
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from scripts.common.protocol_fields import field_table
from tests.app.live import LiveServer, copy_app, start_server, tiny_model, write_study

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "docs" / "protocol"


def python_of(page: str) -> str:
    """The page's only block of Python that imports what it needs."""
    blocks = re.findall(r"^```python\n(.*?)^```$", (FOLDER / page).read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    (shown,) = [block for block in blocks if block.startswith("import ")]
    return shown


@pytest.fixture
def server(tmp_path: Path) -> Iterator[LiveServer]:
    """A small network, and the study that the pages name."""
    app, studies = copy_app(tmp_path / "app"), tmp_path / "studies"
    (app / "model").mkdir()
    tiny_model(app / "model" / "prato_overview_unet.safetensors", "overview_unet")
    studies.mkdir()
    write_study(studies / "patient001_frame01.nii.gz", shape=(96, 84, 9))
    with start_server(app, studies, tmp_path / "server.log") as started:
        yield started


@pytest.mark.slow
def test_the_python_of_the_pages_runs(server: LiveServer, capsys: pytest.CaptureFixture[str]) -> None:
    first = python_of("README.md")
    assert first.count('"http://127.0.0.1:8000"') == 1
    names: dict[str, Any] = {}
    exec(compile(first.replace("http://127.0.0.1:8000", server.url), "README.md", "exec"), names)
    assert capsys.readouterr().out.startswith("patient001_frame01 [") and server.studies.joinpath("labels/final").is_dir()
    mask = np.asarray(nib.Nifti1Image.from_bytes(gzip.decompress(names["mask"])).dataobj).copy()
    mask[88:96, 76:84, 7] = 1  # the click's voxel has its neighbourhood, and a structure of its own
    mask[92, 80, 7] = 0
    clicked = {"S": server.url, "mask": mask}
    exec(compile(python_of("clicks.md"), "clicks.md", "exec"), clicked)
    assert mask[92, 80, 7] == 1


def test_the_index_of_fields_is_up_to_date() -> None:
    assert field_table(FOLDER) in (FOLDER / "fields.md").read_text(encoding="utf-8")


#: Pages that are read; what docs/results lists is looked up.
READ = [page for page in sorted((ROOT / "docs").rglob("*.md")) if "results" not in page.parts]


@pytest.mark.parametrize("page", READ, ids=lambda page: str(page.relative_to(ROOT)))
def test_pages_are_short(page: Path) -> None:
    assert len(page.read_text(encoding="utf-8").split()) <= (1800 if page.parent == FOLDER else 2700)


def test_pages_that_code_names_are_there() -> None:
    code = [path for folder in ("apps", "scripts", "slicer_module", "tests") for path in (ROOT / folder).rglob("*.py")]
    named = {name: path for path in code for name in re.findall(r"\bdocs/[\w/]+\.md\b", path.read_text(encoding="utf-8"))}
    assert not {name: path for name, path in named.items() if not (ROOT / name).is_file()}
