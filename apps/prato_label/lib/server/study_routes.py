"""What an annotator decides about a study without labelling it: to skip or reject it, and which phases are end-diastole and end-systole.

See docs/protocol/next_study.md and cines.md.
"""

from __future__ import annotations

import time
from typing import Annotated, Any

from fastapi import APIRouter, Form, HTTPException
from monailabel.endpoints.user.auth import User
from monailabel.interfaces.datastore import Datastore
from monailabel.interfaces.utils.app import app_instance

from lib.activelearning.studies import REVIEW_STATES
from lib.datastore.entries import known_phases
from lib.datastore.plain_json import require_plain_json
from lib.datastore.studies import StudiesDatastore
from lib.server import checks
from lib.server.checks import ANNOTATOR
from prato.data.studies.ed_es import NamedPhases, named_ed_es
from prato.data.studies.folder import Study, describe_study

router = APIRouter(prefix="/datastore/image", tags=["Datastore"])
#: A reason is a sentence, not a document.
_LONGEST_REASON = 500


@router.put("/review")
def review_study(image: str, params: Annotated[str, Form()] = "{}", user: User = ANNOTATOR) -> dict[str, Any]:
    """Set a study's state: ``open``, ``skipped`` (handed out when no other is left) or ``rejected`` (not handed out), with a reason."""
    sent = require_plain_json(checks.parse_json_object(params))
    state, reason = sent.get("state"), sent.get("reason", "")
    if state not in REVIEW_STATES:
        raise HTTPException(400, f"state must be {', '.join(REVIEW_STATES[:-1])} or {REVIEW_STATES[-1]}, not {state!r:.60}.")
    if not isinstance(reason, str) or len(reason) > _LONGEST_REASON:
        raise HTTPException(400, f"reason must be text of at most {_LONGEST_REASON} characters.")
    if state != "open" and not reason.strip():
        raise HTTPException(400, f"A study can be {state} only with a reason: send one as reason.")
    checks.require_image(app_instance(), image)
    review = {"state": state, "reason": reason.strip(), "annotator": checks.read_annotator(sent), "ts": int(time.time())}
    app_instance().datastore().update_image_info(image, {"review": review})
    return {"image": image, "review": review}


@router.put("/phases")
def mark_phases(image: str, params: Annotated[str, Form()] = "{}", user: User = ANNOTATOR) -> dict[str, Any]:
    """Mark end-diastole and end-systole of a cine, the phases ``ed`` and ``es`` from 0; null for both lets the server find them again."""
    sent = require_plain_json(checks.parse_json_object(params))
    checks.require_image(app_instance(), image)
    if not {"ed", "es"} <= sent.keys():  # a misspelt name must not take back what somebody marked
        raise HTTPException(400, 'params must name both phases, such as {"ed": 0, "es": 12}; null for both lets the server find them.')
    store = app_instance().datastore()
    count, chosen = known_phases(store.get_image_info(image))[0], [sent.get("ed"), sent.get("es")]
    is_pair = all(type(t) is int and 0 <= t < count for t in chosen) and chosen[0] != chosen[1]
    if chosen != [None, None] and count == 1:
        raise HTTPException(400, f"{image} has only one phase: end-diastole and end-systole are phases of a cine.")
    if chosen != [None, None] and not is_pair:
        raise HTTPException(
            400, f"ed and es must be two different phases from 0 to {count - 1} of {image}, or both null, not {chosen!r:.60}."
        )
    marked = {"ed": chosen[0], "es": chosen[1], "annotator": checks.read_annotator(sent), "ts": int(time.time())}
    store.update_image_info(image, {"marked": marked})
    return {"image": image, "marked": marked}


def known_of(store: Datastore, image: str) -> tuple[Study, NamedPhases | None]:
    """Whose the heart of a cine is, and its phases of end-diastole and end-systole, as far as somebody has said so; nothing of a volume,
    which has no function: a large manifest takes as long to read as a click may take."""
    info = store.get_image_info(image)
    count = known_phases(info)[0]
    about = describe_study(store.folder, image) if count > 1 and isinstance(store, StudiesDatastore) else Study(patient=image)
    return about, named_ed_es(info, about, count)
