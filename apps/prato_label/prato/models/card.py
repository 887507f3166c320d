"""Model cards: the page beside a model file that says what it was made from and how good it is, of shipped and of retrained models."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from prato.models.checkpoint import ModelSpec, version_of

_UNKNOWN = "not known: nobody has said it of this file"
_NOT_CLINICAL = "- Not for clinical use: "


@dataclass(frozen=True)
class Origin:
    """What a model file does not say of itself, and what a model that is trained from it inherits.

    Attributes:
        title: what people call the model. data: what the first of these models learned from. licence: of the weights.
        limits: why it is not for clinical use.
    """

    title: str
    data: str = _UNKNOWN
    licence: str = _UNKNOWN
    limits: str = "nobody has shown what it can and cannot do."


def model_card(name: str, data: bytes, spec: ModelSpec, origin: Origin, facts: tuple[str, ...], results: str = "") -> str:
    """The card of the model file ``name``, in Markdown.

    Args:
        data: its bytes, of which ``spec`` is the header.
        facts: further lines, such as what it was trained on last and how patients were split.
        results: sections on how good it is, with their headings.
    """
    made = spec.training
    lines = [
        f"# {origin.title}\n",
        f"- File: `{name}`, version `{version_of(data)}`, {len(data) / 2**20:.1f} MB (half precision, safetensors)",
        f"- Data: {origin.data}",
        f"- Licence of the weights: {origin.licence}",
        *(f"- {fact}" for fact in facts),
        *_training_lines(made),
        f"- Network: `{spec.network}` {json.dumps(spec.arguments)}, windows of {spec.window} pixels of {spec.pixel} mm",
        f"- Pruning plan: {json.dumps(spec.plan) if spec.plan else 'none'}",
        f"{_NOT_CLINICAL}{origin.limits}\n",
    ]
    return "\n".join(lines) + "".join(_starts(made)) + results


def split_fact(patients: Mapping[str, int], where: str) -> str:
    """The fact of a card that says how many patients each side of the split has, and ``where`` they are listed.

    >>> split_fact({"train": 80, "validation": 20}, "listed in `split.json`")
    'Split: by patient, train 80, validation 20, listed in `split.json`'
    """
    return f"Split: by patient, {', '.join(f'{side} {count}' for side, count in patients.items())}, {where}"


def read_origin(card: str, title: str) -> Origin:
    """What ``card`` says that a model which is trained from its model inherits.

    What it does not say is not known; ``title`` is for a card without one.
    """

    def said(begin: str) -> str | None:
        found = re.search(rf"^{re.escape(begin)}(.+)$", card, re.MULTILINE)
        return found[1] if found else None

    given = {
        "title": said("# ") or title,
        "data": said("- Data: "),
        "licence": said("- Licence of the weights: "),
        "limits": said(_NOT_CLINICAL),
    }
    return Origin(**{field: text for field, text in given.items() if text is not None})


def stated_version(card: str) -> str | None:
    """The version of the model that ``card`` is of; None where it does not say."""
    found = re.search(r"^- File: .*, version `(\w+)`", card, re.MULTILINE)
    return found[1] if found else None


def _training_lines(made: dict[str, Any]) -> Iterator[str]:
    if "seed" in made:
        took = f", {made['training_minutes']} min" if "training_minutes" in made else ""
        yield f"- Seed {made['seed']}; {made.get('steps')} steps{took} on {made.get('device', 'cpu')}"
    if "command" in made:
        yield f"- Command: `{made['command']}`" + (f" at commit `{made['commit']}`" if "commit" in made else "")


def _starts(made: dict[str, Any]) -> Iterator[str]:
    """A paragraph for each model that a training went on from, the last one first."""
    if made.get("note"):
        yield f"\n{made['note']}\n"
    if start := made.get("start"):
        kind = "dense" if start.get("dense") else "pruned"
        took = f"{start.get('steps')} steps, {start.get('training_minutes')} min on {start.get('device')}, {kind}"
        yield f"\nIts start, version `{made['started_from']}`: {took}; `{start.get('command')}` at commit `{start.get('commit')}`.\n"
        yield from _starts(start)
