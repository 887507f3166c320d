"""MONAI Label's inference task round a predictor, on the image's own voxel grid."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from fastapi import HTTPException
from monailabel.interfaces.tasks.infer_v2 import InferTask, InferType

from lib.datastore.label_check import http_errors
from lib.infers.cine_infer import answer
from lib.infers.click_infer import correct, correct_prediction
from lib.infers.devices import device_named, offered_devices
from lib.infers.image_cache import images
from lib.infers.inference_queue import InferenceSlot, current_slot
from lib.infers.live_predictor import live_predictor
from lib.infers.result_files import encode_tokens, write_mask
from prato.data.cine import Cine, read_cine
from prato.data.structures import STRUCTURES
from prato.inference.request import DEFAULT_PRUNE, InferenceRequest, RequestError
from prato.models.checkpoint import CheckpointError
from prato.prompts.clicks import ClickPrompt
from prato.pruning.plan import PRUNE_CHOICES
from prato.runtime.cancel_token import CancelToken

logger = logging.getLogger(__name__)


@contextmanager
def errors_as_http() -> Iterator[None]:
    """Answer what the block raises about a request, an image or a model file with a status and one sentence."""
    try:
        with http_errors():
            yield
    except RequestError as error:
        raise HTTPException(400, str(error)) from error
    except CheckpointError as error:
        raise HTTPException(503, str(error)) from error


class PratoInfer(InferTask):
    """One model as MONAI Label offers it; offered while its file exists, so that untrained weights never answer.

    Args:
        type: "deepedit" makes stock clients send a box and points, "segmentation" makes them send nothing.
        model: the model file.
        locator: the file of a model that finds the heart by itself, and proposes boxes where it exists.
    """

    def __init__(self, type: InferType, model: Path, locator: Path, description: str) -> None:
        # options that clients show: lists become choices, booleans check boxes
        options = {"device": offered_devices(), "prune": [DEFAULT_PRUNE, *PRUNE_CHOICES], "return_tokens": False}
        super().__init__(type, dict(STRUCTURES), 3, description, options)
        self.model = model
        self.predictor = live_predictor(model, locator)

    def info(self) -> dict[str, Any]:
        return {**super().info(), "cost_per_slice": self.predictor.costs}

    def is_valid(self) -> bool:
        return self.model.is_file()

    def get_path(self, validate: bool = True) -> str | None:
        return str(self.model) if not validate or self.is_valid() else None

    def warm_up(self) -> None:
        """Load and measure the model on the default device; a damaged file is a line in the log now, and every request's answer later."""
        try:
            self.predictor.warm_up(device_named(None))
        except CheckpointError as error:
            logger.error("%s", error)

    @errors_as_http()
    def __call__(self, request: dict[str, Any]) -> tuple[str | None, dict[str, Any]]:
        """The mask's file, none where a mask was sent to be corrected, and the reply's JSON part as in ``docs/protocol/infer.md``.

        Raises:
            HTTPException: 400 for a request or an image that cannot be used, 413 for an image that is too large, 503 for a model file
                that cannot be used.
            CancelledError: the request was cancelled.
        """
        start = time.perf_counter()
        sent = InferenceRequest.parse(request)
        device = device_named(sent.device)
        if not isinstance(sent.image, str) or not sent.image:
            raise RequestError("The request names no image: give ?image=<study id>, or upload an image as file.")
        slot = current_slot.get(None) or InferenceSlot("")
        token = CancelToken(lambda: slot.is_cancelled)
        image, digest = images.read_with_digest(Path(sent.image), token)
        read = time.perf_counter()
        if sent.holds_mask:
            reply = correct(self.predictor, device, image, sent, token) | {"device": device, "image_sha256": digest}
            reply["latency_ms"] |= {"read": round(1000 * (read - start), 1), "total": round(1000 * (time.perf_counter() - start), 1)}
            slot.reply = dict(reply)
            return None, reply
        if isinstance(image, Cine) or sent.names_phases:
            cine = image if isinstance(image, Cine) else read_cine(sent.image, token)
            found = answer(self.predictor, device, cine, sent, slot)
            mask, reply, tokens = found.mask, found.reply, None
        else:
            clicks = sent.corrections(image.stored.array.shape, image.stored.spacing) if sent.holds_clicks else None
            prompts = sent.prompts(image.stored.array.shape, image.stored.spacing)
            if clicks is not None:
                prompts = (*prompts, *ClickPrompt.from_strokes(clicks.strokes))
            prediction = self.predictor.predict(device, image, prompts, sent.prune, return_tokens=sent.return_tokens, token=token)
            refined: dict[str, Any] = {}
            if clicks is not None:
                made = prediction.mask
                array, refined["refined"] = correct_prediction(self.predictor, device, image, prompts, made, clicks.strokes, token)
                prediction = prediction.with_mask(array, image.stored.spacing, image.axis)
            mask, reply, tokens = image.stored.with_array(prediction.mask), {**prediction.reply(), **refined}, prediction.tokens
        predicted = time.perf_counter()
        path = write_mask(mask, sent.result_extension, sent.result_dtype)
        done = time.perf_counter()
        reply |= {"device": device, "image_sha256": digest}
        reply["warnings"] += sent.warnings
        steps = {"read": read - start, "write": done - predicted, "total": done - start}
        reply["latency_ms"] |= {step: round(1000 * seconds, 1) for step, seconds in steps.items()}
        slot.reply = dict(reply)
        if tokens is not None:
            reply["tokens"] = encode_tokens(tokens)
        logger.info("%s: %s box %s, %.0f ms", Path(sent.image).name, reply["box_source"], reply["box"], reply["latency_ms"]["total"])
        return path, reply
