"""Refusals: each raises an HTTPException with one sentence, before anything is computed, queued or written."""

from __future__ import annotations

import json
import re
from collections.abc import Collection
from typing import Any

from fastapi import HTTPException
from monailabel.interfaces.app import MONAILabelApp

#: A session's id becomes a folder's name.
_SESSION = re.compile(r"[\w-]+")


def json_object(text: str, name: str = "params") -> dict[str, Any]:
    """The JSON object in the form field ``name``; an empty field is an empty object.

    Raises:
        HTTPException: 400.
    """
    try:
        value = json.loads(text or "{}")
    except ValueError as error:
        raise HTTPException(400, f"{name} is not valid JSON ({error}): send an object such as {{}}.") from error
    if not isinstance(value, dict):
        raise HTTPException(400, f"{name} must be a JSON object such as {{}}, not {text[:60]}.")
    return value


def known(kind: str, name: Any, names: Collection[str]) -> None:
    """Refuse a ``name`` that is none of this server's ``names``.

    Raises:
        HTTPException: 404.
    """
    if not isinstance(name, str) or name not in names:
        raise HTTPException(404, f"There is no {kind} {str(name)[:60]!r} here: {_choice(names)}.")


def known_image(app: MONAILabelApp, image: Any) -> None:
    """Refuse an image id that is not in the studies folder (a path is never one).

    Raises:
        HTTPException: 400 for none at all, 404 for an unknown one.
    """
    if not image:
        raise HTTPException(400, "The request names no image: give ?image=<id> of a study, ?session_id=, or upload one as file.")
    if not isinstance(image, str) or image not in app.datastore().list_images():
        raise HTTPException(404, f"There is no image {str(image)[:80]!r} among the studies: GET /datastore/?output=all lists their ids.")


def known_session(app: MONAILabelApp, session: str) -> None:
    """Refuse a session that is unknown or has expired.

    Raises:
        HTTPException: 404.
    """
    sessions = app.sessions()
    if sessions is None or not _SESSION.fullmatch(session) or sessions.get_session(session) is None:
        raise HTTPException(404, f"There is no session {session[:60]!r} here (any more): upload the image again with PUT /session/.")


def _choice(names: Collection[str]) -> str:
    return f"choose {' or '.join(names)}" if names else "none is available"
