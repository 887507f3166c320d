"""One heart at two moments: the muscle is the same, and a cavity is not larger at end-systole than at end-diastole."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from prato.data.structures import STRUCTURES, voxel_ml
from prato.data.studies.folder import Manifest, examination_of, patient_of

_CAVITIES = ("LV cavity", "RV cavity")


@dataclass(frozen=True)
class Pair:
    """Two studies of one heart; ``known`` says that ``ed`` is at end-diastole and ``es`` at end-systole, else it may be the other way."""

    ed: str
    es: str
    known: bool


def find_pairs(studies: Iterable[str], manifest: Manifest | None) -> dict[str, Pair]:
    """By study, the pair that it belongs to: its examination's ED and ES where these are known, else the examination's only two studies."""
    examinations: dict[tuple[str, str], list[str]] = defaultdict(list)
    for study in sorted(studies):
        patient = patient_of(study, manifest)
        examinations[patient, examination_of(study, patient)].append(study)
    pairs: dict[str, Pair] = {}
    for members in examinations.values():
        ed, es = ([s for s in members if _phase(s, manifest) == phase] for phase in ("ED", "ES"))
        pair = Pair(ed[0], es[0], True) if len(ed) == len(es) == 1 else Pair(members[0], members[1], False) if len(members) == 2 else None
        if pair:
            pairs |= {pair.ed: pair, pair.es: pair}
    return pairs


def volumes(mask: np.ndarray, spacing: tuple[float, float, float]) -> dict[str, float]:
    """ml of each structure in ``mask`` (X, Y, Z), voxels of ``spacing`` mm."""
    return {name: float(np.count_nonzero(mask == value)) * voxel_ml(spacing) for name, value in STRUCTURES.items()}


def inconsistency(ed: Mapping[str, float], es: Mapping[str, float], known: bool) -> float:
    """How little two phases' volumes (ml, by structure) can be of one heart, 0..1.

    The mean of three shares: by how much the myocardium differs, by how much the LV cavity and by how much the RV cavity grows from ED to
    ES, each of the larger volume of the two. Unless it is ``known`` which is which, of the order in which they fit better.
    """

    def share(ml: float, a: float, b: float) -> float:
        return ml / max(a, b) if max(a, b) > 0 else 0.0

    def of(first: Mapping[str, float], second: Mapping[str, float]) -> float:
        muscle = share(abs(first["myocardium"] - second["myocardium"]), first["myocardium"], second["myocardium"])
        grown = [share(max(second[name] - first[name], 0.0), first[name], second[name]) for name in _CAVITIES]
        return (muscle + sum(grown)) / 3.0

    return of(ed, es) if known else min(of(ed, es), of(es, ed))


def _phase(study: str, manifest: Manifest | None) -> str | None:
    if manifest is not None and study in manifest.studies:
        return manifest.studies[study].phase
    return next((phase for phase in ("ED", "ES") if study.upper().endswith(f"_{phase}")), None)
