"""Submitted labels and their versions: listed, downloaded, compared, restored, reviewed, removed.

See docs/protocol/labels.md and versions.md. Submitting, downloading and removing stand before MONAI Label's own routes of the same path, as
plain functions that run in worker threads.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from fastapi import APIRouter, BackgroundTasks, File, Form, HTTPException, Query, Response, UploadFile
from monailabel.endpoints import datastore as stock
from monailabel.endpoints.user.auth import User
from monailabel.interfaces.utils.app import app_instance
from monailabel.utils.others.generic import get_mime_type

from lib.datastore.label_check import http_errors
from lib.datastore.plain_json import require_plain_json
from lib.datastore.studies import StudiesDatastore
from lib.server import checks
from lib.server.checks import ADMIN, ANNOTATOR, USER
from lib.server.downloads import content_disposition
from lib.server.uploads import stored_upload
from prato.evaluation.agreement import folder_agreement, label_diff, study_agreement
from prato.labelling.doubts import about_phases
from prato.labelling.versions import SavedVersion

router = APIRouter(prefix="/datastore/label", tags=["Datastore"])


@router.put("")
def submit_label(
    *,
    background_tasks: BackgroundTasks,
    image: str,
    params: Annotated[str, Form()] = "{}",
    tag: str = "final",
    label: Annotated[UploadFile, File()],
    user: User = ANNOTATOR,
) -> dict[str, Any]:
    """Store a label as a new version; the reply says whose version it replaced."""
    sent, store = require_plain_json(checks.parse_json_object(params)), app_instance().datastore()
    checks.require_nifti(label, f"The label for {image:.80}")
    app_instance().trainings.prepare()  # a training is likely to follow, and its process takes seconds to start
    if not isinstance(store, StudiesDatastore):
        return dict(stock.save_label(background_tasks, image, params, tag, label, user.username))
    with stored_upload(label) as path:
        saved = store.submit_label(image, str(path), tag or "final", sent)
    if saved is None:
        return {"image": image, "label": image, "voxels": store.get_label_info(image, tag).get("voxels", {})}
    return reply_to_submission(image, saved)


@router.get("")
def download_label(label: str, tag: str, user: User = USER) -> Response:
    """The current label's file, read at once: the stock route reads its size first and then opens what may be another file."""
    store = app_instance().datastore()
    if not isinstance(store, StudiesDatastore):
        return stock.download_label(label, tag)
    path = Path(store.get_label_uri(label, tag))
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        store.require_folder()
        raise HTTPException(404, f"{label} has no label with the tag {tag!r:.60}.") from None
    return _file(data, path.name)


@router.delete("")
def remove_label(id: str, tag: str, annotator: str = "", user: User = ADMIN) -> dict[str, Any]:
    """Remove a label; its versions stay, with who removed it."""
    store = app_instance().datastore()
    if not isinstance(store, StudiesDatastore):
        return dict(stock.remove_label(id, tag, user.username))
    store.remove_label(id, tag, checks.read_annotator({"annotator": annotator}))
    return {}


@router.get("/versions")
def list_versions(image: str, tag: str = "final", user: User = USER) -> dict[str, Any]:
    """Every version of a label, oldest first."""
    versions, current = _store().versions(image, tag).list_versions()
    return {"image": image, "tag": tag, "current": current.version if current else None, "versions": versions}


@router.get("/version")
def download_version(image: str, version: int, tag: str = "final", user: User = USER) -> Response:
    """The file of one version."""
    versions = _store().versions(image, tag)
    with http_errors():
        return _file(versions.read(version), f"{image}_v{version}.nii.gz")


@router.get("/diff")
def diff_versions(
    image: str,
    old: Annotated[int, Query(alias="from")],
    new: Annotated[int, Query(alias="to")],
    tag: str = "final",
    user: User = USER,
) -> dict[str, Any]:
    """What changed between two versions, by structure."""
    versions = _store().versions(image, tag)
    with http_errors():
        return label_diff(versions, old, new)


@router.post("/restore")
def restore_version(
    image: str, version: int, tag: str = "final", params: Annotated[str, Form()] = "{}", user: User = ANNOTATOR
) -> dict[str, Any]:
    """Make a copy of an older version the current label, as a new version."""
    return reply_to_submission(image, _store().restore_label(image, tag, version, checks.parse_json_object(params)))


@router.post("/approve")
def approve_phases(image: str, tag: str = "final", params: Annotated[str, Form()] = "{}", user: User = ANNOTATOR) -> dict[str, Any]:
    """Make phases of the current label final, as somebody other than their last editor."""
    return _review(image, tag, "approved", params)


@router.post("/send_back")
def send_phases_back(image: str, tag: str = "final", params: Annotated[str, Form()] = "{}", user: User = ANNOTATOR) -> dict[str, Any]:
    """Send phases of the current label back to their labellers, with a reason; training ignores them until they are corrected."""
    return _review(image, tag, "sent back", params)


@router.get("/agreement")
def agreement(image: str | None = None, tag: str = "final", user: User = USER) -> dict[str, Any]:
    """How well the annotators of one study, or of all studies, agree."""
    store = _store()
    with http_errors():
        return study_agreement(store.versions(image, tag)) if image is not None else folder_agreement(store.folder, tag)


def _store() -> StudiesDatastore:
    store = app_instance().datastore()
    if not isinstance(store, StudiesDatastore):
        raise HTTPException(400, "Label versions are kept only for a studies folder, not for studies on a DICOMweb server.")
    return store


def _review(image: str, tag: str, decision: Literal["approved", "sent back"], params: str) -> dict[str, Any]:
    store = _store()
    version = store.review_label(image, tag, decision, require_plain_json(checks.parse_json_object(params)))
    warnings = about_phases(store.get_label_info(image, tag).get("warnings", ()), version.reviews[-1].phases)
    return {"image": image, "label": image, "version": version.version, "phases": version.phases_to_json(), "warnings": warnings}


def reply_to_submission(image: str, saved: SavedVersion) -> dict[str, Any]:
    """What whoever has submitted ``saved`` is told; see docs/protocol/labels.md."""
    version, conflict = saved.version, None
    others = [
        {
            **other.model_dump(mode="json", include={"version", "annotator", "created"}),
            "phases": sorted(other.drawn_phases().intersection({*saved.replaced, *saved.dropped})),
        }
        for other in saved.conflicts
    ]
    if others:
        names = ", ".join(f"version {other['version']} by {other['annotator']}" for other in others)
        conflict = {
            "message": f"This label replaces {names}, but was not made from it: compare the versions, or restore one.",
            "versions": others,
        }
    stored = {"voxels": version.voxels, "version": version.version, "sha256": version.sha256}
    phases = {"phases": version.phases_to_json(), "replaced": [*saved.replaced], "kept": [*saved.kept]}
    return {"image": image, "label": image, **stored, **phases, "conflict": conflict, "warnings": [*version.warnings]}


def _file(data: bytes, name: str) -> Response:
    return Response(data, media_type=get_mime_type(name), headers={"content-disposition": content_disposition(name)})
