"""The segmented heartbeats of a studies folder: 4D files with 4D masks, and single frames of one patient together."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from prato.data.cine import Cine, read_cine
from prato.data.label_check import check_label, read_label_volume
from prato.data.label_records import recorded_label_info
from prato.data.nifti import VolumeError
from prato.data.stack import slice_axis, to_stack
from prato.data.studies import Study, find_files, load_manifest, patient_of
from prato.function.ventricles import CardiacFunction, cardiac_function
from prato.labelling.reader import VersionReader
from prato.labelling.records import UNKNOWN, LabelVersionError

#: Where the expert labels of a studies folder lie.
LABELS = Path("labels") / "final"


@dataclass(frozen=True)
class SegmentedHeart:
    """One heart in several phases.

    Attributes:
        name: the study, or the patient whose single frames these are.
        phases: what each is called: its number from 0, or the study that it is.
        images: float or integer (X, Y, Z, T) and masks: uint8, slices along Z, phases that have a mask alone, in order of time.
        spacing: of a voxel, mm.
        times_ms: (T,) after the first phase; None where they are not known.
        source: what the masks are, as a sentence's end: the model's version, or whose labels.
    """

    name: str
    patient: str
    phases: tuple[str, ...]
    images: np.ndarray
    masks: np.ndarray
    spacing: tuple[float, float, float]
    times_ms: np.ndarray | None
    function: CardiacFunction
    source: str


@dataclass
class Found:
    """The hearts of a folder, and a sentence for each study that is left out."""

    hearts: list[SegmentedHeart] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)


def find_hearts(studies: Path, masks: Path | None = None) -> Found:
    """Every heart of the folder ``studies`` that has masks in two phases or more.

    Args:
        masks: a folder of masks, named as their images; None for the labels of ``studies``.

    Raises:
        ManifestError: the folder's manifest cannot be used.
        ValueError: there is no such folder, or it holds no image with a mask.
    """
    for folder in (studies, *([masks] if masks is not None else [])):
        if not folder.is_dir():
            raise ValueError(f"{folder} is no folder: give a folder of NIfTI files.")
    manifest = load_manifest(studies)
    images, drawn = find_files(studies).files, find_files(masks or studies / LABELS).files
    known = {name: Study(patient=patient_of(name, manifest)) for name in drawn if name in images}
    if manifest is not None:
        known |= {name: manifest.studies[name] for name in known if name in manifest.studies}
    if not known:
        raise ValueError(f"{masks or studies / LABELS} has no mask of an image of {studies}: masks are named as their images.")
    found = Found()
    frames: dict[str, list[tuple[str, Study, Cine, np.ndarray, str]]] = {}
    for name, study in sorted(known.items(), key=lambda item: (item[1].patient, item[1].frame or 0, item[0])):
        try:
            cine = read_cine(images[name])
            label = _read_masks(drawn[name], cine)
        except VolumeError as error:
            found.left_out.append(f"{name} is left out: {error}")
            continue
        version = "masks of " + masks.name if masks is not None else _version(studies, name)
        if len(cine) > 1:
            _add(found, name, study, [(str(t), cine.phase(t).array, label[..., t], None) for t in range(len(cine))], cine, version)
        else:
            frames.setdefault(study.patient, []).append((name, study, cine, label[..., 0], version))
    for patient, own in frames.items():
        phases = [(name, cine.phase(0).array, label, study.phase) for name, study, cine, label, _ in own]
        _add(found, patient, own[0][1], phases, own[0][2], own[0][4])
    return found


def _add(
    found: Found, name: str, study: Study, phases: Sequence[tuple[str, np.ndarray, np.ndarray, str | None]], cine: Cine, source: str
) -> None:
    """Put the heart whose ``phases`` (name, image, mask, "ED" or "ES") these are into ``found``; those without a mask are passed over."""
    drawn = [n for n, (_, _, mask, _) in enumerate(phases) if mask.any()]
    shapes = {phases[n][2].shape for n in drawn}
    if len(drawn) < 2 or len(shapes) > 1:
        fault = "its frames differ in size" if len(shapes) > 1 else "fewer than two of its phases have a mask"
        found.left_out.append(f"{name} is left out: {fault}, and function takes two phases of one grid.")
        return
    grid = cine.phase(0)
    axis = slice_axis(grid.array.shape, grid.spacing)
    order = [*(a for a in range(3) if a != axis), axis]
    images = np.stack([to_stack(phases[n][1], axis) for n in drawn], -1)
    masks = np.stack([to_stack(phases[n][2], axis) for n in drawn], -1)
    marks = {mark: among for among, n in enumerate(drawn) if (mark := phases[n][3])}
    chosen = (marks["ED"], marks["ES"]) if {"ED", "ES"} <= marks.keys() else None
    spacing = tuple(grid.spacing[a] for a in order)
    function = cardiac_function(
        masks, (spacing[0], spacing[1], spacing[2]), phases=chosen, height_cm=study.height_cm, weight_kg=study.weight_kg
    )
    if function is None:
        found.left_out.append(f"{name} is left out: no phase of it differs from another.")
        return
    times = None if cine.times_ms is None or len(cine) == 1 else cine.times_ms[drawn]
    names = tuple(phases[n][0] for n in drawn)
    found.hearts.append(
        SegmentedHeart(name, study.patient, names, images, masks, (spacing[0], spacing[1], spacing[2]), times, function, source)
    )


def _read_masks(path: Path, cine: Cine) -> np.ndarray:
    """uint8 (X, Y, Z, T), checked."""
    name = f"The mask {path.name}"
    mask = check_label(cine.grid(), read_label_volume(path, name), name, recorded_label_info(path))
    return mask if mask.ndim == 4 else mask[..., None]


def _version(studies: Path, name: str) -> str:
    try:
        version = VersionReader(studies, name).current()
    except LabelVersionError:
        version = None
    if version is None:
        return "labels"
    model = " ".join(str(version.params[key]) for key in ("model", "model_version") if version.params.get(key))
    whose = "" if version.annotator == UNKNOWN else f" of {version.annotator}"
    return f"label version {version.version}{whose}{f', from {model}' if model else ''}"


def table_rows(hearts: Iterable[SegmentedHeart]) -> list[dict[str, object]]:
    """A row for each heart: which, its phases of end-diastole and end-systole by name, its function, and what makes that doubtful."""
    rows: list[dict[str, object]] = []
    for heart in hearts:
        values = heart.function.to_dict()
        ed, es = heart.phases[values.pop("ed")], heart.phases[values.pop("es")]
        about = {"study": heart.name, "patient": heart.patient, "phases": len(heart.phases), "ed": ed, "es": es}
        rows.append({**about, **values, "warnings": " ".join(values["warnings"]), "masks": heart.source})
    return rows
