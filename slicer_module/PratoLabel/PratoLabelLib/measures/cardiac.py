"""Clinical measures from a mask of the heart: volumes, the function of a ventricle, and what in the mask looks implausible.

Structures are named ("RV cavity", "myocardium", "LV cavity"), as data sets number them differently. One that ``labels`` does not name
has a volume of 0 and is never flagged.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from PratoLabelLib.translation import translator

_ = translator(__file__)

RV, MYOCARDIUM, LV = "RV cavity", "myocardium", "LV cavity"
MYOCARDIAL_DENSITY_G_PER_ML = 1.05

#: Share of the LV's outline in a slice, in voxels, that may lie open before the slice is flagged.
_OPEN_SHARE = 0.05

#: Largest difference between the ventricles' stroke volumes, as a share of the larger one, as the server has it.
_STROKE_VOLUMES = 0.2


@dataclass(frozen=True)
class CardiacVolumes:
    """The structures' volumes in ml and the mass of the myocardium in g."""

    rv_ml: float
    lv_ml: float
    myocardium_ml: float
    myocardial_mass_g: float

    @property
    def blood_ml(self) -> float:
        """Of both cavities together, by which the server finds end-diastole and end-systole, too."""
        return self.rv_ml + self.lv_ml


@dataclass(frozen=True)
class VentricularFunction:
    """End-diastolic, end-systolic and stroke volume of one ventricle in ml, and its ejection fraction in percent."""

    edv_ml: float
    esv_ml: float
    stroke_volume_ml: float
    ejection_fraction: float


class Flag(NamedTuple):
    """What looks implausible: one sentence, and the slices (from 0) that it is about; none where it is about the whole mask."""

    sentence: str
    slices: tuple[int, ...] = ()


def compute_volumes(mask: np.ndarray, labels: Mapping[str, int], spacing_mm: Sequence[float]) -> CardiacVolumes:
    """The volumes of the structures in ``mask``.

    Args:
        mask: 3D array of integers, axes in any order.
        labels: structure name -> value in ``mask``.
        spacing_mm: voxel edge lengths in mm, in the axis order of ``mask``.

    Raises:
        ValueError: the mask is not 3D, or the spacing is not three positive, finite numbers.
    """
    _check_3d(mask)
    spacing = np.asarray(spacing_mm, dtype=float)
    if spacing.shape != (3,) or not np.isfinite(spacing).all() or (spacing <= 0).any():
        raise ValueError(f"The voxel spacing must be three positive lengths in mm, not {spacing_mm}: correct the image's header.")
    voxel_ml = float(spacing.prod()) / 1000
    rv, lv, myocardium = (int(np.count_nonzero(_structure(mask, labels, name))) * voxel_ml for name in (RV, LV, MYOCARDIUM))
    return CardiacVolumes(rv, lv, myocardium, myocardium * MYOCARDIAL_DENSITY_G_PER_ML)


def compute_function(edv_ml: float, esv_ml: float) -> VentricularFunction | None:
    """The function of a ventricle of ``edv_ml`` at end diastole and ``esv_ml`` at end systole; None where ``edv_ml`` is 0."""
    if edv_ml == 0:
        return None
    stroke = edv_ml - esv_ml
    return VentricularFunction(edv_ml, esv_ml, stroke, 100 * stroke / edv_ml)


def flag_function(lv: VentricularFunction | None, rv: VentricularFunction | None) -> list[Flag]:
    """What looks implausible in both ventricles together: that they fill from end-diastole to end-systole, or stroke volumes that differ by
    more than a fifth of the larger one."""
    if sum(side.stroke_volume_ml for side in (lv, rv) if side is not None) < 0:
        return [Flag(_("The heart holds more blood at end-systole than at end-diastole: are the two phases swapped?"))]
    if lv is None or rv is None:
        return []
    larger = max(abs(lv.stroke_volume_ml), abs(rv.stroke_volume_ml))
    if abs(lv.stroke_volume_ml - rv.stroke_volume_ml) <= _STROKE_VOLUMES * larger:
        return []
    sentence = _(
        "The stroke volumes differ (LV {lv:.0f} ml, RV {rv:.0f} ml), and should not without a shunt or a leaking valve: "
        "check the basal slices."
    )
    return [Flag(sentence.format(lv=lv.stroke_volume_ml, rv=rv.stroke_volume_ml))]


def find_ed_es(volumes_by_study: Mapping[str, CardiacVolumes], ed: str = "", es: str = "") -> tuple[str, str] | None:
    """The studies of one patient at end diastole (most blood in both cavities) and end systole (least); None for fewer than two studies.

    Args:
        volumes_by_study: of the patient's studies.
        ed, es: studies that were chosen by hand; "" for the one that the volumes tell.
    """
    by_size = sorted(volumes_by_study, key=lambda study: volumes_by_study[study].blood_ml)
    ed = ed or next((study for study in reversed(by_size) if study != es), "")
    es = es or next((study for study in by_size if study != ed), "")
    return (ed, es) if ed and es and ed != es else None


def find_flags(mask: np.ndarray, labels: Mapping[str, int], slice_axis: int) -> list[Flag]:
    """What looks implausible in ``mask``; empty where nothing does. In the sentences, slices count from 1 along ``slice_axis``.

    - A structure is missing altogether.
    - A structure is missing in a slice, but not in some slices on both sides of it.
    - A structure is in parts, where voxels connect by faces, edges and corners (26-connectivity). The myocardium may connect through
      the LV cavity, as its apical cap often touches nothing else.
    - The LV cavity is not enclosed in a slice: of the voxels on its outline, more than one in twenty has one of its four neighbours in the
      slice outside both LV cavity and myocardium, or outside the image. Basal and apical slices are no exception.

    Of ACDC's 200 expert labels, 13 are flagged: 12 have an RV and one an LV in parts (1 to 64 voxels lie apart: a speck, or the apex
    in a slice that lies a little beside the next), and one of them has an LV that is not enclosed. So a flag is a reason to look, not
    a verdict.

    Args:
        mask: 3D array of integers.
        labels: structure name -> value in ``mask``.
        slice_axis: the axis of ``mask`` that runs across the slices.

    Raises:
        ValueError: the mask is not 3D, or has no such axis.
    """
    _check_3d(mask)
    stack = np.moveaxis(mask, slice_axis, 0)
    structures = {name: _structure(stack, labels, name) for name in (RV, MYOCARDIUM, LV) if name in labels}
    flags = []
    for name, structure in structures.items():
        if not structure.any():
            flags.append(Flag(_("{structure} is missing altogether.").format(structure=_capitalise(name))))
            continue
        filled = np.flatnonzero(structure.any(axis=(1, 2)))
        gaps = np.setdiff1d(np.arange(filled[0], filled[-1]), filled)
        if gaps.size:
            sentence = _("{structure} is missing in {slices}, between slices that contain it.").format(
                structure=_capitalise(name), slices=_format_slices(gaps)
            )
            flags.append(Flag(sentence, tuple(gaps.tolist())))
        through_lv = name == MYOCARDIUM and LV in structures
        flags += _flag_parts(name, structure, structure | structures[LV] if through_lv else structure)
    if LV in structures and MYOCARDIUM in structures and structures[MYOCARDIUM].any():
        flags += _flag_open_lv(structures[LV], structures[MYOCARDIUM])
    return flags


def _flag_parts(name: str, structure: np.ndarray, connected: np.ndarray) -> list[Flag]:
    """Whether ``structure`` is in parts that do not connect through ``connected`` either, which contains it."""
    component = _label_components(connected)[structure[connected]]
    sizes = np.bincount(component)
    apart = component != sizes.argmax()
    if not apart.any():
        return []
    count = int(apart.sum())
    slices = np.unique(np.nonzero(structure)[0][apart])
    one = _("{structure} is in {parts} parts: 1 voxel lies apart from the largest, in {slices}.")
    more = _("{structure} is in {parts} parts: {count} voxels lie apart from the largest, in {slices}.")
    parts, where = np.count_nonzero(sizes), _format_slices(slices)
    sentence = (more if count > 1 else one).format(structure=_capitalise(name), parts=parts, count=count, slices=where)
    return [Flag(sentence, tuple(slices.tolist()))]


def _flag_open_lv(lv: np.ndarray, myocardium: np.ndarray) -> list[Flag]:
    outline = np.count_nonzero(lv & ~_is_surrounded(lv), axis=(1, 2))
    bare = np.count_nonzero(lv & ~_is_surrounded(lv | myocardium), axis=(1, 2))
    slices = np.flatnonzero(bare > _OPEN_SHARE * outline)
    if not slices.size:
        return []
    sentence = _("{structure} is not enclosed by myocardium in {count} of its {all} slices: {slices}.")
    told = sentence.format(structure=LV, count=slices.size, all=np.count_nonzero(outline), slices=_format_slices(slices))
    return [Flag(told, tuple(slices.tolist()))]


def _is_surrounded(region: np.ndarray) -> np.ndarray:
    """Where all four neighbours in the slice (axes 1 and 2) belong to ``region``; beyond the image nothing does."""
    padded = np.pad(region, ((0, 0), (1, 1), (1, 1)))
    return padded[:, 2:, 1:-1] & padded[:, :-2, 1:-1] & padded[:, 1:-1, 2:] & padded[:, 1:-1, :-2]


def _label_components(region: np.ndarray) -> np.ndarray:
    """The number of the 26-connected component of each voxel of ``region`` (3D, bool), as int, in the order of ``region[region]``.

    Works on runs, the stretches of set voxels in a row: there are few of them, and a run touches the runs of a neighbouring row that
    begin before its end and end after its beginning.
    """
    # the rim of empty voxels lets a row be shifted onto its neighbour by adding to the flat index, without wrapping into another
    padded = np.pad(region, 1)
    row, plane = padded.shape[2], padded.shape[1] * padded.shape[2]
    change = np.diff(padded.ravel().astype(np.int8))
    start, stop = np.flatnonzero(change == 1) + 1, np.flatnonzero(change == -1) + 1
    here: list[np.ndarray] = []
    there: list[np.ndarray] = []
    for shift in (row, plane - row, plane, plane + row):  # the other four of the eight rows are covered from their side
        first = np.searchsorted(stop, start + shift, side="left")  # touching ends count on both sides: corners join
        count = np.searchsorted(start, stop + shift, side="right") - first
        here.append(np.repeat(np.arange(start.size), count))
        there.append(np.arange(count.sum()) + np.repeat(first - (np.cumsum(count) - count), count))
    return np.repeat(_lowest_connected(start.size, np.concatenate(here), np.concatenate(there)), stop - start)


def _lowest_connected(size: int, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """For each of the nodes 0 to ``size - 1``, the lowest node that can be reached by the edges between ``a[n]`` and ``b[n]``."""
    lowest = np.arange(size)
    while (lowest[a] != lowest[b]).any():
        both = np.minimum(lowest[a], lowest[b])
        np.minimum.at(lowest, np.concatenate([lowest[a], lowest[b]]), np.concatenate([both, both]))
        while (lowest[lowest] != lowest).any():
            lowest = lowest[lowest]
    return lowest


def _structure(mask: np.ndarray, labels: Mapping[str, int], name: str) -> np.ndarray:
    return mask == labels[name] if name in labels else np.zeros(mask.shape, dtype=bool)


def _check_3d(mask: np.ndarray) -> None:
    if mask.ndim != 3:
        raise ValueError(f"The mask must be 3D, not {mask.ndim}D: give one phase of the heart.")


def _format_slices(slices: np.ndarray) -> str:
    """Slice numbers from 0 as text, counted from 1: "slice 3", "slices 3, 4 and 7"."""
    numbers = [str(number + 1) for number in slices]
    if len(numbers) == 1:
        return _("slice {number}").format(number=numbers[0])
    return _("slices {numbers} and {last}").format(numbers=", ".join(numbers[:-1]), last=numbers[-1])


def _capitalise(name: str) -> str:
    return name[0].upper() + name[1:]
