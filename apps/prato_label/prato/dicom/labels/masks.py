"""What several DICOM objects hold of one phase, put together: many programs save each structure as an object of its own."""

from __future__ import annotations

import zlib
from collections import defaultdict
from collections.abc import Mapping, Sequence, Set
from itertools import combinations
from pathlib import Path
from typing import NamedTuple

import numpy as np

from prato.data.structures import STRUCTURES
from prato.data.studies.folder import printed
from prato.labelling.mask_files import MaskOwner

_CAVITY = STRUCTURES["LV cavity"]
#: A study, and a phase of it.
_Phase = tuple[str, int]


class DicomMask(NamedTuple):
    """What the files ``paths`` hold of ``study``.

    Attributes:
        phases: by phase of the study, the checked mask (X, Y, Z), compressed.
        is_automatic: whether a program made it. may_overlap: whether the left ventricle counts where both are, as of contours.
        filled: phases whose myocardium is all that lies within its outer border: another object must hold the cavity.
    """

    paths: tuple[Path, ...]
    study: str
    phases: Mapping[int, bytes]
    is_automatic: bool
    may_overlap: bool = False
    filled: Set[int] = frozenset()


def compress(mask: np.ndarray) -> bytes:
    return zlib.compress(mask.tobytes(), 1)


def decompress(data: bytes) -> np.ndarray:
    """The voxels, in one row."""
    return np.frombuffer(zlib.decompress(data), np.uint8)


def join_masks(masks: Sequence[DicomMask], files: Mapping[MaskOwner, Path]) -> tuple[list[DicomMask], list[tuple[Path, str]]]:
    """At most one mask of each phase: of all ``masks`` of it, where each holds other structures, or is a copy. The others are left out.

    Args:
        masks: each of one file. files: other masks that are to be imported, which may be of the same phases.

    Returns:
        the masks, and files with the reason why they are not used.
    """
    of_phase: dict[_Phase, list[int]] = defaultdict(list)
    for n, mask in enumerate(masks):
        for number in mask.phases:
            of_phase[mask.study, number].append(n)
    reasons: dict[int, str] = {}
    for phase, those in of_phase.items():
        found = _find_faults([masks[n] for n in those], phase, files)
        reasons = {those[n]: reason for n, reason in found.items()} | reasons
    while others := [(n, m) for those in of_phase.values() for n in those for m in those if n not in reasons and m in reasons]:
        # what is left of a phase is not its label
        reasons |= {n: f"{_name(masks[m])}, which is of the same phase, is left out." for n, m in others}
    joined: dict[tuple[str, tuple[int, ...]], dict[int, bytes]] = defaultdict(dict)
    for (study, number), those in of_phase.items():
        if reasons.keys().isdisjoint(those):
            joined[study, tuple(those)][number] = _put_together([masks[n] for n in those], number)
    left_out = [(masks[n].paths[0], reason) for n, reason in reasons.items()]
    return [_of_files([masks[n] for n in those], study, phases) for (study, those), phases in joined.items()], left_out


def _of_files(masks: Sequence[DicomMask], study: str, phases: Mapping[int, bytes]) -> DicomMask:
    return DicomMask(tuple(path for mask in masks for path in mask.paths), study, phases, any(mask.is_automatic for mask in masks))


def _find_faults(masks: Sequence[DicomMask], phase: _Phase, files: Mapping[MaskOwner, Path]) -> dict[int, str]:
    """By index in ``masks``, why it cannot be used with the others, which are of the same ``phase``."""
    study, number = phase
    what = f"phase {number} of {study}" if study.endswith("_4d") else study
    file = next((files[owner] for owner in (MaskOwner(study), MaskOwner(study, number)) if owner in files), None)
    another = f"is another mask of {what}: keep only one of them in the folder."
    if file is not None:
        return dict.fromkeys(range(len(masks)), f"{printed(file.name)} {another}")
    faults: dict[int, str] = {}
    for n, m in combinations(range(len(masks)), 2):
        one, other = masks[n].phases[number], masks[m].phases[number]
        if one == other:
            continue
        if _structures(decompress(one)) & _structures(decompress(other)):
            why = another
        elif _clash(masks[n], masks[m], number):
            why = f"overlaps with it in {what}: give each voxel to one structure."
        else:
            continue
        for a, b in ((n, m), (m, n)):
            faults.setdefault(a, f"{_name(masks[b])} {why}")
    if any(number in mask.filled for mask in masks) and not any(_CAVITY in _structures(decompress(mask.phases[number])) for mask in masks):
        half = f"It has the outer border of the wall and not the inner one in {what}: draw both, or import both objects at once."
        faults = {n: half for n, mask in enumerate(masks) if number in mask.filled} | faults
    return faults


def _clash(one: DicomMask, other: DicomMask, number: int) -> bool:
    """Whether both, which hold different structures, have voxels that can be only of one of them."""
    if one.may_overlap and other.may_overlap:
        return False
    voxels = [decompress(mask.phases[number]) for mask in (one, other)]
    both = (voxels[0] != 0) & (voxels[1] != 0)
    for mask, (own, theirs) in ((one, voxels), (other, voxels[::-1])):
        if number in mask.filled:
            both &= ~((own == STRUCTURES["myocardium"]) & (theirs == _CAVITY))
    return bool(both.any())


def _structures(voxels: np.ndarray) -> set[int]:
    return {value for value in STRUCTURES.values() if (voxels == value).any()}


def _put_together(masks: Sequence[DicomMask], number: int) -> bytes:
    """The values of structures are in the order in which contours are painted, one over the other."""
    different = list(dict.fromkeys(mask.phases[number] for mask in masks))
    if len(different) == 1:
        return different[0]
    return compress(np.maximum.reduce([decompress(data) for data in different]))


def _name(mask: DicomMask) -> str:
    return printed(mask.paths[0].name)
