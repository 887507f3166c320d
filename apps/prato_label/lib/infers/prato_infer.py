"""MONAI Label's inference task round a PrATo pipeline, on the image's own voxel grid."""

from __future__ import annotations

import logging
import time
from pathlib import Path
from typing import Any

from fastapi import HTTPException
from monailabel.interfaces.tasks.infer_v2 import InferTask, InferType

from lib.infers.devices import device_named, offered_devices
from lib.infers.image_cache import images
from lib.infers.live_pipeline import live_pipeline
from lib.infers.mask_file import mask_format, write_mask
from lib.infers.parameters import checked_parameters, shown_config
from lib.infers.token_map import packed
from lib.infers.turns import current_turn
from prato.data.nifti import VolumeError
from prato.data.nifti_head import VolumeTooLargeError
from prato.data.structures import STRUCTURES
from prato.models.checkpoint import CheckpointError
from prato.prompts.request import RequestError, parse_request
from prato.runtime.cancel_token import never

logger = logging.getLogger(__name__)


class PratoInfer(InferTask):
    """One model as MONAI Label offers it; offered while every file of ``needed`` exists, so that untrained weights never answer.

    Args:
        type: "deepedit" makes stock clients send a box and points, "segmentation" makes them send nothing.
        needed: the model file, followed by other files that this model cannot do without.
        locator: the locator's file, used where it exists.
    """

    def __init__(self, type: InferType, needed: tuple[Path, ...], locator: Path, description: str) -> None:
        super().__init__(type, dict(STRUCTURES), 3, description, shown_config(offered_devices()))
        self.needed = needed
        self.pipeline = live_pipeline(needed[0], locator)

    def info(self) -> dict[str, Any]:
        return {**super().info(), "cost_per_slice": self.pipeline.costs}

    def is_valid(self) -> bool:
        return all(path.is_file() for path in self.needed)

    def get_path(self, validate: bool = True) -> str | None:
        return str(self.needed[0]) if not validate or self.needed[0].is_file() else None

    def warm_up(self) -> None:
        """Load and measure the model on the default device; a damaged file is a line in the log now, and every request's answer later."""
        try:
            self.pipeline.warm_up(device_named(None))
        except CheckpointError as error:
            logger.error("%s", error)

    def __call__(self, request: dict[str, Any]) -> tuple[str, dict[str, Any]]:
        """The mask's file and the reply's JSON part, as ``docs/protocol.md`` defines them.

        Raises:
            HTTPException: 400 for a request or an image that cannot be used, 413 for an image that is too large, 503 for a model file
                that cannot be used.
            CancelledError: the request's turn was cancelled.
        """
        try:
            return self._answer(request)
        except VolumeTooLargeError as error:
            raise HTTPException(413, str(error)) from error
        except (RequestError, VolumeError) as error:
            raise HTTPException(400, str(error)) from error
        except CheckpointError as error:
            raise HTTPException(503, str(error)) from error

    def _answer(self, request: dict[str, Any]) -> tuple[str, dict[str, Any]]:
        start = time.perf_counter()
        params = checked_parameters(request)
        extension, dtype = mask_format(params)
        device = device_named(params.get("device"))
        image = params.get("image")
        if not isinstance(image, str) or not image:
            raise RequestError("The request names no image: give ?image=<id> of a study, or upload one as file.")
        stack = images.read(Path(image))
        volume = stack.stored
        x, y, z = volume.array.shape
        asked = parse_request(params, (x, y, z), volume.spacing)
        read = time.perf_counter()
        turn = current_turn.get(None)
        prediction = self.pipeline.predict(device, stack, asked, (lambda: turn.cancelled) if turn else never)
        predicted = time.perf_counter()
        path = write_mask(prediction.mask, volume.affine, extension, dtype)
        done = time.perf_counter()
        reply = {**prediction.reply(), "device": device}
        steps = {"read": read - start, "write": done - predicted, "total": done - start}
        reply["latency_ms"] |= {step: round(1000 * seconds, 1) for step, seconds in steps.items()}
        if turn:
            turn.reply = dict(reply)
        if prediction.tokens is not None:
            reply["tokens"] = packed(prediction.tokens)
        logger.info("%s: %s box %s, %.0f ms", Path(image).name, reply["box_source"], reply["box"], reply["latency_ms"]["total"])
        return path, reply
