"""Edits that were not sent, in files: complete or not there, by server and study."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("slicer", reason="slicer-core is not installed: pip install -r tests/requirements.txt")

from PratoLabelLib.scene.drawing import Drawing, Part
from PratoLabelLib.studies.autosave import Autosave
from PratoLabelLib.studies.drafts import DraftFolder
from tests.slicer_module.fake_client import LABELS

MASK = np.arange(60, dtype=np.uint8).reshape(3, 4, 5) % 4


def save(drafts: DraftFolder, server: str = "http://a", study: str = "p1", mask: np.ndarray = MASK, **phases: np.ndarray) -> Path:
    path = drafts.new_path(server, study)
    drawings = {int(name[1:]): Drawing(mask) for name, mask in phases.items()} or {0: Drawing(mask)}
    drafts.save(path, server, study, drawings, LABELS, 2, {"model": "m"})
    return path


def test_a_draft_is_found_as_it_was_saved(tmp_path: Path) -> None:
    drafts = DraftFolder(tmp_path / "not there yet")
    assert (drafts.find("http://a", "p1"), drafts.studies("http://a")) == (None, set())
    save(drafts)
    found = drafts.find("http://a", "p1")
    assert found is not None
    assert found.drawings.keys() == {0} and found.drawings[0].is_like(Drawing(MASK))
    assert (found.server, found.study, found.labels, found.base_version, found.provenance) == ("http://a", "p1", LABELS, 2, {"model": "m"})
    assert drafts.studies("http://a") == {"p1"}
    drafts.discard_sent("http://a", "p1", {0: Drawing(MASK)}, ())
    assert drafts.find("http://a", "p1") is None
    assert list(tmp_path.rglob("*.npz")) == []


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(("http://a", "http://b:1")), st.text(max_size=200)), min_size=2, max_size=5, unique=True))
def test_every_study_of_every_server_has_its_own(tmp_path_factory: pytest.TempPathFactory, places: list[tuple[str, str]]) -> None:
    drafts = DraftFolder(tmp_path_factory.mktemp("drafts"))
    for n, (server, study) in enumerate(places):
        save(drafts, server, study, mask=np.full((2, 2, 2), n, np.uint8))
    drafts.discard_sent(*places[0], {0: Drawing(np.zeros((2, 2, 2), np.uint8))}, ())
    assert drafts.find(*places[0]) is None
    for n, (server, study) in enumerate(places[1:], 1):
        found = drafts.find(server, study)
        assert found is not None and found.drawings[0].mask[0, 0, 0] == n and found.study == study


def test_a_later_session_replaces_nothing_of_an_earlier_one(tmp_path: Path) -> None:
    drafts = DraftFolder(tmp_path)
    first = save(drafts)
    second = save(drafts, mask=MASK * 0)
    assert drafts.find("http://a", "p1").path == second
    assert drafts.find("http://a", "p1", {second}).path == first


def test_two_slicers_with_one_study_save_beside_each_other(tmp_path: Path) -> None:
    here, there = DraftFolder(tmp_path), DraftFolder(tmp_path)
    paths = [drafts.new_path("http://a", "p1") for drafts in (here, there)]  # both have opened it before either has saved
    for drafts, path, value in zip((here, there), paths, (1, 2)):
        drafts.save(path, "http://a", "p1", {0: Drawing(MASK * 0 + value)}, LABELS, 2, {})
    assert {int(here.find("http://a", "p1", {path}).drawings[0].mask.max()) for path in paths} == {1, 2}


def test_a_draft_goes_once_just_its_drawing_is_sent(tmp_path: Path) -> None:
    drafts, whole, empty = DraftFolder(tmp_path), Drawing(MASK), Drawing(MASK * 0)
    both = save(drafts, p1=MASK, p3=MASK * 0)
    other = save(drafts, p1=MASK * 0 + 1)
    for sent in ({0: whole}, {1: whole}, {1: whole, 3: whole}):
        drafts.discard_sent("http://a", "p1", sent, {other} if 1 not in sent else ())
        assert both.exists() and other.exists(), sent.keys()
    drafts.discard_sent("http://a", "p1", {1: whole, 3: empty}, {other})
    assert not both.exists() and not other.exists()


def test_what_a_mask_cannot_hold_is_part_of_a_draft(tmp_path: Path) -> None:
    drafts, parts = DraftFolder(tmp_path), (Part("", "scar", MASK == 2), Part("RV cavity", "RV cavity", MASK > 0))
    drawings = {1: Drawing(MASK), 4: Drawing(MASK, parts)}
    drafts.save(drafts.new_path("http://a", "p1"), "http://a", "p1", drawings, LABELS, 2, {})
    found = drafts.find("http://a", "p1")
    assert found.drawings.keys() == {1, 4} and all(found.drawings[phase].is_like(drawing) for phase, drawing in drawings.items())
    drafts.discard_sent("http://a", "p1", {1: Drawing(MASK), 4: Drawing(MASK)}, ())
    assert found.path.exists()
    drafts.discard_sent("http://a", "p1", drawings, ())
    assert not found.path.exists()


@pytest.mark.parametrize("damage", [b"", b"PK", b"\x00" * 200])
def test_a_damaged_file_costs_itself_alone(tmp_path: Path, damage: bytes) -> None:
    drafts = DraftFolder(tmp_path)
    save(drafts)
    save(drafts).write_bytes(damage)
    save(drafts, study="p2").write_bytes(damage)
    assert drafts.studies("http://a") == {"p1"}
    assert np.array_equal(drafts.find("http://a", "p1").drawings[0].mask, MASK)
    assert drafts.find("http://a", "p2") is None


@pytest.mark.slow
def test_a_folder_that_cannot_be_written_is_an_error_and_leaves_no_half_file(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(OSError):
        save(DraftFolder(tmp_path / "file"))
    assert [path.name for path in tmp_path.rglob("*")] == ["file"]


@pytest.mark.parametrize("has_gone_on", [False, True])
def test_a_draft_that_is_in_the_segments_goes_with_the_next_one_unless_another_slicer_has_gone_on_from_it(
    tmp_path: Path, has_gone_on: bool
) -> None:
    drafts, drawn = DraftFolder(tmp_path), {0: Drawing(MASK)}
    earlier = save(drafts)
    study: Any = SimpleNamespace(study="p1", labels=LABELS, base=None, provenance={}, is_in_scene=True, has_unsent_edits=True)
    study.holds, study.unsent, study.unsent_phases = lambda drawings: True, lambda: drawn, lambda: {0}
    kept = Autosave(drafts, "http://a", study, pytest.fail)
    if has_gone_on:
        drafts.save(earlier, "http://a", "p1", {0: Drawing(MASK[::-1])}, LABELS, 2, {})
    kept.note_change()
    kept.save()
    assert kept.offer is None and earlier.exists() == has_gone_on
