"""Masks that were drawn elsewhere, brought into a studies folder as labels, each under the name of its study."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from prato.data.cine import Cine, read_cine
from prato.data.image_files import ENDINGS, NIFTI_ENDINGS, read_mask, split_ending
from prato.data.label_anatomy import judge_anatomy
from prato.data.label_check import check_label, read_label_volume
from prato.data.label_names import LABEL_INFO, ContradictedLabelError, LabelError
from prato.data.label_records import recorded_label_info, recorded_proposal_model
from prato.data.nifti import Volume
from prato.data.stack import slice_axis
from prato.data.studies import OTHER_FORMATS, compose, find_files, require_folder
from prato.labelling.phases import phase_count, phase_of, trusted_phases
from prato.labelling.records import State
from prato.labelling.versions import LabelVersions

#: What exports call one phase of a cine, counted from 1; of ``<name>_4d`` without its ending.
_PHASE = re.compile(r"(.+)_frame(\d+)")
#: What data sets add to the name of an image for its mask, behind it or in front; "sa" of M&Ms and UK Biobank is the short axis.
_BEHIND = re.compile(r"(?i)(?<=[^\W_])[_-](gt|seg|segmentation|label|labels|mask)$")
_IN_FRONT = re.compile(r"(?i)^(gt|seg|segmentation|label|labels|mask)[_-](?=\w)")

_DICOM_ENDINGS = (".dcm", ".ima")
_UNREAD = "its format is not read: save it as .nii.gz, for instance with 3D Slicer"


class FoundMasks(NamedTuple):
    """The masks of a folder.

    Attributes:
        files: by what they are of.
        dicom: what may be DICOM, whose images say what it is of.
        strangers: other files that may be masks, and why they are of no study.
    """

    files: dict[MaskOwner, Path]
    dicom: list[Path]
    strangers: dict[Path, str]


class MaskOwner(NamedTuple):
    """What a file's mask is of: a study, or ``phase`` of a cine alone, from 0."""

    study: str
    phase: int | None = None


def find_images(studies: Path) -> dict[str, Path]:
    """The images of a studies folder, by id.

    Raises:
        ValueError: there is no such folder. LabelError: there are none.
    """
    found = find_files(require_folder(studies)).files
    if not found:
        raise LabelError(f"{studies} has no images: name the studies folder that the masks belong to.")
    return found


def match_masks(masks: Path, studies: Iterable[str]) -> FoundMasks:
    """The masks in ``masks``, or in its sub-folders.

    A mask is named like its study, but for a word such as ``_gt`` or ``label_``; or it is so called and lies in a folder whose name stands
    before it in the study's: ``A0S9V9/sa_ED_gt.nii.gz`` is of ``A0S9V9_sa_ED``. Where no study has that name, ``a_frame08`` is phase 7 of
    ``a_4d`` or of ``a``, as exports have it. Letters with an accent are the same however they are stored: some systems store them as two.

    Raises:
        LabelError: no folder, no masks in it, two of one study or phase, one of a cine beside one of its phases, or frames that are counted
            from 0, so that which phase is meant is open.
    """
    if not masks.is_dir():
        raise LabelError(f"{masks} is not a folder: name one that holds masks.")
    known, found = _Known(studies), dict[MaskOwner, Path]()
    folders = [masks, *sorted(folder for folder in masks.rglob("*") if folder.is_dir())]
    others = [path for path in _files(folders) if split_ending(path.name) is None]
    dicom = dict.fromkeys(filter(_is_dicom, others))
    strangers = {path: _UNREAD for path in others if path not in dicom and path.name.lower().endswith((*OTHER_FORMATS, *ENDINGS))}
    for path in filter(lambda path: split_ending(path.name), _files(folders)):
        plain = (split_ending(path.name) or (path.name, ""))[0]
        # also with letters and accents in one: an accent by itself is no letter that a word may stand behind
        names = [form(own) for own in (plain, compose(plain)) for form in (str, _without_behind, _without_in_front, plain_name)]
        names += [f"{path.parent.name}_{name}" for name in names if path.parent != masks]
        owner = _find_owner(names, known)
        if owner is None:
            strangers[path] = "no study has its name"
        elif owner in found:
            what = owner.study if owner.phase is None else f"phase {owner.phase} of {owner.study}"
            raise LabelError(f"{found[owner]} and {path} are both masks of {what}: keep only one of them in the folder.")
        else:
            found[owner] = path
    for (study, phase), path in found.items():
        if phase == -1:
            raise LabelError(f"{path} is called as if phases counted from 0, but the first is frame01: rename all masks of {study}.")
        if phase is not None and (whole := found.get(MaskOwner(study))):
            raise LabelError(f"{whole} is of all {study}, and {path} of a phase of it: keep only one of them in the folder.")
    if not found and not dicom:
        unread = next((f" ({path.name} is none: {why})" for path, why in sorted(strangers.items()) if why == _UNREAD), "")
        raise LabelError(f"{masks} holds no mask that is named like a study, such as {known.first}_gt.nii.gz{unread}.")
    return FoundMasks(found, list(dicom), strangers)


class _Known:
    """Studies by their names, also by names whose accents are stored in another way, where only one is called so."""

    def __init__(self, studies: Iterable[str]) -> None:
        self._studies = set(studies)
        self.first = min(self._studies)
        composed = Counter(compose(study) for study in self._studies)
        self._composed = {compose(study): study for study in self._studies if composed[compose(study)] == 1}

    def find(self, name: str) -> str | None:
        return name if name in self._studies else self._composed.get(compose(name))


def _find_owner(names: Iterable[str], known: _Known) -> MaskOwner | None:
    for name in names:
        if study := known.find(name):
            return MaskOwner(study)
    for match in filter(None, map(_PHASE.fullmatch, names)):
        for name in (f"{match[1]}_4d", match[1]):
            if study := known.find(name):
                return MaskOwner(study, int(match[2]) - 1)
    return None


def import_mask(
    image: Path, owner: MaskOwner, mask: Path, names: Mapping[str, str] | None, params: dict[str, Any], accept_proposals: bool = False
) -> dict[int, State]:
    """Store the file ``mask`` as the label of its ``owner``, as :func:`store_mask` does.

    Args:
        image: of the study, in the studies folder.
        names: value -> structure; None where nobody has said so: the file has to.

    Raises:
        VolumeError: the image cannot be read.
        LabelError: the image has no such phase, or the mask is of one and its name does not say which; it does not fit its image or these
            names; or as :func:`store_mask`.
        OSError: no space, no permission.
    """
    cine = read_cine(image)
    if mask.name.endswith(NIFTI_ENDINGS):
        label, own_names = read_label_volume(mask, "It"), None
    else:
        label, own_names = read_mask(mask)
    if not (own_names or names):
        raise LabelError("Nothing says what its values mean: name their convention with --convention.")
    voxels = _place_mask(cine, owner, label, own_names or names)
    return store_mask(image, cine.grid(), owner.study, voxels, params, accept_proposals)


def store_mask(
    image: Path, grid: Volume, study: str, voxels: np.ndarray, params: dict[str, Any], accept_proposals: bool = False
) -> dict[int, State]:
    """Store ``voxels`` as the label of ``study``; returns the states of the phases that were stored, none where the label is the same
    already.

    Of a cine's mask, the phases that hold a structure and are not as the label has them already are stored; the label's other phases stay
    as they are. Phases that are still what a model proposed are stored as proposals: nobody has drawn them.

    Args:
        image: of the study, in the studies folder, on ``grid``.
        voxels: checked, of the shape of ``grid`` and with our values.
        params: stored with it.
        accept_proposals: somebody has found the proposals right as they are, so that they count as drawn, too.

    Raises:
        LabelError: it is empty, or holds nothing new but a model's proposal, or cannot be what it says, by where its structures lie.
        OSError: no space, no permission.
    """
    if not voxels.any():
        raise LabelError("It is empty: there is nothing to learn from it.")
    drawn = [number for number in range(phase_count(voxels)) if phase_of(voxels, number).any()]
    for number in drawn:
        anatomy = judge_anatomy(phase_of(voxels, number), slice_axis(grid.array.shape[:3], grid.spacing))
        if anatomy.verdict == "contradicted":
            where = f"in phase {number}, " if phase_count(voxels) > 1 else ""
            raise ContradictedLabelError(f"With these names, {where}{anatomy.sentence}")
    versions = LabelVersions(image.parent, study)
    current = versions.current()
    if current is not None and current.origin != "found":
        stored = versions.read_volume(current.version).array
        trusted = set(trusted_phases(current.phases)) if accept_proposals else set(drawn)
        drawn = [number for number in drawn if number not in trusted or not _is_same(voxels, stored, number)]
    path = find_files(image.parent / "labels" / "original").files.get(study)
    proposal = None if path is None or accept_proposals else _read_proposal(grid, path)
    states: dict[int, State] = {n: "proposed" if _is_same(voxels, proposal, n) else "corrected" for n in drawn}
    if "corrected" in states.values():
        model = recorded_proposal_model(path) if path is not None and "proposed" in states.values() else None
        by = {} if model is None else {"model": model[0], "model_version": model[1]}
        versions.save(grid.with_array(voxels), {**params, **by, "phases": {str(n): s for n, s in states.items()}, "label_info": LABEL_INFO})
        return states
    if states:
        raise LabelError(
            "All that is new in it equals the model's proposal: correct it, or import it with --accept-proposals if it is right."
        )
    return {}


def _place_mask(cine: Cine, owner: MaskOwner, label: Volume, names: Any) -> np.ndarray:
    """``label``, checked, as a mask of all of ``cine``, with our values.

    Raises:
        LabelError: as :func:`import_mask`.
    """
    grid, count = cine.grid(), len(cine)
    if owner.phase is None:
        if count > 1 and label.array.ndim == 3:
            called = f"{owner.study.removesuffix('_4d')}_frame01"
            raise LabelError(f"It is of one phase, and its image has {count}: its name is to say which, as in {called} for the first.")
        return check_label(grid, label, "It", names)
    if count == 1:
        raise LabelError(f"It is called like a phase, and its image has only one: name it like its study, {owner.study}.")
    if owner.phase >= count:
        raise LabelError(f"Its image has {count} phases, of which the last is called frame{count:02d}.")
    voxels = np.zeros(grid.array.shape, np.uint8)
    phase_of(voxels, owner.phase)[...] = check_label(cine.phase(owner.phase), label, "It", names)
    return voxels


def _is_same(mask: np.ndarray, other: np.ndarray | None, number: int) -> bool:
    return other is not None and other.shape == mask.shape and np.array_equal(phase_of(mask, number), phase_of(other, number))


def _read_proposal(grid: Volume, path: Path) -> np.ndarray | None:
    """The proposal in the file ``path``, with our values; None where it does not fit the image, or cannot be read."""
    try:
        return check_label(grid, read_label_volume(path, "It"), "It", recorded_label_info(path))
    except (ValueError, OSError):
        return None


def plain_name(name: str) -> str:
    """``name`` of a mask, without ending, without the word that tells it from its image: ``a_gt`` -> ``a``."""
    return _without_in_front(_without_behind(name))


def _without_behind(name: str) -> str:
    return _BEHIND.sub("", name)


def _without_in_front(name: str) -> str:
    return _IN_FRONT.sub("", name)


def _files(folders: Iterable[Path]) -> Iterator[Path]:
    """What lies in ``folders`` themselves, but for folders and what is hidden; whoever reads a pipe, or a link to nothing, is told."""
    return (
        folder / name
        for folder in folders
        for name in sorted(os.listdir(folder))
        if not name.startswith(".") and not (folder / name).is_dir()
    )


def _is_dicom(path: Path) -> bool:
    """Whether ``path`` is DICOM of any name, or is called so."""
    if path.name.lower().endswith(_DICOM_ENDINGS):
        return True
    try:
        with path.open("rb") if path.is_file() else nullcontext() as file:
            return file is not None and file.read(132)[128:] == b"DICM"
    except OSError:
        return False
