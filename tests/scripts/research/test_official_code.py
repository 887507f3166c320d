"""The authors' code and ours give the same numbers; without their code, the comparison says that it was not made."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch

from scripts.common.results import read_rows, write_rows
from scripts.research import official_code
from scripts.research.baselines.scorer import TokenScorer
from scripts.research.baselines.stp import STP
from scripts.research.official import algm, beside, dynamic_vit, stp
from tests.scripts.cli import run_script

#: A folder with checkouts, by the names of the repositories.
CODE = Path(os.environ.get("PRATO_OFFICIAL_CODE", "no-such-folder"))
REPOSITORIES = {
    "dynamic-vit": "DynamicViT",
    "evo-vit": "Evo-ViT",
    "dtop": "Dynamic-Token-Pruning",
    "tome": "ToMe",
    "stp": "TokenSparse-for-MedSeg",
    "algm": "algm-segmenter",
}
needs_their_code = pytest.mark.skipif(not CODE.is_dir(), reason="PRATO_OFFICIAL_CODE names no folder with checkouts of the authors' code")


def test_definitions_are_read_without_the_rest_of_their_file(tmp_path: Path) -> None:
    path = tmp_path / "theirs.py"
    path.write_text("import not_installed\n@not_installed.register\nclass A:\n    x = F.relu(torch.tensor(-1.0)) + one\nclass B(A): pass\n")
    found = beside.definitions(path, ("A",), {"one": 1})
    assert found["A"].x == 1 and "B" not in found
    with pytest.raises(ValueError, match="does not define C"):
        beside.definitions(path, ("C",), {})


@pytest.mark.parametrize(("folder", "words"), [(None, "at least one method"), ("empty", "merge.py")])
def test_without_the_code_nothing_that_was_compared_is_overwritten(tmp_path: Path, folder: str | None, words: str) -> None:
    out, options = tmp_path / "official_code.csv", [] if folder is None else ["--tome", str(tmp_path / folder)]
    write_rows(out, [{"method": "tome", "outcome": "agree"}])
    done = run_script(official_code.main, "--out", str(out), *options)
    assert done.exit_code == 2 and words in done.output
    assert read_rows(out) == [{"method": "tome", "outcome": "agree"}]


@needs_their_code
def test_the_authors_code_and_ours_agree(tmp_path: Path) -> None:
    out, options = tmp_path / "official_code.csv", [f"--{name}={CODE / folder}" for name, folder in REPOSITORIES.items()]
    assert run_script(official_code.main, "--out", str(out), *options).exit_code == 0
    differ = [(row["method"], row["what"]) for row in read_rows(out) if row["outcome"] != "agree"]
    assert differ == [("evo_vit", "tokens chosen after block 8")]


@needs_their_code
def test_a_change_of_ours_is_seen_beside_the_authors_code(monkeypatch: pytest.MonkeyPatch) -> None:
    score, choose, cells, pairs = TokenScorer.forward, STP._choice, algm.similar_cells, algm.pairs_above
    monkeypatch.setattr(TokenScorer, "forward", lambda self, x, mask=None: score(self, x))
    assert outcomes(dynamic_vit)[:2] == ["agree", "differ"]
    monkeypatch.setattr(
        STP, "_choice", lambda self, score, count: (choose(self, score, count)[0], 1 + 0 * score if self.training else None)
    )
    assert outcomes(stp) == ["agree", "differ", "agree"]
    monkeypatch.setattr(algm, "similar_cells", lambda tokens, grid, threshold: cells(tokens, grid, threshold - 0.1))
    monkeypatch.setattr(algm, "pairs_above", lambda similarity, depth: pairs(similarity, 3 * depth))
    assert outcomes(algm) == ["differ", "differ"]


def outcomes(method) -> list[str]:
    torch.manual_seed(0)
    return [row["outcome"] for row in method.compare(CODE / REPOSITORIES[method.__name__.rsplit(".", 1)[1].replace("_", "-")])]
