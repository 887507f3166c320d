"""Other tokens are kept in the place of relevant ones, as many; and what came out is compared patient by patient."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
import torch

from prato.models.checkpoint import save_model
from prato.prompts.batch import PromptBatch
from prato.prompts.box import BoxPrompt
from scripts.common.results import read_rows, write_rows
from scripts.research import relevance_study
from scripts.research.tables.relevance_results import relevance_text
from scripts.research.token_scores import NearestScore, RandomScore
from tests.phantoms import make_thin_phantoms
from tests.prato.conftest import small_spec
from tests.scripts.cli import run_script


def test_the_nearest_token_lies_in_the_middle_of_the_box_and_others_follow_by_their_distance() -> None:
    boxes = PromptBatch.of(BoxPrompt, [[((16, 16), (48, 48))], [], [((0, 0), (8, 8)), ((56, 56), (64, 64))]], (64, 64))
    score = NearestScore()(torch.zeros(3, 16, 2), (4, 4), boxes)
    inside = [5, 6, 9, 10]
    assert set(score[0].topk(4).indices.tolist()) == set(inside) and score[0, inside].min() > score[0, 1] > score[0, 0]
    assert score[1].eq(0).all()  # without a box, all alike
    assert set(score[2].topk(2).indices.tolist()) == {0, 15}


def test_random_scores_hang_on_the_boxes_and_the_seed_alone() -> None:
    box, other = (PromptBatch.of(BoxPrompt, [[((a, 2), (9, 9))]], (16, 16)) for a in (1, 3))
    tokens = torch.randn(1, 16, 2)
    first = RandomScore(0)(tokens, (4, 4), box)
    assert torch.equal(first, RandomScore(0)(tokens + 1, (4, 4), box))
    assert not torch.equal(first, RandomScore(1)(tokens, (4, 4), box))
    assert not torch.equal(first, RandomScore(0)(tokens, (4, 4), other))


@pytest.mark.slow
def test_all_ways_keep_as_many_tokens_and_the_model_is_left_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_thin_phantoms(tmp_path / "studies", 3)
    manifest = json.loads((tmp_path / "studies" / "manifest.json").read_text())["studies"]
    patients = sorted({study["patient"] for study in manifest.values()})
    (tmp_path / "split.json").write_text(json.dumps({"seed": 0, "train": ["other"], "validation": patients}))
    spec = small_spec("unetr")
    save_model(tmp_path / "prato_unetr.safetensors", spec.build(), spec)
    monkeypatch.setattr(sys, "argv", ["relevance_study.py"])
    monkeypatch.setattr(relevance_study, "_NETWORKS", ("unetr",))
    monkeypatch.setattr(relevance_study, "_KEEP", (50,))
    out = tmp_path / "relevance.csv"
    given = ("--studies", tmp_path / "studies", "--split", tmp_path / "split.json", "--models", tmp_path, "--out", out)
    assert run_script(relevance_study.main, *given, "--patients", "3").exit_code == 0
    rows = read_rows(out)
    assert len(rows) == 3 * len(relevance_study.WAYS)
    for protected in (False, True):
        names = {way.name for way in relevance_study.WAYS if way.protected is protected}
        for patient in patients:
            kept = {row["tokens"] for row in rows if row["way"] in names and row["patient"] == patient}
            assert len(kept) == 1, kept
    monkeypatch.setattr(relevance_study, "_measure", lambda *_: pytest.fail("measured again"))
    assert run_script(relevance_study.main, *given, "--patients", "3").exit_code == 0
    assert run_script(relevance_study.main, *given, "--patients", "4").exit_code == 2
    text = relevance_text(out)
    assert "| relevance minus random tokens |" in text and "3 validation patients" in text
    write_rows(out, [row for row in rows if row["way"] != "random tokens"])
    with pytest.raises(ValueError, match="lacks relevance or random tokens of unetr at 50 %"):
        relevance_text(out)
