"""Temporary files of requests that end without a reply."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from fastapi import BackgroundTasks


@contextmanager
def removed_if_refused(background_tasks: BackgroundTasks) -> Iterator[None]:
    """MONAI Label removes a request's files after its reply; where the block raises there is none, so they go now."""
    try:
        yield
    except BaseException:
        for task in background_tasks.tasks:
            task.func(*task.args, **task.kwargs)
        raise
