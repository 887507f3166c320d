"""Changes of the studies folder from outside are seen, and nothing else piles up."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from threading import Event

import numpy as np
import pytest
from watchdog.events import FileClosedEvent, FileCreatedEvent, FileDeletedEvent, FileModifiedEvent, FileMovedEvent, FileSystemEvent

import lib.datastore.studies
from lib.datastore.studies import StudiesDatastore
from lib.datastore.watcher import FolderEvents, Refresher
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


@pytest.mark.parametrize("change", [FileCreatedEvent, FileClosedEvent, FileDeletedEvent, FileModifiedEvent])
@pytest.mark.parametrize(
    ("place", "is_study"),
    [
        ("a.nii.gz", True),
        ("labels/final/a.nii.gz", True),
        ("labels/a.nii.gz", False),
        ("labels/final/old/a.nii.gz", False),
        ("history/final/a.nii.gz", False),
        ("a.txt", False),
        ("../a.nii.gz", False),
    ],
)
def test_images_and_labels_are_news_and_half_a_file_is_none(change: type[FileSystemEvent], place: str, is_study: bool) -> None:
    news: list[FileSystemEvent] = []
    folder = Path("/studies [1]")
    FolderEvents(folder, lambda: True, news.append).on_any_event(event := change(os.path.normpath(folder / place)))
    assert news == ([event] if is_study and change is not FileModifiedEvent else [])


@pytest.mark.parametrize("is_own", [True, False])
def test_the_list_is_news_where_another_program_wrote_it(is_own: bool) -> None:
    news: list[FileSystemEvent] = []
    events = FolderEvents(Path("/studies"), lambda: is_own, news.append)
    for path in ("/studies/datastore_v2.json", "/studies/labels/datastore_v2.json"):
        events.on_any_event(FileModifiedEvent(path))
    events.on_any_event(FileMovedEvent("/studies/new.tmp", "/studies/datastore_v2.json"))
    assert [event.event_type for event in news] == ([] if is_own else ["modified", "moved"])


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
