"""The function of a heart of which some phases may be labelled, proposals among them: one rule for pages, tables and exports."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from prato.data.structures import voxel_ml
from prato.data.studies.ed_es import NamedPhases
from prato.function.curve import VolumeCurve, find_ed_es
from prato.function.ventricles import CardiacFunction, cardiac_function
from prato.labelling.doubts import doubt_phase

_GUESSED = "End-diastole and end-systole were guessed by the import, before anything was segmented: others may be fuller and emptier."


class NoFunctionError(ValueError):
    """A heart has no function; the message says why, as a sentence's end without its full stop."""


@dataclass(frozen=True)
class MeasuredHeart:
    """What the phases of a heart give.

    Attributes:
        phases: those that were measured, in order.
        function: ``ed`` and ``es`` are phases of the cine.
        named: who chose these two; None where they were found among ``phases``.
    """

    phases: tuple[int, ...]
    function: CardiacFunction
    named: NamedPhases | None

    @property
    def ed_es_source(self) -> str:
        """Whose choice end-diastole and end-systole are: "marked", "manifest" or "found"."""
        return "found" if self.named is None else self.named.source

    @property
    def told_by(self) -> str:
        """``ed_es_source`` as the end of a sentence."""
        return "found by the volumes" if self.named is None else self.named.told_by


@dataclass(frozen=True)
class Heart:
    """A heart of which some phases may have masks.

    Attributes:
        masks: by phase, uint8 (X, Y, Z), values of ``prato.data.structures``, slices along Z.
        spacing: of a voxel, mm along X, Y, Z.
        named: end-diastole and end-systole as they were named: of several, the first that are measured count.
        count: phases of the cine; None where that is not known.
        names: what the phases are called; None for their numbers.
        height_cm, weight_kg: the patient's, where they are known.
        image_warnings: of the images, as ``Volume.warnings``.
    """

    masks: Mapping[int, np.ndarray]
    spacing: tuple[float, float, float]
    named: Sequence[NamedPhases]
    count: int | None
    names: Sequence[str] | None = None
    height_cm: float | None = None
    weight_kg: float | None = None
    image_warnings: Collection[str] = ()

    def measure(self, trusted: Collection[int]) -> MeasuredHeart:
        """Measure the ``trusted`` phases, for which a labeller vouches, alone or, where these hold no pair that can be measured, all that
        hold a structure, with that doubt.

        Where somebody has named end-diastole and end-systole no other pair is measured.

        Raises:
            NoFunctionError: fewer than two phases hold a structure, or all are alike, or not both named ones are there, or grids differ.
        """
        drawn = [t for t in sorted(self.masks) if self.masks[t].any()]
        own = [t for t in drawn if t in trusted]
        try:
            return self._measure(own)
        except NoFunctionError:
            if own == drawn:
                raise
        measured = self._measure(drawn)
        function = measured.function
        others = " and ".join(self._call(t) for t in (function.ed, function.es) if t not in trusted)
        doubt = f"Proposals, or phases that were sent back, are measured: {others}."
        return replace(measured, function=replace(function, warnings=(doubt, *function.warnings)))

    def _call(self, phase: int) -> str:
        """What a sentence calls ``phase``."""
        return f"phase {phase}" if self.names is None else self.names[phase]

    def _measure(self, phases: Sequence[int]) -> MeasuredHeart:
        """Measure these ``phases``, whoever drew them.

        Raises:
            NoFunctionError: as :meth:`measure`.
        """
        if len(phases) < 2:
            raise NoFunctionError("fewer than two of its phases have a mask, and function needs two")
        if len({self.masks[t].shape for t in phases}) > 1:
            raise NoFunctionError("its frames differ in size, and function needs phases on one grid")
        named = next((each for each in self.named if {*each.pair} <= {*phases}), None)
        if named is None and self.named:
            told = self.named[0]
            raise NoFunctionError(told.why_none(self._call(told.ed), self._call(told.es)))
        masks = np.stack([self.masks[t] for t in phases], axis=3)
        curve = VolumeCurve.from_masks(masks, voxel_ml(self.spacing))
        pair = find_ed_es(curve, is_cycle=len(phases) == self.count) if named is None else named.pair
        if pair is None:
            raise NoFunctionError("no phase of it differs from another")
        ed, es = pair if named is None else map(phases.index, pair)
        function = cardiac_function(
            masks,
            self.spacing,
            phases=(ed, es),
            found_among=len(phases) if named is None else None,
            count=self.count,
            height_cm=self.height_cm,
            weight_kg=self.weight_kg,
            image_warnings=self.image_warnings,
        )
        assert function is not None  # as its phases are known
        ed, es = phases[ed], phases[es]
        doubts = [
            *([_GUESSED] if named is not None and named.is_guess else []),
            *(doubt for t in (ed, es) if (doubt := self._doubt(t)) is not None),
        ]
        return MeasuredHeart(tuple(phases), replace(function, ed=ed, es=es, warnings=(*doubts, *function.warnings)), named)

    def _doubt(self, phase: int) -> str | None:
        """The sentence about ``phase`` where its structures lie as they cannot: of a cine's the one that its labeller was told."""
        doubt = doubt_phase(self.masks[phase], 2, phase if self.names is None else None)
        return doubt if doubt is None or self.names is None else f"In {self.names[phase]}: {doubt}"
