"""The studies that may come next and in which order, and the strategies that look at no image."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

from fastapi import HTTPException
from monailabel.interfaces.datastore import Datastore
from monailabel.interfaces.tasks.strategy import Strategy

from lib.activelearning.registry import register_strategy
from lib.infers.live_predictor import LivePredictor


def list_unlabelled(datastore: Datastore) -> list[str]:
    """The studies without a final label.

    Raises:
        HTTPException: 404, there are none.
    """
    studies: list[str] = datastore.get_unlabeled_images()
    if not studies:
        raise HTTPException(404, "Every study here has a final label: add studies to the folder, or open a labelled one to correct it.")
    return studies


def shuffle_unlabelled(request: dict[str, Any], datastore: Datastore) -> list[str]:
    """Of the studies without a final label, those that the request's strategy handed out longest ago, shuffled by its ``seed`` (0).

    Two labellers at work on one folder are handed different studies, and the same requests give the same studies again.

    Raises:
        HTTPException: 404, there are none.
    """

    def handed_out(study: str) -> int:
        ts: int = datastore.get_image_info(study).get("strategy", {}).get(request.get("strategy"), {}).get("ts", 0)
        return ts

    times = {study: handed_out(study) for study in list_unlabelled(datastore)}
    oldest = [study for study, ts in times.items() if ts == min(times.values())]
    seed = request.get("seed", 0)
    return sorted(oldest, key=lambda study: hashlib.sha256(f"{seed}:{study}".encode()).hexdigest())


@register_strategy("first")
class First(Strategy):
    """The first study by name that has no final label."""

    def __init__(self, predictors: Mapping[str, LivePredictor], default: str) -> None:
        super().__init__("The first study without a final label")

    def __call__(self, request: dict[str, Any], datastore: Datastore) -> dict[str, Any]:
        return {"id": min(list_unlabelled(datastore))}


@register_strategy("random")
class Random(Strategy):
    """A study without a final label, drawn by the request's ``seed``; see :func:`shuffle_unlabelled`."""

    def __init__(self, predictors: Mapping[str, LivePredictor], default: str) -> None:
        super().__init__("A random study without a final label")

    def __call__(self, request: dict[str, Any], datastore: Datastore) -> dict[str, Any]:
        return {"id": shuffle_unlabelled(request, datastore)[0]}
