"""Which phases of a cine are end-diastole and end-systole, where somebody has said so: one rule for server, tables, pages and exports."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from prato.data.studies.folder import Study


@dataclass(frozen=True)
class NamedPhases:
    """End-diastole and end-systole of a cine as somebody named them.

    Attributes:
        ed, es: phases, from 0.
        source: "marked" by an annotator, or named by the "manifest".
        told_by: the end of a sentence: who says so.
        is_guess: of an import, which the manifest keeps.
    """

    ed: int
    es: int
    source: Literal["marked", "manifest"]
    told_by: str
    is_guess: bool = False

    @classmethod
    def of_manifest(cls, ed: int, es: int, is_guess: bool = False) -> NamedPhases:
        """As the manifest names them."""
        return cls(ed, es, "manifest", "guessed by the import" if is_guess else "named by the manifest", is_guess)

    @property
    def pair(self) -> tuple[int, int]:
        """``ed`` and ``es``."""
        return self.ed, self.es

    def why_none(self, ed: str, es: str) -> str:
        """Why there is no function where the phases, called ``ed`` and ``es``, are not both measured: a sentence's end."""
        return f"end-diastole and end-systole are {self.told_by} as {ed} and {es}, which are not both among the measured phases"


def named_ed_es(info: Mapping[str, Any], about: Study | None, count: int) -> NamedPhases | None:
    """End-diastole and end-systole as they are marked, else as the manifest names them; None where they are to be found.

    Whoever takes both marks back has decided, too: the phases are found then, whatever the manifest says.

    Args:
        info: what the list of studies says of the image. about: what the manifest says of it.
        count: phases of the cine; a pair that is not among them counts for nothing.
    """
    marked = info.get("marked")
    listed = _pair(marked.get("ed"), marked.get("es"), count) if isinstance(marked, Mapping) else None
    if isinstance(marked, Mapping) and marked.get("source") != "manifest":
        return None if listed is None else NamedPhases(*listed, "marked", f"marked by {marked.get('annotator') or 'unknown'}")
    # what the manifest says by now comes before what the list took over from it
    pair = (about and _pair(about.ed, about.es, count)) or listed
    return None if pair is None else NamedPhases.of_manifest(*pair)


def _pair(ed: Any, es: Any, count: int) -> tuple[int, int] | None:
    return (ed, es) if type(ed) is int and type(es) is int and ed != es and all(0 <= t < count for t in (ed, es)) else None
