"""The studies that may come next, and in which order."""

from __future__ import annotations

import hashlib
from typing import Any

from fastapi import HTTPException
from monailabel.interfaces.datastore import Datastore


def unlabelled(datastore: Datastore) -> list[str]:
    """The studies without a final label.

    Raises:
        HTTPException: 404, there are none.
    """
    studies: list[str] = datastore.get_unlabeled_images()
    if not studies:
        raise HTTPException(404, "Every study here has a final label: add studies to the folder, or open a labelled one to correct it.")
    return studies


def shuffled(request: dict[str, Any], datastore: Datastore) -> list[str]:
    """Of the studies without a final label, those that the request's strategy handed out longest ago, shuffled by its ``seed`` (0).

    Two labellers at work on one folder are handed different studies, and the same requests give the same studies again.

    Raises:
        HTTPException: 404, there are none.
    """

    def handed_out(study: str) -> int:
        ts: int = datastore.get_image_info(study).get("strategy", {}).get(request.get("strategy"), {}).get("ts", 0)
        return ts

    times = {study: handed_out(study) for study in unlabelled(datastore)}
    oldest = [study for study, ts in times.items() if ts == min(times.values())]
    seed = request.get("seed", 0)
    return sorted(oldest, key=lambda study: hashlib.sha256(f"{seed}:{study}".encode()).hexdigest())
