"""What the status page shows, read from where each part of the server keeps it."""

from __future__ import annotations

import time
from typing import Any

from monailabel.interfaces.app import MONAILabelApp
from monailabel.utils.async_tasks.task import AsyncTask

from lib.infers.turns import turns
from lib.server.recent import recent

#: A page is no place for more; their number is told all the same.
_STUDIES = 1000


def server_state(app: MONAILabelApp) -> dict[str, Any]:
    """``studies``, ``models`` with their ``history``, ``jobs``, ``line`` and ``requests``; see docs/protocol.md."""
    info = app.info()
    return {
        **{"name": info["name"], "version": info["version"], "now": int(time.time())},
        "studies": _studies(app),
        "models": {name: _model(app, name, info["train_stats"].get(name) or {}) for name in info["models"]},
        "jobs": [job for kind in ("train", "batch_infer", "scoring") for job in _jobs(kind, info["train_stats"])],
        "line": {"length": turns.length(), "waiting_allowed": turns.waiting},
        "requests": list(recent),
    }


def _studies(app: MONAILabelApp) -> dict[str, Any]:
    store = app.datastore()
    ids = sorted(store.list_images())
    listed = []
    for study in ids[:_STUDIES]:
        tags = sorted(store.get_labels_by_image_id(study))
        annotator = store.get_label_info(study, "final").get("annotator") if "final" in tags else None
        listed.append({"id": study, "tags": tags, "annotator": str(annotator) if annotator else ""})
    return {"total": len(ids), "labelled": len(store.get_labeled_images()), "listed": listed}


def _model(app: MONAILabelApp, name: str, stats: dict[str, Any]) -> dict[str, Any]:
    return {"version": app.model_version(name), "history": _history(stats)}


def _history(stats: dict[str, Any]) -> list[dict[str, Any]]:
    """Rounds of training, oldest first; the trainer keeps the last one."""
    if "dice_after" not in stats:
        return []
    when = stats.get("start_ts", 0) + round(stats.get("total_time", 0))
    return [{"when": when, **{key: stats[key] for key in ("dice_before", "dice_after", "published", "model_version_after")}}]


def _jobs(kind: str, stats: dict[str, Any]) -> list[dict[str, Any]]:
    """Background jobs, newest first."""
    tasks, _ = AsyncTask.status(kind, all=True)
    jobs = []
    for task in reversed((tasks or [])[-10:]):
        model = str(task["request"].get("model", ""))
        own = stats.get(model) or {} if kind == "train" and task["status"] == "RUNNING" else {}
        progress = {"step": own.get("step"), "steps": own.get("total_steps")}
        jobs.append({"kind": kind, "model": model, "status": task["status"], "start": task.get("start_ts"), **progress})
    return jobs
