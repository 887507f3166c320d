"""What the history of a model says: a record of every version that came into use, or that was trained and did not."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

Kind = Literal["shipped", "found", "uploaded", "trained", "rolled_back"]


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

    def to_bytes(self) -> bytes:
        """As it is written."""
        return self.model_dump_json(indent=1).encode()


def new_record(version: str, records: list[ModelRecord], kind: Kind, reason: str, **more: Any) -> ModelRecord:
    """The record of ``version``, which follows ``records``."""
    return ModelRecord(version=version, parent=current_version(records), kind=kind, published=True, reason=reason, when=now(), **more)


def current_version(records: list[ModelRecord]) -> str | None:
    """The version in use, of which the last published one of ``records`` is."""
    return next((record.version for record in reversed(records) if record.published), None)


def now() -> str:
    """The time, as records say it."""
    return datetime.now(timezone.utc).isoformat(timespec="seconds")
