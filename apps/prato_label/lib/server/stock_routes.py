"""MONAI Label's own routes with checks in front, and those that this app does not offer."""

from __future__ import annotations

import shutil
from contextlib import nullcontext
from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Form, HTTPException, Query, Request
from fastapi.responses import Response
from monailabel.config import settings
from monailabel.endpoints import activelearning, datastore, logs, session
from monailabel.endpoints.user.auth import User
from monailabel.interfaces.utils.app import app_instance
from monailabel.utils.others.generic import file_checksum

from lib.activelearning.handing_out import hand_out_study
from lib.datastore.studies import StudiesDatastore
from lib.server import checks
from lib.server.checks import ADMIN, ANNOTATOR, USER
from lib.server.downloads import name_errors

router = APIRouter()
#: The version of docs/protocol that this server keeps; each holds all of those before.
CONTRACT = 3
#: The first would restart the whole app at any client's request, the others read any file of the machine by its path.
CLOSED = ("/reload", "/infer/wsi/{model}", "/infer/wsi_v2/{model}")
#: What strategies read, and what clients send along.
_STRATEGY_PARAMETERS = {"strategy", "seed", "model", "client_id", "user", "annotator"}


@router.get("/info/")
def info(user: User = USER) -> Any:
    """What this server offers, and the version of the contract that says how it is asked."""
    return {**app_instance().info(), "contract": CONTRACT}


@router.get("/datastore/")
def studies(output: datastore.ResultType | None = None, user: User = USER) -> Any:
    """The studies and their labels."""
    return datastore.datastore(output)


@router.head("/datastore/image")
def check_image(image: str, check_sum: str | None = None, user: User = USER) -> Any:
    """Whether a study exists and, where one is given, has that checksum."""
    algorithm, colon, digest = (check_sum or "").rpartition(":")
    if colon and algorithm not in ("SHA256", "SHA512", "MD5"):
        raise HTTPException(400, "check_sum must be SHA256:..., SHA512:... or MD5:....")
    store = app_instance().datastore()
    path = store.get_image_uri(image)
    with name_errors(Path(path)) if isinstance(store, StudiesDatastore) else nullcontext():
        found = datastore.download_image(image, check_only=True)
        # not MONAI Label's own comparison, which finds no image to be as it should
        if digest and file_checksum(path, algorithm or "SHA256").rpartition(":")[2] != digest.lower():
            raise HTTPException(404, f"The image of {image} has another checksum: download it again.")
        return found


@router.get("/datastore/image/info")
def get_image_info(image: str, user: User = USER) -> Any:
    """What is known of a study."""
    checks.require_image(app_instance(), image)
    return datastore.get_image_info(image)


@router.get("/datastore/label/info")
def get_label_info(label: str, tag: str, user: User = USER) -> Any:
    """What is known of a study's label; nothing where it has none with that tag."""
    checks.require_image(app_instance(), label)
    return datastore.get_label_info(label, tag)


@router.put("/datastore/image/info")
def set_image_info(image: str, info: Annotated[str, Form()] = "{}", user: User = ANNOTATOR) -> Any:
    """Add to what is known of a study."""
    checks.require_info(checks.parse_json_object(info, "info"), "info")
    checks.require_image(app_instance(), image)
    return datastore.update_image_info(image, info, user.username)


@router.put("/datastore/label/info")
def set_label_info(label: str, tag: str, info: Annotated[str, Form()] = "{}", user: User = ANNOTATOR) -> Any:
    """Add to what is known of a label."""
    checks.require_info(checks.parse_json_object(info, "info"), "info")
    return datastore.update_label_info(label, tag, info, user.username)


@router.put("/datastore/updatelabelinfo", include_in_schema=False)
def set_label_info_by_params(label: str, tag: str, params: Annotated[str, Form()] = "{}", user: User = ANNOTATOR) -> Any:
    """Add to what is known of a label, as older clients send it."""
    checks.require_info(checks.parse_json_object(params), "params")
    return datastore.update_label_info(label, tag, params, user.username)


@router.post("/activelearning/{strategy}", dependencies=[Depends(checks.require_storable_body)])
def next_sample(strategy: str, params: dict[str, Any] | None = None, user: User = USER) -> Any:
    """The study to label next."""
    app, request = app_instance(), {"strategy": strategy, **(params or {})}
    checks.require_known("strategy", request["strategy"], app.info()["strategies"])
    app.refresh_studies()
    unread = [name for name in params or {} if name not in _STRATEGY_PARAMETERS]
    warnings = {"warnings": [f"parameter_ignored: {name:.60}" for name in unread]} if unread else {}
    store = app.datastore()
    if not isinstance(store, StudiesDatastore):
        return {**activelearning.sample(strategy, params, user.username), **warnings}
    return {**hand_out_study(app, store, request, request.get("client_id", user.username)), **warnings}


@router.get("/scoring/")
@router.post("/scoring/")
@router.post("/scoring/{method}")
@router.delete("/scoring/")
def no_scoring(method: str = "", user: User = USER) -> None:
    """Nothing is scored beforehand."""
    named = f" {method[:60]!r}" if method else ""
    instead = "POST /activelearning/jitter, phases, entropy or coverage scores studies when it chooses one."
    raise HTTPException(404, f"There is no scoring method{named} here: {instead}")


@router.get("/session/{session_id}")
def get_session(session_id: str, update_ts: bool = False, image: bool = False, user: User = USER) -> Any:
    """What a session holds."""
    checks.require_session(app_instance(), session_id)
    return session.get_session(session_id, update_ts, image)


@router.delete("/session/{session_id}")
def remove_session(session_id: str, user: User = USER) -> Any:
    """End a session."""
    checks.require_session(app_instance(), session_id)
    return session.remove_session(session_id)


@router.get("/logs/")
def log(
    lines: Annotated[int, Query(ge=1, le=10_000)] = 300, html: bool = True, text: bool = False, refresh: int = 0, user: User = ADMIN
) -> Any:
    """The end of the server's log."""
    return logs.get_logs(str(Path(settings.MONAI_LABEL_APP_DIR) / "logs" / "app.log"), lines, html, text, refresh)


@router.get("/logs/gpu")
async def gpu(user: User = ADMIN) -> Response:
    """The output of nvidia-smi."""
    if not shutil.which("nvidia-smi"):
        raise HTTPException(404, "There is no nvidia-smi on this server: it has no GPU, or no driver for one.")
    return await logs.gpu_info(user)


def refuse_closed_route(request: Request) -> None:
    """Refuse what is asked of a route in ``CLOSED``."""
    raise HTTPException(404, f"PrATo Label does not offer {request.url.path:.80}: POST /infer/<model> segments an image.")


for _path in CLOSED:
    router.post(_path, include_in_schema=False)(refuse_closed_route)
