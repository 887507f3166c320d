"""Where one version of a label comes from; what its JSON file beside it holds."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

UNKNOWN = "unknown"
Origin = Literal["submitted", "restored", "found", "converted"]


class LabelVersionError(ValueError):
    """A request about versions that cannot be answered; the message is one sentence."""


class UnknownVersionError(LabelVersionError):
    """There is no such version."""


class DamagedVersionError(LabelVersionError):
    """The file of a version is not the one that was stored."""


class Removal(BaseModel):
    """When (UTC) a label was removed, and who removed it."""

    model_config = ConfigDict(frozen=True)

    annotator: str
    removed: AwareDatetime


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
        voxels: of each structure that it holds.
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
    params: dict[str, Any] = Field(default_factory=dict)
    removals: tuple[Removal, ...] = ()
    warnings: tuple[str, ...] = ()


def annotator_from(params: dict[str, Any]) -> str:
    """Who sent ``params``: the annotator, else the user, else the client that they name, else "unknown"."""
    names = (params.get(key) for key in ("annotator", "user", "client_id"))
    return next((name.strip() for name in names if isinstance(name, str) and name.strip()), UNKNOWN)


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
        numbers = ", ".join(map(str, known[1:])) or "none yet"
        raise LabelVersionError(
            f"base_version must be 0, for no label, or the number of a version of {study} ({numbers:.60}), not {base!r:.60}."
        )
    return base


def find_conflicts(versions: list[Version], labelled: bool, annotator: str, base: int | None) -> list[Version]:
    """Those of ``versions`` that a new one by ``annotator`` replaces without having been made from them.

    With a ``base``, all that came after it; without one, the current version (there is one if ``labelled``) where a labeller of another
    name stored it.
    """
    if base is not None:
        return [version for version in versions if version.version > base]
    current = versions[-1:] if labelled else []
    return [version for version in current if version.origin not in ("found", "converted") and version.annotator != annotator]
