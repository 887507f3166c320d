"""kill -9 at any moment of a save: the folder opens, nothing that was acknowledged is lost, and no label disagrees with its record."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
import pytest

import lib.datastore.studies
from lib.datastore.studies import StudiesDatastore
from prato.data.nifti import read_volume, write_volume
from prato.data.studies.label_records import HISTORY
from prato.labelling.files import sha256
from prato.labelling.records import Version
from tests.killed import KILLED, Order, killable
from tests.prato.labelling import saver

pytestmark = pytest.mark.slow


@pytest.fixture
def studies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(lib.datastore.studies.settings, "MONAI_LABEL_DATASTORE_AUTO_RELOAD", False)
    folder = tmp_path / "studies"
    (folder / "labels" / "final").mkdir(parents=True)
    write_volume(folder / "a.nii.gz", np.ones(saver.SHAPE, np.int16), saver.AFFINE)
    return folder


@pytest.fixture(scope="module")
def killer() -> Iterator[Order]:
    with killable() as give:
        yield give


@pytest.fixture
def order(killer: Order, studies: Path) -> Order:
    """Let another process do something to the label, and be killed; returns its exit code."""
    return partial(killer, studies)


def told(studies: Path) -> tuple[list[int], dict[int, int]]:
    """The marks that were about to be saved, in order, and version -> mark of those that were acknowledged."""
    path = studies.parent / "told"
    lines = [line.split() for line in path.read_text().splitlines()] if path.exists() else []
    return [int(line[0]) for line in lines if line[1] == "about"], {int(line[2]): int(line[0]) for line in lines if line[1] == "saved"}


def reopened(studies: Path) -> tuple[list[Version], Version | None]:
    """The folder as a server finds it when it starts: checked, then its versions and the current one."""
    store = StudiesDatastore(str(studies))
    assert store.list_images() == ["a"]
    versions, current = store.versions("a", "final").list_versions()
    stored = studies / "labels" / "final" / "a.nii.gz"
    assert (current is None) == (not stored.exists())
    for version in versions:
        assert sha256(store.versions("a", "final").read(version.version)) == version.sha256
    assert [version.version for version in versions] == list(range(1, 1 + len(versions)))
    if current is not None:
        assert read_volume(stored).array.shape == saver.SHAPE
        assert current == versions[-1]
        assert current.sha256 == sha256(stored.read_bytes()) == store.get_label_info("a", "final")["sha256"]
        assert store.get_label_info("a", "final").get("mark") == current.params.get("mark")
    else:
        assert store.get_unlabeled_images() == ["a"]
    history = studies / HISTORY / "final" / "a"
    names = {path.name for path in history.iterdir() if path.name != ".lock"} if history.exists() else set()
    kept = versions if current is None or current.origin != "found" else versions[:-1]
    assert {f"{version.version:04d}.nii.gz" for version in kept} <= names
    assert not list(studies.rglob("*.tmp"))
    return versions, current


def test_at_sixty_random_moments(studies: Path, order: Order) -> None:
    """Sixty at least, and on until several of them came after a save: how long one takes depends on what else the machine does."""
    random, longest, kills, saved = np.random.default_rng(20), 0.1, 0, {}
    while kills < 60 or len(saved) <= 5:
        known, kills = len(saved), kills + 1
        assert order("save", kills, seconds=random.uniform(0.001, longest)) == KILLED
        versions, current = reopened(studies)
        marks, saved = told(studies)
        longest *= 1.2 if len(saved) == known else 1 / 1.2  # so that some are killed before a save and some after
        assert longest < 100, "nothing is ever saved"
        found = {version.version: version.params["mark"] for version in versions}
        assert saved.items() <= found.items()
        assert set(found.values()) <= set(marks)
        if saved:  # the last that was acknowledged, or one that was under way
            assert current is not None
            assert current.version >= max(saved)


@pytest.mark.parametrize("before", ["nothing", "a version", "a version and a label by hand"])
def test_before_every_step_of_a_save(studies: Path, order: Order, before: str) -> None:
    outcomes = every_step(studies, order, "save", before)
    new = 1 + (before != "nothing") + ("hand" in before)
    assert len(outcomes) > 4
    assert outcomes[0] != outcomes[-1] == new  # at first the old label, in the end the new one
    assert outcomes == sorted(outcomes, key=lambda outcome: outcome == new)  # and from one step on


def test_before_every_step_of_a_removal(studies: Path, order: Order) -> None:
    outcomes = every_step(studies, order, "remove", "a label by hand")
    assert len(outcomes) > 4
    assert outcomes[0] is not None
    assert outcomes[-1] is None
    assert outcomes == sorted(outcomes, key=lambda outcome: outcome is None)


def every_step(studies: Path, order: Order, do: str, before: str) -> list[int | None]:
    """From ``before``, kill ``do`` before its first step, its second, ... until it ends by itself: each time the old label or the new one.

    Returns the version that was current after each of them; None for no label.
    """
    if "version" in before:
        assert order("save", 1) == 0
    if "hand" in before:
        write_volume(studies / "labels" / "final" / "a.nii.gz", np.full(saver.SHAPE, 2, np.uint8), saver.AFFINE)
    old = {version.version: version.sha256 for version in reopened(studies)[0]}
    shutil.copytree(studies, studies.parent / "before")
    outcomes, event, code = [], 0, KILLED
    while code == KILLED:
        event += 1
        shutil.rmtree(studies)
        shutil.copytree(studies.parent / "before", studies)
        code = order(do, 2, event=event)
        versions, current = reopened(studies)
        found = {version.version: version.sha256 for version in versions}
        assert old.items() <= found.items()
        assert all(version.annotator == "Ada" for version in versions[len(old) :])
        outcomes.append(current.version if current else None)
        removed = [removal.annotator for version in versions for removal in version.removals]
        assert removed == ([] if current else ["Bob"] if do == "remove" else [])  # told of as soon as it is so, and no sooner
        done = None if do == "remove" else 1 + len(old)
        assert outcomes[-1] in (len(old) or None, done)
    assert code == 0
    return outcomes
