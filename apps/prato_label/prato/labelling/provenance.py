"""Where one phase of a label comes from, whatever has happened to the label's other phases since."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from prato.labelling.records import Version


@dataclass(frozen=True)
class Provenance:
    """Where the voxels of one phase come from.

    Attributes:
        version: of the label, in which they were drawn; a copy of an older version leads back to that one.
        created: when that was stored (UTC).
        editor: who drew them; of a proposal, the model's version where it is known.
        model: that proposed them, and its version ("unknown" where nothing says); None for a drawing.
    """

    version: int
    created: datetime
    editor: str
    model: tuple[str, str] | None


def find_provenance(versions: Sequence[Version], number: int) -> Provenance:
    """Where phase ``number`` of the last of ``versions`` comes from; these are all that the label has had, oldest first."""
    known = {version.version: version for version in versions}
    phase = versions[-1].phases[number]
    drawn = known.get(phase.version, versions[-1])
    while drawn.origin == "restored" and (source := known.get(drawn.restored_from or 0)) is not None:
        if number not in source.phases or source.version >= drawn.version:
            break
        drawn = known.get(source.phases[number].version, source)
    model = drawn.params.get("model")
    by = (model, str(drawn.params.get("model_version") or "unknown")) if isinstance(model, str) and model else None
    return Provenance(drawn.version, drawn.created, phase.editor, by)
