"""Labels that other programs have stored as DICOM, found their study by the images that they were drawn on."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pydicom
from pydicom.dataset import Dataset
from pydicom.uid import UID

from prato.data.cine import read_cine, read_cine_head
from prato.data.labels.check import check_label
from prato.data.labels.names import LabelError, UnknownNameError
from prato.data.nifti import Volume, VolumeError
from prato.dicom.labels.contour_reader import STRUCTURE_SET, read_contours
from prato.dicom.labels.drawings import Drawing, place
from prato.dicom.labels.labelled_cines import check_image, find_sidecar
from prato.dicom.labels.masks import DicomMask, compress, decompress, join_masks
from prato.dicom.labels.segmentation_reader import SEGMENTATION_CLASSES, read_segmentation
from prato.dicom.origin.references import CineReference
from prato.dicom.reading.files import DicomError, SourceFile
from prato.dicom.reading.headers import read_header, without_warnings
from prato.labelling.importing import ask_for_names, store_mask
from prato.labelling.mask_files import MaskOwner
from prato.labelling.phases import phase_of
from prato.labelling.records import State

#: By SOP class, what reads an object in which structures are drawn.
_READERS: Mapping[str, Callable[[Dataset, Mapping[str, str]], Drawing]] = {
    **dict.fromkeys(SEGMENTATION_CLASSES, read_segmentation),
    STRUCTURE_SET: read_contours,
}
#: Objects that hold structures, too, and are not read: surfaces, and maps of values.
_NOT_READ = ("1.2.840.10008.5.1.4.1.1.66.5", "1.2.840.10008.5.1.4.1.1.30")
#: What exports call one phase of a cine, counted from 1.
_PHASE = re.compile(r"_frame(\d+)(?!\d)")


@dataclass
class FoundDicomMasks:
    """What DICOM files hold.

    Attributes:
        masks: at most one of each phase of a study.
        left_out: files, or what they hold of some studies, each with the reason. replaced: files, by what takes their place.
        others: how many files hold no labels, such as images.
    """

    masks: list[DicomMask] = field(default_factory=list)
    left_out: list[tuple[Path, str]] = field(default_factory=list)
    replaced: dict[Path, Path] = field(default_factory=dict)
    others: int = 0


class _Cine(NamedTuple):
    """A cine and, by phase of it that is a study of its own, or under None for all phases, the studies that it is."""

    reference: CineReference
    studies: dict[int | None, str]


def find_dicom_masks(
    paths: Iterable[Path],
    folder: Path,
    images: Mapping[str, Path],
    files: Mapping[MaskOwner, Path],
    renamed: Mapping[str, str],
) -> FoundDicomMasks:
    """What ``paths``, which may be DICOM, hold of the studies in ``folder``; nothing is written.

    Args:
        images: of the studies, by their ids. files: other masks that are to be imported, which may be of the same phases.
        renamed: names of structures by names of segments that are none.
    """
    cines, found, uids = _Cines(folder, images), FoundDicomMasks(), dict[Path, tuple[str, str | None]]()
    for path in paths:
        try:
            drawing = _read_drawing(path, renamed)
            if drawing is None:
                found.others += 1
                continue
            found.masks += cines.masks_of(path, drawing, found)
            uids[path] = drawing.uid, drawing.predecessor
        except UnknownNameError as error:
            found.left_out.append((path, str(ask_for_names(error))))
        except (VolumeError, DicomError) as error:
            found.left_out.append((path, str(error)))
    replacing = {predecessor: path for path, (_, predecessor) in uids.items() if predecessor}
    found.replaced = {path: replacing[uid] for path, (uid, _) in uids.items() if uid in replacing}
    found.masks, left_out = join_masks([mask for mask in found.masks if mask.paths[0] not in found.replaced], files)
    found.left_out += left_out
    return found


def import_dicom_mask(image: Path, mask: DicomMask, params: dict[str, Any], accept_proposals: bool) -> dict[int, State]:
    """Store ``mask`` as the label of its study, as ``prato.labelling.importing.store_mask`` does; ``image`` is the study's.

    Raises:
        VolumeError, LabelError, OSError: as there.
    """
    grid = read_cine(image).grid()
    return store_mask(image, grid, mask.study, _voxels_of(mask, grid), params, accept_proposals)


def read_dicom_mask(path: Path, image: Path, study: str) -> tuple[Volume, list[int]]:
    """The DICOM object ``path``, drawn on ``image``, which is that of ``study``: as a mask of all of its phases, and those that it is of.

    Raises:
        LabelError: it cannot be used.
        VolumeError: nor can the image.
    """
    drawing = _read_drawing(path, {})
    if drawing is None:
        raise LabelError("Nothing is drawn in it: send a DICOM SEG.")
    try:
        [mask] = _Cines(image.parent, {study: image}).masks_of(path, drawing, FoundDicomMasks())
    except DicomError as error:
        raise LabelError(str(error)) from error
    grid = read_cine(image).grid()
    return grid.with_array(_voxels_of(mask, grid)), sorted(mask.phases)


def _voxels_of(mask: DicomMask, grid: Volume) -> np.ndarray:
    voxels = np.zeros(grid.array.shape, np.uint8, order="F")
    for number, data in mask.phases.items():
        phase = phase_of(voxels, number)
        phase[...] = decompress(data).reshape(phase.shape)
    return voxels


def _read_drawing(path: Path, renamed: Mapping[str, str]) -> Drawing | None:
    """What was drawn in the DICOM object ``path``; None for one in which nothing is drawn, as images and reports are.

    Raises:
        LabelError: it cannot be read, or what was drawn in it is not.
    """
    if not path.is_file():
        raise LabelError("It is a folder or a device, not a file.")
    file = SourceFile(path.name, lambda: path.open("rb"))
    try:
        header = read_header(file)
        if header is None:
            raise LabelError("It is called like DICOM, and is none, or damaged: copy or export it again.")
        kind = str(header.get("SOPClassUID", "") or header.file_meta.get("MediaStorageSOPClassUID", ""))
        if kind in _NOT_READ or not kind:
            name = UID(kind).name if kind else "DICOM of no known kind"
            raise LabelError(f"It is {name}, which is not read: save it as DICOM SEG, or as .nii.gz.")
        if kind not in _READERS:
            return None
        with file.open() as stream, without_warnings():
            return _READERS[kind](pydicom.dcmread(stream, force=True), renamed)
    except (LabelError, DicomError):
        raise
    except Exception as error:  # pydicom raises whatever a damaged file leads it to
        if isinstance(error, OSError) and error.strerror:
            raise LabelError(f"It cannot be read ({error.strerror}).") from error
        raise LabelError("It is cut short or damaged: copy or export it again.") from error


class _Cines:
    """The cines of a studies folder that were imported from DICOM."""

    def __init__(self, folder: Path, images: Mapping[str, Path]) -> None:
        self._images, self._checked = images, set[str]()
        found: dict[Path, _Cine] = {}
        for study in sorted(images):
            sidecar = find_sidecar(folder, study)
            if sidecar is not None:
                path, t = sidecar
                with suppress(DicomError):  # who exports is told; a label of it finds no study
                    cine = found.setdefault(path, _Cine(CineReference.load(path), {}))
                    cine.studies[t] = study
        self._cines = list(found.values())
        self._of_uid: dict[str, list[int]] = defaultdict(list)
        for n, cine in enumerate(self._cines):
            for uid in cine.reference.instance_uids():
                self._of_uid[uid].append(n)

    def masks_of(self, path: Path, drawing: Drawing, found: FoundDicomMasks) -> list[DicomMask]:
        """The masks that ``drawing``, from the file ``path``, holds; what it holds of phases that are no studies is left out.

        Raises:
            VolumeError, DicomError: it cannot be used.
        """
        cine = self._find(drawing)
        match = _PHASE.search(path.name)
        by_study: dict[str, dict[int, bytes]] = defaultdict(dict)
        missing, filled = list[str](), set[int]()
        for t, numbers in place(drawing, cine.reference, int(match[1]) - 1 if match else None):
            study = cine.studies.get(None, cine.studies.get(t))
            if study is None:
                missing.append(f"{cine.reference.study}_frame{t + 1:02d}")
                continue
            grid = read_cine_head(self._images[study]).grid()
            is_whole = None in cine.studies
            try:
                self._check_image(study, cine.reference, None if is_whole else t)
            except DicomError as error:
                raise LabelError(f"The image of {study} is not the one that it was drawn on: {error}.") from error
            one = replace(grid, array=phase_of(grid.array, 0))
            mask = check_label(one, one.with_array(numbers), "It", {str(n): drawing.names[n] for n in np.unique(numbers).tolist() if n})
            number = t if is_whole else 0
            by_study[study][number] = compress(mask)
            if drawing.lacks_cavity(numbers):
                filled.add(number)
        if missing:
            others = (
                f" and on {len(missing) - 1} more phases, which are no studies here" if len(missing) > 1 else ", which is no study here"
            )
            found.left_out.append((path, f"It was {'also ' if by_study else ''}drawn on {missing[0]}{others}."))
        about = drawing.is_automatic, drawing.may_overlap
        return [DicomMask((path,), study, phases, *about, filled & {*phases}) for study, phases in by_study.items()]

    def _check_image(self, study: str, cine: CineReference, t: int | None) -> None:
        """As ``check_image``, of the image of ``study``: once, however much was drawn on it."""
        if study not in self._checked:
            check_image(cine, read_cine(self._images[study]), t)
            self._checked.add(study)

    def _find(self, drawing: Drawing) -> _Cine:
        """The cine that ``drawing`` is of.

        Raises:
            LabelError: there is none, or several.
        """
        drawn_on = {uid for part in drawing.parts for uid, _ in part.images}
        found = self._with_images(drawn_on) or self._with_images({uid for uid, _ in drawing.images})
        if not found and not drawing.all_images():
            found = [cine for cine in self._cines if drawing.series & {*cine.reference.dicom.series_instance_uids}]
            if not drawing.series:
                found = [cine for cine in self._cines if _is_in_space_of(drawing, cine.reference)]
        if len(found) > 1:
            names = " and of ".join(cine.reference.study for cine in found[:2])
            raise LabelError(f"It is of {names} at once: save a segmentation of each.")
        if not found:
            raise LabelError(self._why_of_none(drawing))
        return found[0]

    def _with_images(self, uids: Iterable[str]) -> list[_Cine]:
        return [self._cines[n] for n in sorted({n for uid in uids for n in self._of_uid.get(uid, ())})]

    def _why_of_none(self, drawing: Drawing) -> str:
        known = next((cine.reference for cine in self._cines if cine.reference.dicom.study_instance_uid == drawing.study), None)
        if known is not None:
            return f"It was drawn on other images of its examination than those of the cine {known.study}, which is here."
        if not self._cines:
            return "No study here was imported from DICOM, so that its images are not known: import them with import_dicom.py."
        return "It was drawn on images of no study here: import its examination with import_dicom.py first."


def _is_in_space_of(drawing: Drawing, cine: CineReference) -> bool:
    origin = cine.dicom
    theirs = origin.study_instance_uid, origin.frame_of_reference_uid
    return all(theirs) and theirs == (drawing.study, drawing.frame_of_reference)
