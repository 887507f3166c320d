"""The masks of a folder, found their studies by the names of the files."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import NamedTuple

from prato.data.image_files import ENDINGS, split_ending
from prato.data.labels.names import LabelError
from prato.data.studies.folder import OTHER_FORMATS, compose, find_files, require_folder

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
        return True  # whoever reads it is told why it cannot be
