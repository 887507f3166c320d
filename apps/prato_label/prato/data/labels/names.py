"""Which value of a label file is which structure: names over numbers, wherever somebody gives names."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from prato.data.nifti import VolumeError
from prato.data.structures import BACKGROUND, STRUCTURES, border_from_name, structure_from_name

#: The same as ``label_info``: what a stored label's values mean.
LABEL_INFO = [{"name": name, "idx": number} for name, number in STRUCTURES.items()]
#: Value -> structure in the labels of public data sets.
CONVENTIONS: Mapping[str, Mapping[str, str]] = {
    "acdc": {"1": "RV cavity", "2": "myocardium", "3": "LV cavity"},
    "mnms": {"1": "LV cavity", "2": "myocardium", "3": "RV cavity"},
    "ukbb": {"1": "LV cavity", "2": "myocardium", "3": "RV cavity"},
    # of earlier conversions of the same contours
    "ukbb4": {"1": "LV cavity", "2": "myocardium", "4": "RV cavity"},
}
VALUES = ", ".join(f"{value} {name}" for name, value in {"background": BACKGROUND, **STRUCTURES}.items())
_NUMBERS = {"background": BACKGROUND, **STRUCTURES}
_EXAMPLE = json.dumps(LABEL_INFO[:1])


class LabelError(VolumeError):
    """A label that cannot be used; the message is one sentence that says what is wrong and what would be right."""


class MisplacedLabelError(LabelError):
    """A label that does not lie on the grid of its image, or is of another number of phases."""


class ContradictedLabelError(LabelError):
    """A label whose structures cannot be what its values say, by where they lie."""


class UnknownNameError(LabelError):
    """A label with a name that is none of a structure."""


def structure_numbers(name: str, label_info: Any, values: Iterable[float]) -> dict[int, int]:
    """Value in a file -> value in our own labels, for the ``values`` that occur in the file; ``name`` is what messages call it.

    Args:
        label_info: how a client names its values: a list ``[{"name": "LV", "idx": 1}, ...]`` as MONAI Label's 3D Slicer module sends it,
            or an object, ``{"LV": 1}`` or ``{"1": "LV"}``. Names may be any that ``structure_from_name`` knows. None or empty: ours.

    Raises:
        LabelError: it names no structure, or not those of ``values``, or one structure for two values.
    """
    present = sorted({int(value) for value in values} - {BACKGROUND})
    if label_info is None or label_info in ([], {}):
        unknown = [value for value in present if value not in STRUCTURES.values()]
        if unknown:
            raise LabelError(
                f"{name} holds the value {unknown[0]}, which names no structure: the values are {VALUES}; other values need names."
            )
        return {value: value for value in STRUCTURES.values()}
    if isinstance(label_info, Mapping):
        pairs = _pairs_from_object(label_info)
        unnamed = sorted({*present} - {value for _, value in pairs})
        if unnamed:
            known = ", ".join(f"{value} {text}" for text, value in pairs)
            raise LabelError(f"{name} holds the value {unnamed[0]}, which has no name: the names are {known:.200}.")
        return _resolve(name, pairs, present)
    segments = [(text, idx) for text, idx in _pairs_from_list(label_info) if structure_from_name(text) != "background"]
    numbers = [idx for _, idx in segments]
    readings = [segments]
    if len(numbers) > 0 and numbers == list(range(numbers[0], numbers[0] + len(numbers))):
        # the stock module counts idx over all segments of the scene, but the file over those that are sent: a hidden one shifts them
        readings.append([(text, n) for n, (text, _) in enumerate(segments, 1)])
    fitting = [reading for reading in readings if set(present) <= {value for _, value in reading}]
    if not fitting:
        raise LabelError(f"{name} holds values that its label_info does not name: give each segment its value as idx.")
    resolved = [_resolve(name, reading, present) for reading in fitting]
    if any({v: r[v] for v in present} != {v: resolved[0][v] for v in present} for r in resolved):
        # our own numbers in one of the two readings settle it
        resolved = [reading for reading in resolved if all(value == number for value, number in reading.items())]
        if len(resolved) != 1:
            raise LabelError(f"{name} does not say which value is which structure: number the segments {VALUES}.")
    return resolved[0]


def read_convention(text: str) -> Mapping[str, str]:
    """Value -> structure: ``text`` names a known convention, or a JSON file, ``{"1": "LV cavity", ...}`` or the other way round.

    Raises:
        LabelError: it is neither.
    """
    if text in CONVENTIONS:
        return CONVENTIONS[text]
    known = f"{', '.join(CONVENTIONS)} or a JSON file such as {json.dumps(dict(CONVENTIONS['mnms']))}"
    try:
        found = json.loads(Path(text).read_text(encoding="utf-8-sig"))
    except (OSError, ValueError):
        raise LabelError(f"{text!r:.80} is not a known convention: use {known}.") from None
    if not isinstance(found, dict) or not found:
        raise LabelError(f"{os.path.basename(text)} is not a known convention: use {known}.")
    pairs = _pairs_from_object(found)
    _resolve(os.path.basename(text), pairs, [value for _, value in pairs])
    return {str(value): text for text, value in pairs}


def read_segment_names(path: Path) -> Mapping[str, str]:
    """What the segments of a program are called -> structures, or background: the JSON file ``path``, ``{"LA": "background", ...}``.

    Raises:
        LabelError: it is no such file, or names what is no structure.
    """
    try:
        found = json.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError, RecursionError):
        found = None
    if not isinstance(found, dict) or not found or not all(isinstance(name, str) for name in found.values()):
        raise LabelError(f'{path.name} is no JSON file of names of segments such as {{"LA": "background", "Kavum": "LV cavity"}}.')
    for name in found.values():
        if structure_from_name(name) is None and border_from_name(name) is None:
            raise LabelError(f"{path.name} names {name!r:.60}: the structures are {', '.join(STRUCTURES)}, and background.")
    return found


def _pairs_from_list(label_info: Any) -> list[tuple[str, int]]:
    pairs = []
    for entry in label_info if isinstance(label_info, list) else [label_info]:
        name, idx = (entry.get("name"), entry.get("idx")) if isinstance(entry, dict) else (None, None)
        number = None if isinstance(idx, str) else _whole(idx)
        if number is None or not isinstance(name, str):
            raise LabelError(f"label_info must be a list like {_EXAMPLE}, not {entry!r:.60}.")
        pairs.append((name, number))
    return pairs


def _pairs_from_object(label_info: Mapping[Any, Any]) -> list[tuple[str, int]]:
    pairs = []
    for one, other in label_info.items():
        text, value = (one, other) if _whole(one) is None else (other, one)
        number = _whole(value)
        if not isinstance(text, str) or number is None:
            raise LabelError(
                f'An object of names must be like {{"LV cavity": 1}} or {{"1": "LV cavity"}}, not {{{one!r:.40}: {other!r:.40}}}.'
            )
        pairs.append((text, number))
    return pairs


def _whole(value: Any) -> int | None:
    """``value`` as a whole number, None where it is none; an object's keys are text in JSON."""
    try:
        number = int(value) if not isinstance(value, bool) else None
    except (TypeError, ValueError, OverflowError):
        return None
    return number if isinstance(value, str) or number == value else None


def _resolve(name: str, pairs: list[tuple[str, int]], present: list[int]) -> dict[int, int]:
    """Value -> our value, of ``pairs`` of a name and a value; names of values that do not occur need not be known."""
    numbers: dict[int, int] = {}
    named: dict[str, int] = {}
    for text, value in pairs:
        structure = structure_from_name(text)
        if structure is None:
            if value in present:
                known = f"the structures are {', '.join(STRUCTURES)}, and background"
                raise UnknownNameError(f"{name} names the segment {text!r:.60}: {known}.")
            continue
        if structure != "background" and structure in named:
            raise LabelError(f"{name} names {structure} twice: merge the two segments.")
        if numbers.get(value, _NUMBERS[structure]) != _NUMBERS[structure]:
            raise LabelError(f"{name} gives the value {value} two names: number the segments {VALUES}.")
        numbers[value], named[structure] = _NUMBERS[structure], value
    missing = [value for value in present if value not in numbers]
    if missing:
        raise LabelError(
            f"{name} holds values that its label_info does not name: give each segment its value as idx ({missing[0]} has none)."
        )
    return numbers
