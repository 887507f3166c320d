"""Which study to label next."""

from __future__ import annotations

import hashlib
from typing import Any

from fastapi import HTTPException
from monailabel.interfaces.datastore import Datastore
from monailabel.interfaces.tasks.strategy import Strategy


class First(Strategy):
    """The first study by name that has no final label."""

    def __init__(self) -> None:
        super().__init__("The first study without a final label")

    def __call__(self, request: dict[str, Any], datastore: Datastore) -> dict[str, Any]:
        return {"id": min(_unlabelled(datastore))}


class Random(Strategy):
    """A study without a final label, drawn by the request's ``seed`` (0) from those that were handed out longest ago.

    Two labellers at work on one folder are handed different studies, and the same requests give the same studies again.
    """

    def __init__(self) -> None:
        super().__init__("A random study without a final label")

    def __call__(self, request: dict[str, Any], datastore: Datastore) -> dict[str, Any]:
        seed = request.get("seed", 0)

        def rank(study: str) -> tuple[int, str]:
            handed_out = datastore.get_image_info(study).get("strategy", {}).get(request.get("strategy"), {}).get("ts", 0)
            return handed_out, hashlib.sha256(f"{seed}:{study}".encode()).hexdigest()

        return {"id": min(_unlabelled(datastore), key=rank)}


def strategies() -> dict[str, Strategy]:
    """The strategies by the names that clients show."""
    return {"first": First(), "random": Random()}


def _unlabelled(datastore: Datastore) -> list[str]:
    studies: list[str] = datastore.get_unlabeled_images()
    if not studies:
        raise HTTPException(404, "Every study here has a final label: add studies to the folder, or open a labelled one to correct it.")
    return studies
