"""What a batch inference has to do, checked before it begins."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from fastapi import HTTPException
from monailabel.interfaces.datastore import Datastore, DefaultLabelTag
from monailabel.interfaces.tasks.batch_infer import BatchInferImageType

from lib.infers.devices import device_named
from prato.inference.request import InferenceRequest, RequestError

#: Parameters of MONAI Label's own batch job that have no effect: here one network computes at a time, and every mask is stored.
_IGNORED = {"multi_gpu", "gpus", "max_workers", "logging", "save_label", "client_id"}
_CHOICES = ", ".join(kind.value for kind in BatchInferImageType)


@dataclass(frozen=True)
class BatchOrder:
    """The ``studies`` to segment, in this order, by ``model`` on the torch device ``device``; ``prune`` as the wire contract has it."""

    model: str
    studies: tuple[str, ...]
    prune: str | None
    device: str


def parse_batch_order(request: Mapping[str, Any], datastore: Datastore) -> BatchOrder:
    """Read ``request``: ``model`` and ``images``, and of ``max_batch_size``, ``label_tag``, ``prune`` and ``device`` what is there.

    Raises:
        HTTPException: 400 for a value that is not allowed, 404 for an unknown study, or for none at all.
    """
    unknown = [name for name in request if name not in {"model", "images", "max_batch_size", "label_tag", "prune", "device", *_IGNORED}]
    try:
        if unknown:
            raise RequestError(
                f"{unknown[0]!r:.60} is not a parameter of a batch, whose boxes are proposed: use images, max_batch_size, prune or device."
            )
        if request.get("label_tag", DefaultLabelTag.ORIGINAL) != DefaultLabelTag.ORIGINAL:
            raise RequestError("label_tag must be original (the models' own proposals): a batch never replaces submitted labels.")
        limit = request.get("max_batch_size", 0)
        if type(limit) is not int or limit < 0:
            raise RequestError(f"max_batch_size must be a number of studies, 0 for all, not {limit!r:.40}.")
        prune = InferenceRequest.parse({"prune": request.get("prune")}).prune
        device = device_named(request.get("device"))
        studies = _studies(request.get("images"), datastore)
    except RequestError as error:
        raise HTTPException(400, str(error)) from error
    if not studies:
        raise HTTPException(
            404, "There is no study to segment in this selection: GET /datastore/?output=all lists all studies and their labels."
        )
    return BatchOrder(str(request["model"]), tuple(studies[:limit] if limit else studies), prune, device)


def _studies(images: Any, datastore: Datastore) -> list[str]:
    """The ids of the studies that ``images`` selects, sorted."""
    everyone = sorted(datastore.list_images())
    if images == BatchInferImageType.IMAGES_ALL:
        return everyone
    if images == BatchInferImageType.IMAGES_LABELED:
        return sorted(datastore.get_labeled_images())
    if images == BatchInferImageType.IMAGES_UNLABELED:
        return sorted(datastore.get_unlabeled_images())
    if not isinstance(images, list) or not all(isinstance(study, str) for study in images):
        raise RequestError(f"images must be one of {_CHOICES}, or a list of studies' ids, not {images!r:.60}.")
    absent = sorted(set(images) - set(everyone))
    if absent:
        raise HTTPException(404, f"There is no image {absent[0][:80]!r} among the studies: GET /datastore/?output=all lists their ids.")
    return sorted(set(images))
