"""What the status page shows, read from where each part of the server keeps it."""

from __future__ import annotations

import time
from datetime import datetime
from pathlib import Path
from typing import Any

from monailabel.interfaces.app import MONAILabelApp

from lib.datastore.studies import StudiesDatastore
from lib.infers.inference_queue import inference_queue
from lib.jobs.job import Job
from lib.server.infer_routes import recent_requests
from prato.retraining.model_store import ModelStore, StoreError

#: The page lists no more than this; the total is shown.
_STUDIES = 1000
_JOBS = 10


def server_state(app: MONAILabelApp) -> dict[str, Any]:
    """``studies``, ``models`` with their ``history``, ``jobs``, ``line``, ``requests`` and ``pacs``; see docs/protocol/pages.md."""
    info, store = app.info(), app.datastore()
    return {
        **{"name": info["name"], "version": info["version"], "now": int(time.time())},
        "studies": _studies(app),
        "models": {name: _model(app, name) for name in info["models"]},
        "jobs": _jobs(app),
        "line": {"length": len(inference_queue), "waiting_allowed": inference_queue.max_waiting},
        "requests": list(recent_requests),
        "pacs": store.pacs_state() if isinstance(store, StudiesDatastore) else None,
    }


def _studies(app: MONAILabelApp) -> dict[str, Any]:
    store = app.datastore()
    ids = sorted(store.list_images())
    listed = []
    for study in ids[:_STUDIES]:
        known = store.get_labels_by_image_id(study)
        # a proposal of an image that was replaced is none of this study's; a final label is somebody's work
        tags = sorted(tag for tag in known if tag != "original" or store.get_label_info(study, tag).get("fits", True))
        annotator = store.get_label_info(study, "final").get("annotator") if "final" in tags else None
        phases = store.get_image_info(study).get("phases", 1)
        listed.append({"id": study, "tags": tags, "annotator": str(annotator) if annotator else "", "phases": phases})
    return {"total": len(ids), "labelled": len(store.get_labeled_images()), "listed": listed}


def _model(app: MONAILabelApp, name: str) -> dict[str, Any]:
    path = app.model_file(name, validate=False)
    return {"version": app.model_version(name), "history": _history(ModelStore(Path(path))) if path else []}


def _history(store: ModelStore) -> list[dict[str, Any]]:
    """Rounds of training, oldest first."""
    try:
        records = store.history()
    except StoreError:  # GET /model/{model}/history says why
        return []
    rounds = [record for record in records if record.kind == "trained"]
    return [
        {
            "when": int(datetime.fromisoformat(record.when).timestamp()),
            "dice_before": record.training.get("dice_before"),
            "dice_after": record.training.get("dice_after"),
            "published": record.published,
            "model_version_after": record.version,
        }
        for record in rounds
    ]


def _jobs(app: MONAILabelApp) -> list[dict[str, Any]]:
    """Of either kind the last, newest first."""
    trainings = [
        _job("train", job, job.as_task(app.training_stats(str(job.request.get("model", ""))))) for job in app.trainings.jobs()[-_JOBS:]
    ]
    batches = [_job("batch_infer", batch.job, batch.as_task()) for batch in app.batches.all()[-_JOBS:]]
    return sorted([*trainings, *batches], key=lambda job: str(job["start"]))[::-1]


def _job(kind: str, job: Job, task: dict[str, Any]) -> dict[str, Any]:
    far, model = task.get("progress") or {}, str(task["request"].get("model", ""))
    progress = {"step": far.get("step"), "steps": far.get("total_steps")}
    times = {"start": task["start_ts"], "begun": int(job.begun) or None}
    return {"kind": kind, "model": model, "status": task["status"], **times, **progress}
