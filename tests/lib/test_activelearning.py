"""Which study comes next."""

from __future__ import annotations

from typing import Any

import pytest
from fastapi import HTTPException

from lib.activelearning import strategies


class Folder:
    """A datastore with ``unlabelled`` studies, some of them handed out at a time by the strategy "random"."""

    def __init__(self, *unlabelled: str, handed_out: dict[str, int] | None = None) -> None:
        self.unlabelled, self.handed_out = list(unlabelled), handed_out or {}

    def get_unlabeled_images(self) -> list[str]:
        return self.unlabelled

    def get_image_info(self, study: str) -> dict[str, Any]:
        ts = self.handed_out.get(study)
        return {} if ts is None else {"strategy": {"random": {"ts": ts}}}


def drawn(folder: Folder, **more: Any) -> str:
    return strategies()["random"]({"strategy": "random", **more}, folder)["id"]


def test_first_is_the_first_by_name() -> None:
    assert strategies()["first"]({}, Folder("c", "a", "b")) == {"id": "a"}


def test_random_follows_its_seed() -> None:
    names = [f"heart{n}" for n in range(20)]
    assert {drawn(Folder(*names), seed=4) for _ in range(3)} == {drawn(Folder(*reversed(names)), seed=4)}
    assert len({drawn(Folder(*names), seed=seed) for seed in range(10)}) > 4


def test_random_prefers_what_was_handed_out_longest_ago() -> None:
    assert drawn(Folder("a", "b", "c", handed_out={"a": 100, "c": 90})) == "b"
    assert drawn(Folder("a", "b", "c", handed_out={"a": 100, "b": 100, "c": 90})) == "c"


@pytest.mark.parametrize("name", ["first", "random"])
def test_nothing_left_is_said(name: str) -> None:
    with pytest.raises(HTTPException, check=lambda error: error.status_code == 404 and "final label" in error.detail):
        strategies()[name]({"strategy": name}, Folder())
