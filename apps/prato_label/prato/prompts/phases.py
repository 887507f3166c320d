"""The phases of a cine that a request is about, and boxes that move from one phase to another."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from prato.prompts.base import Prompt, PromptError
from prato.prompts.box import Box, BoxPrompt

#: What a request's ``phases`` may be: one phase, several, all, or nothing for end-diastole.
Phases = int | tuple[int, ...] | Literal["all"] | None
#: What its ``propagate`` may be: the phases that it sends corrected, none where those are followed that are stored, or no propagation.
Propagate = tuple[int, ...] | None
#: Prompts on a cine: the same in every phase, or by phase.
CinePrompts = Sequence[Prompt] | Mapping[int, Sequence[Prompt]]


def parse_phases(sent: Any) -> Phases:
    """A request's ``phases``, not yet compared with an image.

    Raises:
        ValueError: it is nothing of the kind.
    """
    if sent is None or sent == "all" or _is_number(sent):
        return sent  # type: ignore[no-any-return]
    if isinstance(sent, (list, tuple)) and sent and all(map(_is_number, sent)):
        return tuple(sorted(set(sent)))
    raise ValueError(f'phases must be a phase\'s number from 0, a list of such numbers or "all", not {sent!r:.60}.')


def parse_propagate(sent: Any) -> Propagate:
    """A request's ``propagate``, not yet compared with an image.

    Raises:
        ValueError: it is nothing of the kind.
    """
    if sent is None or sent is False:
        return None
    if sent is True:
        return ()
    if isinstance(sent, (list, tuple)) and sent and all(map(_is_number, sent)):
        return tuple(sorted(set(sent)))
    raise ValueError(f"propagate must be true, or a list of phases that are sent as label, not {sent!r:.60}.")


def prompts_of_phase(prompts: CinePrompts, phase: int) -> Sequence[Prompt]:
    """Those on one ``phase``; none where others alone have some."""
    return prompts.get(phase, ()) if isinstance(prompts, Mapping) else prompts


def prompts_by_phase(
    boxes: Mapping[Any, Any], count: int, shape: tuple[int, ...], spacing: tuple[float, ...]
) -> dict[int, Sequence[BoxPrompt]]:
    """The prompts of every phase, from a request's ``roi`` with boxes by phase, which move from each of these phases to the next.

    They move linearly from phase to phase, from the last of these over the end of the cycle to the first.

    Args:
        boxes: the phase's number as text -> its ``roi``, as for an image of ``shape`` and ``spacing``; as many boxes in each.
        count: phases of the cine.

    Raises:
        PromptError: they cannot be used on that cine.
    """
    drawn: dict[int, list[Box]] = {}
    for key, roi in sorted(boxes.items(), key=lambda item: str(item[0])):
        if not (isinstance(key, str) and key.isascii() and key.isdigit() and len(key) < 10 and key == str(int(key))):
            raise PromptError(f'roi must be 6 voxel bounds, or bounds by phase, {{"0": [...], "12": [...]}}; {key!r:.40} is not a phase.')
        if int(key) >= count:
            there = f"phases 0 to {count - 1}" if count > 1 else "one phase, 0"
            raise PromptError(f"roi has a box for phase {key}, but the image has {there}: leave that box out.")
        drawn[int(key)] = [prompt.box for prompt in BoxPrompt.from_request({"roi": roi}, shape, spacing)]
    numbers = {len(found) for found in drawn.values()}
    if 0 in numbers or len(numbers) > 1:
        raise PromptError("roi must hold the same number of boxes for each phase that it names: they move from one phase to the next.")
    return {t: [BoxPrompt(box) for box in _moved(drawn, t, count)] for t in range(count)}


def _moved(drawn: Mapping[int, list[Box]], t: int, count: int) -> list[Box]:
    """The boxes of phase ``t``, between those that were drawn before and after it in the cycle."""
    keys = sorted(drawn)
    before = max((key for key in keys if key <= t), default=keys[-1])
    after = min((key for key in keys if key > t), default=keys[0])
    length = (after - before) % count or count
    step = (t - before) % count
    return [_between(one, other, step, length) for one, other in zip(drawn[before], drawn[after])]


def _between(one: Box, other: Box, step: int, steps: int) -> Box:
    """The box after ``step`` of ``steps`` from ``one`` to ``other``, each side rounded; in whole numbers, which lose no voxel.

    Half a voxel is rounded outwards: in an image that is stored the other way round it is the same box.
    """
    start = ((2 * ((steps - step) * a + step * b) + steps - 1) // (2 * steps) for a, b in zip(one.start, other.start))
    stop = ((2 * ((steps - step) * a + step * b) + steps) // (2 * steps) for a, b in zip(one.stop, other.stop))
    return Box(tuple(start), tuple(stop))


def _is_number(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)
