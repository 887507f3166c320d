"""The server's replies about the versions of a label, parsed into plain classes; see responses.py."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from PratoLabelLib.server.responses import require_type


@dataclass(frozen=True)
class PhaseState:
    """What is known of a phase of a label.

    Attributes:
        state: "proposed", "corrected" or "final".
        editor: who drew it last, or the version of the model.
        approved_by: of a final one.
        reason: why it was sent back; "" where it was not.
    """

    state: str
    editor: str
    approved_by: str = ""
    reason: str = ""

    @property
    def is_drawn(self) -> bool:
        """Whether it is a labeller's work, sent back or not."""
        return self.state != "proposed" or bool(self.reason)


@dataclass(frozen=True)
class LabelVersion:
    """One version of a study's label; ``origin`` is "submitted", "restored" or "found", ``created`` a time in ISO 8601 (UTC).

    Attributes:
        states: by phase, of those that have one.
    """

    version: int
    annotator: str
    created: str
    origin: str
    is_current: bool
    states: Mapping[int, PhaseState] = field(default_factory=dict)


def parse_versions(reply: Any) -> list[LabelVersion]:
    """``GET /datastore/label/versions``, newest first."""
    return [
        LabelVersion(
            version=require_type(int, version["version"]),
            annotator=require_type(str, version["annotator"]),
            created=require_type(str, version["created"]),
            origin=require_type(str, version["origin"]),
            is_current=version["version"] == reply["current"],
            states={int(phase): _parse_state(known) for phase, known in version.get("phases", {}).items()},
        )
        for version in reversed(require_type(list, reply["versions"]))
    ]


def _parse_state(known: Mapping[str, Any]) -> PhaseState:
    texts = (str(known.get(name) or "") for name in ("editor", "approved_by", "reason"))
    return PhaseState(require_type(str, known["state"]), *texts)
