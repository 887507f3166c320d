"""The segmented heartbeats of a studies folder: 4D files with 4D masks, and single frames of one examination together."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from prato.data.cine import Cine, read_cine
from prato.data.labels.check import check_label, read_label_volume
from prato.data.nifti import VolumeError
from prato.data.studies.ed_es import NamedPhases, named_ed_es
from prato.data.studies.folder import Study, examination_of, find_files, load_manifest, patient_of
from prato.data.studies.label_records import recorded_image_info, recorded_label_info
from prato.data.view import radiological_view
from prato.function.measured import Heart, NoFunctionError
from prato.function.sources import MaskSource, folder_source, join_sources, label_sources
from prato.function.ventricles import CardiacFunction

#: Where the expert labels of a studies folder lie.
LABELS = Path("labels") / "final"
#: Voxels of frames on one grid differ by no more than this share along an edge, by rounding.
_SAME_SIZE = 1e-3


@dataclass(frozen=True)
class SegmentedHeart:
    """One heart in several phases.

    Attributes:
        name: the study, or the examination whose single frames these are.
        phases: what each is called: its number from 0, or the study that it is.
        images: float or integer (rows, columns, slices, T), as radiologists look at patients, and masks: uint8; phases that have a mask
            alone, in order of time.
        spacing: of a voxel, mm, along rows (from one to the next), columns and slices.
        times_ms: (T,) after the first phase; None where they are not known.
        ed_es_source: who says which phases are end-diastole and end-systole, as a sentence's end.
        source: what the masks are, as a sentence's end: the model's version, or whose labels; which phases are proposals.
    """

    name: str
    patient: str
    phases: tuple[str, ...]
    images: np.ndarray
    masks: np.ndarray
    spacing: tuple[float, float, float]
    times_ms: np.ndarray | None
    function: CardiacFunction
    ed_es_source: str
    source: str


@dataclass
class Found:
    """The hearts of a folder, and a sentence for each study that is left out."""

    hearts: list[SegmentedHeart] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)


def find_hearts(studies: Path, masks: Path | None = None) -> Found:
    """Every heart of the folder ``studies`` that has masks in two phases or more.

    Args:
        masks: a folder of masks, named as their images; None for the labels of ``studies``, of which proposals count only where fewer
            than two phases are corrected or final.

    Raises:
        ManifestError: the folder's manifest cannot be used.
        ValueError: there is no such folder, or it holds no image with a mask.
    """
    for folder in (studies, *([masks] if masks is not None else [])):
        if not folder.is_dir():
            raise ValueError(f"{folder} is not a folder: give a folder of NIfTI files.")
    if masks is not None and masks.resolve() == (studies / LABELS).resolve():
        masks = None  # whose each of them is, is known
    manifest = load_manifest(studies)
    images, drawn = find_files(studies).files, find_files(masks or studies / LABELS).files
    known = {name: Study(patient=patient_of(name, manifest)) for name in drawn if name in images}
    if manifest is not None:
        known |= {name: manifest.studies[name] for name in known if name in manifest.studies}
    if not known:
        raise ValueError(f"{masks or studies / LABELS} has no mask of an image of {studies}: masks must be named like their images.")
    found = Found()
    frames: dict[tuple[str, str], list[_Frame]] = {}
    for name, study in sorted(known.items(), key=lambda item: (item[1].patient, item[1].frame or 0, item[0])):
        try:
            cine = read_cine(images[name])
            label = _read_masks(drawn[name], cine)
        except VolumeError as error:
            found.left_out.append(f"{name} is left out: {error}")
            continue
        count = len(cine)
        sources = label_sources(studies, name, count) if masks is None else [folder_source(drawn[name])] * count
        if count > 1:
            phases = [_phase(str(t), cine, t, label, sources[t]) for t in range(count)]
            _add(found, name, study, phases, cine, named_ed_es(recorded_image_info(studies, name), study, count))
        else:
            frame = _Frame(study, cine, _phase(name, cine, 0, label, sources[0]))
            frames.setdefault((study.patient, examination_of(name, study.patient)), []).append(frame)
    for (_, examination), own in frames.items():
        spacings = np.array([_spacing(frame.cine) for frame in own])
        if (np.ptp(spacings, 0) > _SAME_SIZE * spacings.min(0)).any():
            found.left_out.append(f"{examination} is left out: its frames differ in voxel size, and function needs phases on one grid.")
            continue
        marks = {frame.study.phase: n for n, frame in enumerate(own)}
        is_guess = any(frame.study.guessed for frame in own)
        named = NamedPhases.of_manifest(marks["ED"], marks["ES"], is_guess) if {"ED", "ES"} <= marks.keys() else None
        _add(found, examination, own[0].study, [frame.phase for frame in own], own[0].cine, named)
    return found


@dataclass(frozen=True)
class _Phase:
    """What may be measured of one phase: what it is called, its image and mask, (rows, columns, slices), as radiologists look at patients,
    where the mask comes from, and what was repaired of the image.
    """

    name: str
    image: np.ndarray
    mask: np.ndarray
    source: MaskSource
    warnings: tuple[str, ...]


def _phase(name: str, cine: Cine, t: int, label: np.ndarray, source: MaskSource) -> _Phase:
    image = cine.phase(t)
    view = radiological_view(image)  # its own: frames of one examination need not be stored alike
    return _Phase(name, view.apply(image.array), view.apply(label[..., t]), source, image.warnings)


def _spacing(cine: Cine) -> tuple[float, float, float]:
    """Of a voxel, mm along rows, columns and slices."""
    grid = cine.grid()
    rows, columns, slices = radiological_view(grid).axes
    return grid.spacing[rows], grid.spacing[columns], grid.spacing[slices]


@dataclass(frozen=True)
class _Frame:
    """A study of one phase."""

    study: Study
    cine: Cine
    phase: _Phase


def _add(found: Found, name: str, study: Study, phases: Sequence[_Phase], cine: Cine, named: NamedPhases | None) -> None:
    """Put the heart whose ``phases`` these are into ``found``.

    Args:
        named: end-diastole and end-systole, where somebody has named them, among ``phases``.
    """
    heart = Heart(
        {n: phase.mask for n, phase in enumerate(phases)},
        _spacing(cine),
        () if named is None else (named,),
        count=len(cine) if len(cine) > 1 else None,
        names=None if len(cine) > 1 else [phase.name for phase in phases],
        height_cm=study.height_cm,
        weight_kg=study.weight_kg,
        image_warnings={warning for phase in phases for warning in phase.warnings},
    )
    try:
        measured = heart.measure(trusted={n for n, phase in enumerate(phases) if phase.source.is_trusted})
    except NoFunctionError as error:
        found.left_out.append(f"{name} is left out: {error}.")
        return
    drawn, function = measured.phases, measured.function
    images = np.stack([phases[n].image for n in drawn], -1)
    masks = np.stack([phases[n].mask for n in drawn], -1)
    function = replace(function, ed=drawn.index(function.ed), es=drawn.index(function.es))
    times = None if cine.times_ms is None or len(cine) == 1 else cine.times_ms[list(drawn)]
    names = tuple(phases[n].name for n in drawn)
    source = join_sources((phases[n].name, phases[n].source) for n in drawn)
    found.hearts.append(SegmentedHeart(name, study.patient, names, images, masks, heart.spacing, times, function, measured.told_by, source))


def _read_masks(path: Path, cine: Cine) -> np.ndarray:
    """uint8 (X, Y, Z, T), checked."""
    name = f"The mask {path.name}"
    mask = check_label(cine.grid(), read_label_volume(path, name), name, recorded_label_info(path))
    return mask if mask.ndim == 4 else mask[..., None]


def table_rows(hearts: Iterable[SegmentedHeart]) -> list[dict[str, object]]:
    """A row for each heart: which, its phases of end-diastole and end-systole, of a cine by number and else by name, its function, and what
    makes that doubtful.
    """
    rows: list[dict[str, object]] = []
    for heart in hearts:
        values = heart.function.to_dict()
        names = [heart.phases[values.pop(key)] for key in ("ed", "es")]
        ed, es = (int(name) if name.isdecimal() else name for name in names)
        about = {"study": heart.name, "patient": heart.patient, "phases": len(heart.phases), "ed": ed, "es": es}
        about["ed_es_source"] = heart.ed_es_source
        rows.append({**about, **values, "warnings": " ".join(values["warnings"]), "masks": heart.source})
    return rows
