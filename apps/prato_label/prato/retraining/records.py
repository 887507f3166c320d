"""What is written down of every model that was trained, uploaded or gone back to."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

Kind = Literal["shipped", "found", "uploaded", "trained", "rolled_back"]


class StoreError(ValueError):
    """A history that cannot be used; the message is one sentence."""


class ModelRecord(BaseModel):
    """One entry of a model's history.

    Attributes:
        version: of the model file, as ``model_version``. parent: the version that answered before; None for the first.
        kind: how it came: the first one there, by hand, by upload, by training, or back from an older version.
        published: whether it got to answer. reason: why, or why not. when: UTC, ISO 8601.
        training: for a trained one, what ``train_round`` says of it.
    """

    model_config = ConfigDict(extra="forbid")

    version: str
    parent: str | None
    kind: Kind
    published: bool
    reason: str
    when: str
    training: dict[str, Any] = Field(default_factory=dict)


class History(BaseModel):
    """The file of records, oldest first."""

    model_config = ConfigDict(extra="forbid")

    records: list[ModelRecord]


def now() -> str:
    """The time, as records say it."""
    return datetime.now(timezone.utc).isoformat(timespec="seconds")
