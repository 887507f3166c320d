"""The card of a model whose history a server keeps: what its file says of itself, what its record says, and what it inherits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from prato.data.structures import STRUCTURES
from prato.models.card import Origin, model_card, read_origin, split_fact
from prato.models.checkpoint import ModelSpec
from prato.retraining.model_records import ModelRecord

#: What is added to what a model inherits, once.
_RETRAINED = ", retrained"
_THEN = "; then labels of the server that retrained it"
_LABELS = "; inherited, and the labels that it was retrained on may narrow it"


def record_card(name: str, data: bytes, spec: ModelSpec, records: Sequence[ModelRecord], record: ModelRecord, parent: str) -> str:
    """The card of the version that came to be with ``record``.

    Args:
        name: of the model file. data: its bytes, of which ``spec`` is the header.
        records: all of its history.
        parent: the card of the version that was in use before, "" where there is none.
    """
    stem = name.rpartition(".")[0]
    if record.kind != "trained":
        facts = (f"Origin: {record.reason}, {record.when[:10]}", "Split: not known, so no patient counts as held out")
        return model_card(name, data, spec, Origin(stem), facts)
    origin = read_origin(parent, stem)
    origin = replace(
        origin,
        title=origin.title.removesuffix(_RETRAINED) + _RETRAINED,
        data=origin.data.removesuffix(_THEN) + _THEN,
        licence=origin.licence.removesuffix(_LABELS) + _LABELS,
    )
    return model_card(name, data, spec, origin, _facts(stem, records, record), _results(record))


def _facts(stem: str, records: Sequence[ModelRecord], record: ModelRecord) -> tuple[str, ...]:
    told = record.training
    sides = {side: len(names) for side, names in told["patients"].items()}
    return (
        f"Parent: {' <- '.join(_ancestors(records, record))}",
        f"Labels of this round: {len(told['labels'])}, each listed with its SHA-256 in `versions/{stem}/history.json`",
        split_fact(sides, "listed in `training_split.json` of the studies folder"),
        f"Published {record.when[:10]}, after {told['seconds']:.0f} s",
        f"Weights: {told['share_of_new_weights']:.0%} of the trained ones and {1 - told['share_of_new_weights']:.0%} of its parent's",
    )


def _ancestors(records: Sequence[ModelRecord], record: ModelRecord) -> list[str]:
    """The versions that ``record``'s was retrained from, one from the other, the last one first; each with how it came."""
    made = {each.version: each for each in reversed(records) if each.published and each.kind != "rolled_back"}
    found: list[str] = []
    parent = record.parent
    while parent is not None:
        known = made.get(parent)
        found.append(f"version `{parent}` ({known.kind if known else 'of unknown origin'})")
        parent = known.parent if known is not None and known.kind == "trained" else None
    return found


def _results(record: ModelRecord) -> str:
    told = record.training
    rows = {**told["structures"], "mean": {"before": told["dice_before"], "after": told["dice_after"]}}
    lines = [
        "\n## Held-out patients\n",
        f"{record.reason[:1].upper()}{record.reason[1:]}. Tight boxes; each patient's labels count as one.\n",
        f"| DSC | parent, `{record.parent}` | this version |",
        "| --- | --- | --- |",
        *(f"| {name} | {rows[name]['before']:.3f} | {rows[name]['after']:.3f} |" for name in (*STRUCTURES, "mean")),
    ]
    if base := told.get("base"):
        lines.append(f"| mean, base studies | {base['before']:.3f} | {base['after']:.3f} |")
    return "\n".join(lines) + "\n"
