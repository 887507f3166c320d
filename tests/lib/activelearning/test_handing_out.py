"""Who asks for the next study, and what is noted of it."""

from __future__ import annotations

import time
from pathlib import Path
from threading import Barrier, Thread, get_ident
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from monailabel.endpoints import activelearning

import lib.datastore.studies
from lib.activelearning.registry import build_strategies
from lib.activelearning.studies import AT_WORK_S
from lib.datastore.studies import StudiesDatastore
from lib.server import stock_routes
from prato.data.nifti import write_volume


class App:
    """A server on ``store``, as much of it as hands out studies; ``before_answer`` is called once a strategy has chosen."""

    def __init__(self, store: StudiesDatastore) -> None:
        self.store, self.strategies = store, build_strategies({}, "heart")
        self.before_answer: Any = lambda: None

    def info(self) -> dict[str, Any]:
        return {"strategies": self.strategies}

    def datastore(self) -> StudiesDatastore:
        return self.store

    def refresh_studies(self) -> None:
        self.store.refresh()

    def next_sample(self, request: dict[str, Any]) -> dict[str, Any]:
        chosen = self.strategies[request["strategy"]](request, self.store)
        self.before_answer()
        return {**chosen, "path": str(self.store.folder)}


@pytest.fixture
def app(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> App:
    monkeypatch.setattr(lib.datastore.studies.settings, "MONAI_LABEL_DATASTORE_AUTO_RELOAD", False)
    for name in ("a", "b", "c"):
        write_volume(tmp_path / f"{name}.nii.gz", np.ones((8, 7, 3), np.int16), np.diag([-1.5, -1.5, 8.0, 1.0]))
    found = App(StudiesDatastore(str(tmp_path)))
    for module in (stock_routes, activelearning):
        monkeypatch.setattr(module, "app_instance", lambda: found)
    return found


def ask(path: str = "random", **params: Any) -> dict[str, Any]:
    return stock_routes.next_sample(path, params, user=SimpleNamespace(username="somebody"))  # type: ignore[arg-type]


@pytest.mark.parametrize("people", [2, 3])
def test_who_asks_at_the_same_moment_is_handed_another_study(app: App, people: int) -> None:
    all_have_chosen, waited, found = Barrier(people), set(), []

    def wait_once() -> None:
        if get_ident() not in waited:
            waited.add(get_ident())
            all_have_chosen.wait(60)

    app.before_answer = wait_once
    threads = [Thread(target=lambda: found.append(ask()["id"])) for _ in range(people)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(found) == len(set(found)) == people


def test_what_another_strategy_has_just_handed_out_to_somebody_else_waits(app: App) -> None:
    def drawn(client: str) -> set[str]:
        return {app.next_sample({"strategy": "random", "seed": seed, "client_id": client})["id"] for seed in range(20)}

    assert ask("first", client_id="Ada")["id"] == "a"
    assert drawn("Ben") == {"b", "c"} and drawn("Ada") == {"a", "b", "c"}
    assert {ask("random", seed=seed, client_id="Ben")["id"] for seed in (0, 1)} == {"b", "c"}
    long_ago = {"first": {"ts": int(time.time() - AT_WORK_S) - 1, "client_id": "Ada"}}
    app.store.update_image_info("a", {"strategy": long_ago})
    assert drawn("Ben") == {"a"}


@pytest.mark.parametrize("strategy", ["first", "random"])
def test_what_was_handed_out_by_a_clock_that_has_been_set_back_since_does_not_wait_for_it(app: App, strategy: str) -> None:
    for name in ("b", "c"):
        app.store.update_image_info(name, {"strategy": {"random": {"ts": int(time.time()) - 5, "client_id": "Ben"}}})
    app.store.update_image_info("a", {"strategy": {strategy: {"ts": int(time.time()) + 10**8, "client_id": "Ada"}}})
    assert app.next_sample({"strategy": "random", "client_id": "Ben"})["id"] == "a"


def test_studies_that_others_are_at_work_on_are_handed_out_where_there_is_nothing_else(app: App) -> None:
    for name in ("a", "b", "c"):
        app.store.update_image_info(name, {"strategy": {"first": {"ts": int(time.time()), "client_id": "Ada"}}})
    assert {app.next_sample({"strategy": "random", "seed": seed})["id"] for seed in range(20)} == {"a", "b", "c"}


def test_the_last_study_is_handed_to_everybody(app: App) -> None:
    for name in ("a", "b"):
        app.store.remove_image(name)
    assert [ask()["id"] for _ in range(3)] == ["c"] * 3


def test_it_is_noted_for_the_strategy_that_was_asked_and_who_asked(app: App) -> None:
    study = ask("random", strategy="first", client_id="Ada")["id"]
    assert {name: noted["client_id"] for name, noted in app.store.get_image_info(study)["strategy"].items()} == {"first": "Ada"}
    assert StudiesDatastore(str(app.store.folder)).get_image_info(study)["strategy"] == app.store.get_image_info(study)["strategy"]


def test_what_clients_noted_about_a_study_is_not_taken_for_the_choice(app: App) -> None:
    for name in ("a", "b", "c"):
        app.store.update_image_info(name, {"id": "z", "phase": "ED", "reason": "blurred", "note": "kept"})
    reply = ask("first")
    assert (reply["id"], reply["note"]) == ("a", "kept") and not {"phase", "reason"} & reply.keys()


def test_a_study_that_was_removed_meanwhile_is_not_handed_out(app: App) -> None:
    def remove() -> None:
        app.before_answer = lambda: None
        app.store.remove_image("a")

    app.before_answer = remove
    assert ask("first")["id"] == "b"


def test_a_study_that_is_removed_while_it_is_looked_at_is_nothing_to_whoever_asks(app: App) -> None:
    def remove() -> None:
        app.before_answer = lambda: None
        app.store.remove_image("c")
        app.store.get_image_uri("c")  # as strategies do that score it

    app.before_answer = remove
    assert ask("first")["id"] == "a"


def test_whoever_is_always_forestalled_is_handed_a_study_in_the_end(app: App) -> None:
    asked: list[int] = []

    def forestall() -> None:
        asked.append(len(asked))
        for name in ("a", "b", "c"):
            app.store.update_image_info(name, {"strategy": {"first": {"ts": len(asked), "client_id": "Bob"}}})

    app.before_answer = forestall
    assert ask("first")["id"] == "a" and 1 < len(asked) < 100


def test_a_list_that_cannot_be_written_keeps_nobody_from_the_next_study(app: App, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse() -> None:
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(app.store, "changed_list", refuse)
    assert ask("first")["id"] == "a"
