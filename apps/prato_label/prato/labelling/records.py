"""Where one version of a label comes from; what its JSON file beside it holds."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Mapping
from typing import Annotated, Any, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

UNKNOWN = "unknown"
#: Characters of an annotator's name at most, and Unicode's categories of those that no line of text holds: tables, logs and pages show it.
_LONGEST_NAME, _NOT_IN_A_LINE = 150, ("Cc", "Zl", "Zp")
Origin = Literal["submitted", "restored", "found", "converted"]
State = Literal["none", "proposed", "corrected", "final"]
#: States whose voxels a labeller vouches for.
TRUSTED: tuple[State, ...] = ("corrected", "final")


class LabelVersionError(ValueError):
    """A request about versions that cannot be answered; the message is one sentence."""


class UnknownVersionError(LabelVersionError):
    """There is no such version."""


class OvertakenError(LabelVersionError):
    """Somebody changed what a decision is about after the one who decides looked at it."""


class DamagedVersionError(LabelVersionError):
    """The file of a version is not the one that was stored."""


class Removal(BaseModel):
    """When (UTC) a label was removed, and who removed it."""

    model_config = ConfigDict(frozen=True)

    annotator: str
    removed: AwareDatetime


class Phase(BaseModel):
    """One phase of a label; a volume's label has one, 0.

    Attributes:
        state: how far it is.
        editor: who last drew in it; for a proposal, the model's version where the client gave it.
        version: of the label, in which its voxels were last replaced.
        approved_by: who made it final.
        reason: why it was sent back, by whom it was.
    """

    model_config = ConfigDict(frozen=True)

    state: State
    editor: str
    version: Annotated[int, Field(ge=1)]
    approved_by: str | None = None
    reason: str | None = None

    @property
    def is_trusted(self) -> bool:
        """Whether it may be trained on."""
        return self.state in TRUSTED

    @property
    def is_drawn(self) -> bool:
        """Whether a labeller drew it: one that was sent back is a labeller's work, too, which no proposal replaces."""
        return self.is_trusted or self.reason is not None


#: By number, from 0; phases without a label are left out.
Phases = Mapping[int, Phase]


class Review(BaseModel):
    """Who approved phases of a version or sent them back, and when (UTC)."""

    model_config = ConfigDict(frozen=True)

    reviewer: str
    reviewed: AwareDatetime
    decision: Literal["approved", "sent back"]
    phases: tuple[int, ...]
    reason: str | None = None


class Version(BaseModel):
    """One version of a study's label.

    Attributes:
        version: counts from 1, by study and tag.
        origin: "submitted" by a labeller, "restored" from an older version, "found" in the studies folder, put there by other means, or
            "converted" from one that was found: with our own values, in its image's index order.
        annotator: who is responsible for it, or "unknown".
        created: when it was stored (UTC).
        sha256: of its file, in hexadecimal digits.
        base_version: the version that it was made from, 0 for none; None where the client did not say.
        restored_from: the version of which it is a copy, converted or not.
        voxels: of each structure that it holds, in all phases.
        phases: the state of each phase that it holds.
        reviews: decisions about its phases, oldest first.
        params: all that the client sent with it: box, model, its version, the prompt.
        removals: each time that it was the study's label and was removed.
        warnings: what the check of its structures says against it, one sentence each.
    """

    model_config = ConfigDict(frozen=True)

    version: Annotated[int, Field(ge=1)]
    origin: Origin
    annotator: str
    created: AwareDatetime
    sha256: str
    base_version: int | None = None
    restored_from: int | None = None
    voxels: dict[str, int] = Field(default_factory=dict)
    phases: dict[int, Phase] = Field(default_factory=dict)
    reviews: tuple[Review, ...] = ()
    params: dict[str, Any] = Field(default_factory=dict)
    removals: tuple[Removal, ...] = ()
    warnings: tuple[str, ...] = ()

    def phases_to_json(self) -> dict[str, Any]:
        """Its phases as JSON values, in order."""
        return {str(number): phase.model_dump(exclude_none=True) for number, phase in sorted(self.phases.items())}

    def drawn_phases(self) -> set[int]:
        """The phases that a labeller drew in this very version; in others it is as an earlier one."""
        return {number for number, phase in self.phases.items() if phase.version == self.version and phase.is_drawn}


def annotator_from(params: dict[str, Any]) -> str:
    """Who sent ``params``: the annotator, else the user, else the client that they name, else "unknown".

    Raises:
        LabelVersionError: that is no name. A number in its place must not become nobody: its work could then be told from no one else's.
    """
    names = [params.get(key) for key in ("annotator", "user", "client_id")]
    name = next((name.strip() for name in names if isinstance(name, str) and name.strip()), UNKNOWN)
    is_text = names[0] is None or isinstance(names[0], str)
    if not is_text or len(name) > _LONGEST_NAME or any(unicodedata.category(character) in _NOT_IN_A_LINE for character in name):
        sent = name if is_text else names[0]
        raise LabelVersionError(f"annotator must be a name, text of at most {_LONGEST_NAME} characters in one line, not {sent!r:.60}.")
    return name


def person_of(name: str) -> str:
    """What tells somebody's ``name`` from another person's, however it is typed: in capitals, with other spaces, with accents as letters of
    their own."""
    return " ".join(unicodedata.normalize("NFKC", name).casefold().split())


def base_version_from(params: dict[str, Any], study: str, versions: list[Version]) -> int | None:
    """The ``base_version`` in ``params``, None where there is none.

    Raises:
        LabelVersionError: it is neither 0 nor one of ``versions``.
    """
    base = params.get("base_version")
    if base is None:
        return None
    known = [0, *(version.version for version in versions)]
    if type(base) is not int or base not in known:
        numbers = in_ranges(known[1:]) or "none yet"
        raise LabelVersionError(
            f"base_version must be 0, for no label, or the number of a version of {study} ({numbers}), not {base!r:.60}."
        )
    return base


def in_ranges(numbers: Iterable[int]) -> str:
    """Rising ``numbers`` for a message, such as "1, 3, 5 to 40": cut off after so many characters, one might end as another."""
    runs: list[list[int]] = []
    for number in numbers:
        if runs and number == runs[-1][-1] + 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    return ", ".join(f"{run[0]} to {run[-1]}" if len(run) > 3 else ", ".join(map(str, run)) for run in runs)


def find_conflicts(
    versions: list[Version], before: Phases, annotator: str, base: int | None, replaced: Iterable[int], dropped: Phases
) -> list[Version]:
    """The ``versions`` whose work in the phases ``replaced`` is replaced by a new one of ``annotator`` that was not made from them.

    With a ``base``, all that drew in them after it; without one, those that hold the phases now (``before``) where another labeller stored
    them. Whoever drew the phases ``dropped``, of a label that does not fit its image, has lost them in any case.
    """
    numbers, lost = set(replaced), {phase.version for phase in dropped.values() if phase.is_drawn}
    if base is not None:
        lost |= {version.version for version in versions if version.version > base and version.drawn_phases() & numbers}
    else:
        holding = {before[number].version for number in numbers if number in before and before[number].is_drawn}
        others = (v for v in versions if person_of(v.annotator) != person_of(annotator))
        lost |= {v.version for v in others if v.version in holding and v.origin not in ("found", "converted")}
    return [version for version in versions if version.version in lost]
