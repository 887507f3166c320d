"""Series of one or two slices each, joined with one another or with the stack that they continue; of what is there twice, the better."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from prato.dicom.cines.blocks import Block, is_named_plain
from prato.dicom.cines.breath_holds import AGAIN
from prato.dicom.cines.next_to import difference_from, lies_next_to
from prato.dicom.cines.stacks import MIN_SLICES, SAME_MM, LeftOut, Stack, are_apart, fit, gap_mm, is_regular, lie_alike, overlap
from prato.dicom.reading.headers import Frame


@dataclass(frozen=True)
class _Slice:
    """One slice: its distance along the normal, and its frames."""

    distance: float
    frames: tuple[Frame, ...]

    def when(self, place: Sequence[_Slice]) -> tuple[float, int, int]:
        """What was acquired later than others of its ``place`` is larger: by their times, if all have one."""
        first, is_timed = self.frames[0], all(one.frames[0].acquired_s is not None for one in place)
        time = first.acquired_s or 0.0 if is_timed else 0.0
        return time, first.series_number or 0, max(frame.instance_number or 0 for frame in self.frames)

    @property
    def number(self) -> str:
        """What notes, which may say nothing of the patient, call its series."""
        number = self.frames[0].series_number
        return "a series without a number" if number is None else f"series {number}"

    @property
    def instances(self) -> str:
        """Which images of its series it is."""
        numbers = [frame.instance_number or 0 for frame in self.frames]
        return f"{min(numbers)} to {max(numbers)}"


class _Usual:
    """What most of the slices of a stack are like."""

    def __init__(self, slices: Iterable[_Slice]) -> None:
        found = list(slices)
        self._count = Counter(len(one.frames) for one in found).most_common(1)[0][0]
        self._echo = Counter(one.frames[0].echo_ms for one in found).most_common(1)[0][0]

    def is_like(self, one: _Slice) -> tuple[bool, bool, bool]:
        """The larger, the more it is."""
        return is_named_plain(one.frames[0]), len(one.frames) == self._count, one.frames[0].echo_ms == self._echo

    def is_quite_like(self, one: _Slice) -> bool:
        return all(self.is_like(one))


def slices_of(block: Block) -> list[_Slice]:
    """Each slice of ``block``, also those that were acquired again."""
    return [_Slice(distance, frames) for distance, frames in block.acquisitions]


def join_small(stacks: list[Stack], small: Iterable[Block], left_out: list[LeftOut]) -> list[Stack]:
    """The ``stacks``, and those that ``small`` blocks make; what becomes part of none is added to ``left_out``."""
    pools: list[list[_Slice]] = []
    for block in sorted(small, key=lambda block: (block.frame.acquired_s or 0.0, block.frame.series_number or 0)):
        own = slices_of(block)
        pool = next((pool for pool in pools if fit({0.0: pool[0].frames}, block.slices)), None)
        if pool is None:
            pools.append(own)
        else:
            pool += own
    rest: list[list[_Slice]] = []
    series = len(stacks)
    for pool in pools:
        for slices, notes in acquisitions(pool, left_out):
            remaining = _continue_stacks(stacks, series, slices, left_out)
            if len(remaining) >= MIN_SLICES:
                stacks.append(Stack(_by_distance(remaining), notes))
            elif remaining:
                rest.append(remaining)
    for few in rest:
        left_out += _leave(few, stacks, rest)
    return stacks


def acquisitions(pool: list[_Slice], left_out: list[LeftOut]) -> list[tuple[list[_Slice], tuple[str, ...]]]:
    """The slices of ``pool``, which all fit, in order and each there once, with notes; what was acquired again as a whole, once more."""
    usual = _Usual(pool)
    places = _places(pool, usual)
    again = [place for place in places if len(place) > 1]
    found: list[tuple[list[_Slice], tuple[str, ...]]] = []
    if len(again) >= max(MIN_SLICES, AGAIN * len(places)):
        first = [min(place, key=lambda one: (*(not good for good in usual.is_like(one)), one.when(place))) for place in places]
        chosen = {id(one) for one in first}
        found.append((first, ()))
        return found + acquisitions([one for one in pool if id(one) not in chosen], left_out)
    notes: list[str] = []
    best = _choose(places, usual)
    for place, one in zip(places, best):
        _note_others(place, one, usual, left_out, notes)
    found.append((best, tuple(notes)))
    return found


def _places(pool: Iterable[_Slice], usual: _Usual) -> list[list[_Slice]]:
    """The slices of ``pool`` by where they lie. Where these places are not even, a slice that was acquired again a little aside, so that
    more than half of what it shows is what the other shows, has no place of its own, unless it may lie between two others: in stacks of
    slices that overlap each shows what the next one shows."""
    ordered = sorted(pool, key=lambda one: one.distance)
    found: list[list[list[_Slice]]] = []
    for same_mm in (SAME_MM, _same_tissue_mm(ordered[0])):
        places: list[list[_Slice]] = []
        for one in ordered:
            if places and overlap([places[-1][0].distance], [one.distance], same_mm):
                places[-1].append(one)
            else:
                places.append([one])
        found.append(places)
    narrow, wide = found
    chosen = _choose(wide, usual)
    aside = max(place[-1].distance - place[0].distance for place in wide)
    is_told = len(chosen) >= MIN_SLICES and aside + SAME_MM < 0.5 * gap_mm(one.distance for one in chosen)
    return wide if is_told and _lie_evenly(chosen) and not _lie_evenly(_choose(narrow, usual)) else narrow


def _lie_evenly(slices: Iterable[_Slice]) -> bool:
    return is_regular([one.distance for one in slices])


def _same_tissue_mm(one: _Slice) -> float:
    """Slices like ``one`` that lie nearer show more than half of the same."""
    return max(SAME_MM, 0.5 * (one.frames[0].thickness or 0.0))


def _choose(places: Sequence[Sequence[_Slice]], usual: _Usual) -> list[_Slice]:
    """Of each place the last slice of those that are most like the others and, if the first ones of these lie evenly, lies evenly with
    them."""
    alike: list[list[_Slice]] = []
    for place in places:
        most = max(map(usual.is_like, place))
        alike.append(sorted((one for one in place if usual.is_like(one) == most), key=lambda one: one.when(place)))
    best, found = [own[-1] for own in alike], [own[0] for own in alike]
    if _lie_evenly(best) or not _lie_evenly(found):
        return best
    for n, own in enumerate(map(reversed, alike)):
        found[n] = next(one for one in own if _lie_evenly([*found[:n], one, *found[n + 1 :]]))
    return found


def _note_others(place: Sequence[_Slice], best: _Slice, usual: _Usual, left_out: list[LeftOut], notes: list[str]) -> None:
    """Add what was acquired in the place of ``best``, which is used, to ``left_out``, and note it."""
    for other in place:
        if other is best:
            continue
        is_alike = usual.is_like(best) == usual.is_like(other)
        is_later = is_alike and best.when(place) > other.when(place)
        label = best.frames[0].label
        left_out.append(_left([other], f"acquired again in {label}" if is_later else f"a slice that {label} has already"))
        if is_named_plain(best.frames[0]) != is_named_plain(other.frames[0]):
            continue  # images of another kind in the same place, such as flow, are no second acquisition
        why, away = "as the later ones" if is_later else "as they are like those of the other slices", ""
        if is_alike and not is_later:
            why, away = "as they lie evenly with the others", f", {abs(best.distance - other.distance):.1f} mm away"
        if best.frames[0].series == other.frames[0].series:
            used, others = f" in {best.number}: its images {best.instances}", other.instances
        else:
            used, others = f": the images of {best.number}", f"those of {other.number}"
        notes.append(f"A slice was acquired twice{used} are used, {why}, and not {others}{away}.")


def _by_distance(slices: Iterable[_Slice]) -> dict[float, tuple[Frame, ...]]:
    return {one.distance: one.frames for one in slices}


def _continue_stacks(stacks: list[Stack], series: int, slices: list[_Slice], left_out: list[LeftOut]) -> list[_Slice]:
    """What of ``slices`` none of the first ``series`` of the ``stacks`` has, nor goes on with: all, where they are a stack of their own in
    half of the places of the other, or more. What was acquired again of fewer places is a better breath hold."""
    n = next((n for n, stack in enumerate(stacks[:series]) if fit(stack.slices, {0.0: slices[0].frames})), None)
    if n is None:
        return slices
    there = {distance: _Slice(distance, frames) for distance, frames in stacks[n].slices.items()}
    usual = _Usual(there.values())
    again = [one for one in slices if overlap(there, [one.distance])]
    is_own = len(again) >= max(MIN_SLICES, AGAIN * len(there))
    if is_own and _lie_evenly(slices) and all(map(usual.is_quite_like, again)):
        return slices
    notes = list(stacks[n].notes)
    for one in again:
        before = next(place for place in there if overlap([place], [one.distance]))
        if is_own:
            left_out.append(_left([one], f"a slice that {stacks[n].label} has already"))
        else:
            others = [[other] for place, other in there.items() if place != before]
            best = _choose([*others, [there[before], one]], usual)[-1]
            _note_others([there[before], one], best, usual, left_out, notes)
            there[before] = best  # a third one, too, is told by where the first lies
    stacks[n] = Stack(_by_distance(sorted(there.values(), key=lambda one: one.distance)), tuple(notes), stacks[n].flaw)
    remaining = [one for one in slices if one not in again]
    for group in (remaining, *([one] for one in remaining)):  # all at once, as one of them alone may lie beyond the next
        joined = dict(sorted({**stacks[n].slices, **{one.distance: one.frames for one in group}}.items()))
        if group and (is_regular(list(joined)) or not is_regular(list(stacks[n].slices))):
            stacks[n] = Stack(joined, stacks[n].notes, stacks[n].flaw)
            remaining = [one for one in remaining if one not in group]
    return remaining


def _leave(few: list[_Slice], stacks: list[Stack], rest: list[list[_Slice]]) -> list[LeftOut]:
    """The reasons for ``few`` slices that are no stack, and a note in the one that they seem to be a part of."""
    frames = few[0].frames
    fitting = (n for n, stack in enumerate(stacks) if fit(stack.slices, {0.0: frames}))
    near_mm = _same_tissue_mm(few[0])
    n = next((n for n in fitting if overlap(stacks[n].slices, [few[0].distance], min(near_mm, 0.5 * gap_mm(stacks[n].slices)))), None)
    if n is not None:
        away = min(abs(few[0].distance - place) for place in stacks[n].slices)
        if away >= SAME_MM and is_named_plain(frames[0]) == is_named_plain(stacks[n].frame):
            where = f"{away:.1f} mm away, in {few[0].number}"
            note = f"A slice was acquired again {where}: it is left out, as it does not lie evenly with the others."
            stacks[n] = Stack(stacks[n].slices, (*stacks[n].notes, note), stacks[n].flaw)
        return [_left([one], f"a slice that {stacks[n].label} has already") for one in few]
    reason = f"a cine of {len(few)} slice{'s' * (len(few) != 1)}"
    others = [next(iter(stack.slices.values())) for stack in stacks] + [other[0].frames for other in rest]
    apart = next((other[0].label for other in others if are_apart(frames, other) and lie_alike(frames[0], other[0])), None)
    n = next((n for n, stack in enumerate(stacks) if lies_next_to(frames[0], stack)), None)
    if apart is not None:
        reason += f", in another frame of reference than {apart}"
    elif n is not None:
        difference = difference_from(frames[0], stacks[n].frame)
        reason += f" next to {stacks[n].label}, but {difference}"
        note = f"A slice next to the others is left out: it is {difference}."
        stacks[n] = Stack(stacks[n].slices, (*stacks[n].notes, note), stacks[n].flaw)
    else:
        reason += ", no stack"
    return [_left(few, reason)]


def _left(slices: Sequence[_Slice], reason: str) -> LeftOut:
    frames = [frame for one in slices for frame in one.frames]
    return LeftOut(frames[0].label, len({frame.file for frame in frames}), reason)
