"""What README shows in Python runs as it stands there."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from prato.data.nifti import write_volume

ROOT = Path(__file__).resolve().parents[1]


@pytest.mark.slow
def test_the_five_lines_of_python_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    (shown,) = re.findall(r"^```python\n(.*?)^```$", (ROOT / "README.md").read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    lines = [line for line in shown.splitlines() if line and not line.startswith("from ")]
    assert len(lines) == 5
    (tmp_path / "apps").symlink_to(ROOT / "apps")
    image: np.ndarray = np.random.default_rng(0).normal(size=(180, 170, 10)).astype(np.float32)
    write_volume(tmp_path / "heart.nii.gz", image, np.diag([1.5, 1.5, 8.0, 1.0]))
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    exec(compile(shown, "README.md", "exec"), names)
    assert names["prediction"].mask.shape == (180, 170, 10) and names["prediction"].box.bounds == (60, 150, 55, 140, 1, 9)
    assert capsys.readouterr().out.startswith("(180, 170, 10) {'overview': ")
