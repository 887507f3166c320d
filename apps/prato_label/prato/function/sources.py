"""Where the masks that are measured come from, in words: versions of labels, phase by phase, or a folder of masks and what it records."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

from prato.data.studies.label_records import recorded_proposal_model
from prato.labelling.provenance import Provenance, find_provenance
from prato.labelling.reader import VersionReader
from prato.labelling.records import UNKNOWN, LabelVersionError, Phase
from prato.labelling.run_records import recorded_model


@dataclass(frozen=True)
class MaskSource:
    """Where one mask comes from, in ``words`` that end a sentence, and whether whoever made it vouches for it: a labeller or, in a folder
    of masks, whoever named that folder."""

    words: str
    is_trusted: bool = True


def label_sources(studies: Path, study: str, count: int) -> list[MaskSource]:
    """The source of each of the ``count`` phases of the final label of ``study``."""
    try:
        versions, current = VersionReader(studies, study).list_versions()
    except LabelVersionError:
        current = None
    if current is None:
        return [MaskSource("labels")] * count
    known = current.phases
    return [_of_phase(known[t], find_provenance(versions, t)) if t in known else MaskSource("labels") for t in range(count)]


def _of_phase(phase: Phase, drawn: Provenance) -> MaskSource:
    by = "" if drawn.editor == UNKNOWN else f" of {drawn.editor}"
    model = " ".join(drawn.model) if drawn.model else ""
    label = f"label version {drawn.version}{by}{f', from {model}' if model else ''}"
    if phase.is_trusted:
        return MaskSource(label)
    if phase.is_drawn:
        return MaskSource(f"{label}, which was sent back", is_trusted=False)
    by = f" of {model}" if model else by
    return MaskSource(f"a proposal{by} that nobody has corrected, label version {drawn.version}", is_trusted=False)


def folder_source(mask: Path) -> MaskSource:
    """The source of the file ``mask``: the model named by the record of a run beside it, or by the list of studies of a server's batch."""
    made_by = recorded_model(mask) or recorded_proposal_model(mask)
    by = "of no recorded model" if made_by is None else f"by {made_by[0]}, version {made_by[1]}"
    return MaskSource(f"masks of {mask.parent.name}, {by}")


def join_sources(phases: Iterable[tuple[str, MaskSource]]) -> str:
    """The words for several ``phases``, by what each is called: once where all have the same."""
    by_words: dict[str, list[str]] = {}
    for name, source in phases:
        by_words.setdefault(source.words, []).append(name)
    if len(by_words) == 1:
        return next(iter(by_words))
    return "; ".join(f"{', '.join(_spans(names))}: {words}" for words, names in by_words.items())


def _spans(names: list[str]) -> Iterator[str]:
    """``names`` in order, of which phases that follow each other are one: 0-3, 7."""
    numbers = [int(name) if name.isdecimal() else None for name in names]
    for _, run in groupby(enumerate(names), lambda each: names[each[0]] if (n := numbers[each[0]]) is None else n - each[0]):
        own = [name for _, name in run]
        yield own[0] if len(own) == 1 else f"{own[0]}-{own[-1]}"
