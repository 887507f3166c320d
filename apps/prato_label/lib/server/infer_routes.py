"""Inference over HTTP: requests, their queue, their progress, and how they are cancelled."""

from __future__ import annotations

import asyncio
import json
import os
import time
from collections import deque
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from typing import Annotated, Any

from fastapi import APIRouter, BackgroundTasks, Depends, File, Form, HTTPException, Request, UploadFile
from fastapi.responses import StreamingResponse
from monailabel.endpoints import infer
from monailabel.endpoints.user.auth import User
from monailabel.interfaces.app import MONAILabelApp
from monailabel.interfaces.utils.app import app_instance

from lib.datastore.studies import StudiesDatastore
from lib.infers.devices import device_named
from lib.infers.inference_queue import InferenceSlot, QueueFullError, inference_queue
from lib.infers.prato_infer import errors_as_http
from lib.server import checks
from lib.server.checks import USER
from lib.server.corrections import read_corrections
from lib.server.errors import CLIENT_CLOSED_REQUEST
from lib.server.study_routes import known_of
from lib.server.uploads import stored_upload
from lib.server.viewer import name_study
from prato.inference.request import InferenceRequest
from prato.runtime.cancel_token import CancelledError
from prato_server.middleware import request_id

router = APIRouter()
#: How often it is looked at how far a request is, for those who follow it.
_LOOK_S = 0.1
#: The last requests for inference, newest first, for the status page; in memory only.
recent_requests: deque[dict[str, Any]] = deque(maxlen=50)


async def _slot(request: Request) -> AsyncIterator[InferenceSlot]:
    """The request's slot in the queue, cancelled once its client has gone."""
    slot = InferenceSlot(request_id(request.scope))

    async def watch() -> None:
        while (await request.receive())["type"] != "http.disconnect":
            pass
        slot.is_cancelled = True
        inference_queue.notify()

    watcher = asyncio.create_task(watch())
    try:
        yield slot
    finally:
        watcher.cancel()


@router.post("/infer", dependencies=[Depends(checks.require_params_in_place)])
@router.post("/infer/{model}", dependencies=[Depends(checks.require_params_in_place)])
def run_inference(
    *,
    background_tasks: BackgroundTasks,
    slot: Annotated[InferenceSlot, Depends(_slot)],
    model: str = "",
    image: str = "",
    session_id: str = "",
    params: Annotated[str, Form()] = "{}",
    file: Annotated[UploadFile | None, File()] = None,
    label: Annotated[UploadFile | None, File()] = None,
    output: infer.ResultType | None = None,
    user: User = USER,
) -> Any:
    """Segment one image, by the default model where none is named; see docs/protocol/infer.md."""
    app, options = app_instance(), checks.parse_json_object(params)
    model = options.get("model", model or app.default_model)
    checks.require_known("model", model, app.info()["models"])
    if label and not options.get("propagate"):
        raise HTTPException(400, "A mask was sent as label, which only propagate uses: leave it out, or send propagate.")
    named = options.pop("image", image)
    image = "" if file or session_id else name_study(app, named, options)  # as in MONAI Label, whose client names an image in any case
    if session_id:
        checks.require_session(app, session_id)
    elif not file:
        checks.require_image(app, image)
        _describe_heart(slot, app, image, options)
    drawn_on = options.pop("study", image)
    if drawn_on != image:
        raise HTTPException(
            400, f"The prompts were drawn on {drawn_on!r:.80}, not on {image or 'the uploaded image'}: send them for that study."
        )
    slot.corrections = read_corrections(app, image, options, label)
    if file:
        checks.require_nifti(file, "The uploaded image")
    if output == infer.ResultType.dicom_seg:
        raise HTTPException(400, "Masks are not returned as DICOM SEG: ask for image, json or all; a PACS gets its labels once approved.")
    if options.get("previous") and output == infer.ResultType.image:
        raise HTTPException(400, "Corrections of a mask are returned as JSON: ask for output=json with previous.")
    with errors_as_http():  # what can be told without the image is told at once, however many wait
        device_named(InferenceRequest.parse(options).device)
    slot.is_correction = bool(options.get("previous"))
    start, status = time.monotonic(), 500
    try:
        with remove_results_on_error(background_tasks), inference_queue.acquire(slot), _source(app, image, file) as source:
            answer = infer.run_inference(background_tasks, model, source, session_id, json.dumps(options), None, None, output)
        status = 200
        return answer
    except HTTPException as error:
        status = error.status_code
        raise
    except QueueFullError:
        status = 429
        raise
    except CancelledError:
        status = CLIENT_CLOSED_REQUEST
        raise
    finally:
        record_request(slot, model, image or "(uploaded)", status, time.monotonic() - start)


def _describe_heart(slot: InferenceSlot, app: MONAILabelApp, image: str, options: dict[str, Any]) -> None:
    """What is known of the study's heart, for its function, of which a click's reply says nothing."""
    if not options.get("previous"):
        about, slot.named = known_of(app.datastore(), image)
        slot.height_cm, slot.weight_kg = about.height_cm, about.weight_kg


@contextmanager
def _source(app: MONAILabelApp, image: str, file: UploadFile | None) -> Iterator[str]:
    """Where the image of a request lies: MONAI Label would take a study's id for a path, if there happened to be such a file."""
    if file:
        with stored_upload(file) as path:
            yield str(path)
    else:
        uri = app.datastore().get_image_uri(image) if image and isinstance(app.datastore(), StudiesDatastore) else image
        if uri != image:
            os.stat(uri)  # MONAI Label would look for a study whose id is the path of a file that was removed meanwhile
        yield uri


@contextmanager
def remove_results_on_error(background_tasks: BackgroundTasks) -> Iterator[None]:
    """Remove a request's temporary files when the block raises: MONAI Label removes them after a reply, and then there is none."""
    try:
        yield
    except BaseException:
        for task in background_tasks.tasks:
            task.func(*task.args, **task.kwargs)
        raise


@router.delete("/infer/{request_id}")
def cancel_inference(request_id: str, user: User = USER) -> dict[str, str]:
    """Cancel the request with that ``X-Request-ID``, whether it is waiting or running."""
    if not inference_queue.cancel(request_id):
        raise HTTPException(404, f"No inference with the id {request_id[:64]!r} is waiting or running: it has finished, or never existed.")
    return {"cancelled": request_id}


@router.get("/infer/{request_id}")
def infer_progress(request_id: str, follow: bool = False, user: User = USER) -> Any:
    """How far the request with that ``X-Request-ID`` is; with ``follow``, told again whenever that changes, until the request ends."""
    now = inference_queue.progress(request_id)
    if now is None:
        raise HTTPException(404, f"No inference with the id {request_id[:64]!r} is waiting or running: it has finished, or never existed.")
    # nginx would gather the events until the last of them has come
    return StreamingResponse(_follow(request_id), media_type="text/event-stream", headers={"X-Accel-Buffering": "no"}) if follow else now


async def _follow(request_id: str) -> AsyncIterator[str]:
    """Server-sent events: a JSON object for each change."""
    told: dict[str, Any] | None = None
    while (now := inference_queue.progress(request_id)) is not None:
        if now != told:
            told = now
            yield f"data: {json.dumps(now)}\n\n"
        await asyncio.sleep(_LOOK_S)


def record_request(slot: InferenceSlot, model: str, image: str, status: int, seconds: float) -> None:
    """Record how a request ended: with which HTTP status, and after how long."""
    reply = slot.reply
    recent_requests.appendleft(
        {
            **{"request_id": slot.request_id, "ended": int(time.time()), "model": model, "image": image, "status": status},
            **{"ms": round(1000 * seconds), "box_source": reply.get("box_source"), "kept_fraction": reply.get("kept_fraction", {})},
            "gflops": reply.get("gflops"),
        }
    )
