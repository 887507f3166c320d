"""Changes of the studies folder from outside are seen, and nothing else piles up."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from threading import Event

import numpy as np
import pytest
from watchdog.events import FileCreatedEvent, FileSystemEvent

import lib.datastore.studies
from lib.datastore.studies import StudiesDatastore
from lib.datastore.watcher import Refresher
from prato.data.nifti import write_volume
from tests.waiting import wait_until


def write(path: Path) -> Path:
    write_volume(path, np.ones((8, 7, 3), np.int16), np.diag([-1.5, -1.5, 8.0, 1.0]))
    return path


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[StudiesDatastore]:
    monkeypatch.setattr(lib.datastore.studies.settings, "MONAI_LABEL_DATASTORE_AUTO_RELOAD", True)
    write(tmp_path / "a.nii.gz")
    watched = StudiesDatastore(str(tmp_path))
    yield watched
    watched._observer.stop()
    watched._observer.join()


def test_a_study_that_comes_goes_or_is_renamed_is_seen(store: StudiesDatastore) -> None:
    path = store.folder / "b.nii.gz"
    write(path)  # as a temporary file, renamed
    wait_until(lambda: set(store.list_images()) == {"a", "b"})
    (store.folder / "c.nii.gz").write_bytes(path.read_bytes())  # in place
    wait_until(lambda: set(store.list_images()) == {"a", "b", "c"})
    path.rename(store.folder / "d.nii.gz")
    wait_until(lambda: set(store.list_images()) == {"a", "c", "d"})
    (store.folder / "c.nii.gz").unlink()
    wait_until(lambda: set(store.list_images()) == {"a", "d"})
    assert set(store.list_images()) == {path.name.removesuffix(".nii.gz") for path in store.folder.glob("*.nii.gz")}


def test_what_is_read_makes_no_events(store: StudiesDatastore, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[FileSystemEvent] = []
    monkeypatch.setattr(store._handler, "dispatch", seen.append)
    for _ in range(100):
        (store.folder / "a.nii.gz").read_bytes()
        list(store.folder.iterdir())
    write(store.folder / "last.nii.gz")
    wait_until(lambda: any(str(store.folder / "last.nii.gz") in (event.src_path, event.dest_path) for event in list(seen)))
    assert {event.event_type for event in seen} <= {"created", "modified", "closed", "moved"}
    assert len(seen) < 20


def test_one_look_answers_all_events_that_came_before_it() -> None:
    looks, begun, go_on = [], Event(), Event()

    def look() -> None:
        looks.append(1)
        begun.set()
        assert go_on.wait(100)
        if len(looks) == 2:
            raise OSError("the folder is gone")

    refresher = Refresher(look)
    refresher(FileCreatedEvent("a"))
    assert begun.wait(100)
    for n in range(1000):
        refresher(FileCreatedEvent(f"b{n}"))
    go_on.set()
    wait_until(lambda: len(looks) == 2)
    # and the next change is seen, whatever that look came to
    refresher(FileCreatedEvent("c"))
    wait_until(lambda: len(looks) == 3)
    assert not refresher._due.is_set()
