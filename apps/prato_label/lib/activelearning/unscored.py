"""Strategies that look at no image."""

from __future__ import annotations

from typing import Any

from monailabel.interfaces.datastore import Datastore
from monailabel.interfaces.tasks.strategy import Strategy

from lib.activelearning.unlabelled import shuffled, unlabelled


class First(Strategy):
    """The first study by name that has no final label."""

    def __init__(self) -> None:
        super().__init__("The first study without a final label")

    def __call__(self, request: dict[str, Any], datastore: Datastore) -> dict[str, Any]:
        return {"id": min(unlabelled(datastore))}


class Random(Strategy):
    """A study without a final label, drawn by the request's ``seed``; see ``shuffled``."""

    def __init__(self) -> None:
        super().__init__("A random study without a final label")

    def __call__(self, request: dict[str, Any], datastore: Datastore) -> dict[str, Any]:
        return {"id": shuffled(request, datastore)[0]}
