"""Cines that are known already keep their names, matched by their images, or voxels, whatever else their examination holds."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Hashable, Iterable, Iterator
from contextlib import suppress
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Generic, TypeVar

from prato.dicom.cines.find import FoundCine
from prato.dicom.origin.references import CineReference
from prato.dicom.origin.sidecar import hash_phases
from prato.dicom.reading.files import DicomError
from prato.dicom.reading.pixels import read_pixels

_Image = TypeVar("_Image", bound=Hashable)
#: The patient, the UIDs of the examination and of the instance, as some programs that make images anonymous give those of other
#: examinations, too; and which frame of a multi-frame object, from 1. Or the hashes of the voxels of a whole cine, and 0.
_FolderImage = tuple[str, str, str, int]


class KnownCines(Generic[_Image]):
    """Which studies images are of.

    Args:
        cines: their names and, of each, its images, by whatever tells these apart.
        images_of: the same of a cine that is found.
    """

    def __init__(self, cines: Iterable[tuple[str, Iterable[_Image]]], images_of: Callable[[FoundCine], Iterable[_Image]]) -> None:
        self._images_of = images_of
        self._names: dict[_Image, list[str]] = defaultdict(list)
        self._all_names: set[str] = set()
        for study, images in cines:
            self._all_names.add(study)
            for image in images:
                self._names[image].append(study)

    def keep_names(self, cines: Iterable[FoundCine]) -> list[FoundCine]:
        """``cines``, those of one examination, called as the known ones that they share images with; no two are called the same.

        Another cine of an examination, arrived since, would change its name: what was opened or labelled would be there again, under
        another one.
        """
        found, names = list(cines), list[str | None]()
        for cine in found:
            known = (name for image in self._images_of(cine) for name in self._names.get(image, ()))
            names.append(next((name for name in known if name not in names), None))
        taken = {*self._all_names, *(cine.study for cine in found)}
        for n, cine in enumerate(found):
            if names[n] is None and cine.study in names:  # it lies in its series where a known one lay before
                names[n] = next(free for free in (f"{cine.study}-{number}" for number in count(2)) if free not in taken)
        return [cine if name is None else replace(cine, study=name) for cine, name in zip(found, names)]


def load_known_cines(folder: Path) -> KnownCines[_FolderImage]:
    """The cines of ``folder``, as their sidecars tell of them; those that cannot be read are none."""
    references = list(_references(folder))
    examinations = {(reference.patient, reference.dicom.study_instance_uid) for reference in references if reference.voxels_sha256}

    def images_found(cine: FoundCine) -> Iterator[_FolderImage]:
        frames = cine.cine.frames
        yield from ((cine.patient, frame.study, frame.sop_instance, frame.number + 1) for own in frames for frame in own)
        if (cine.patient, frames[0][0].study) in examinations:  # none has these images: it may be one under other UIDs
            with suppress(DicomError):  # whoever writes it is told
                yield cine.patient, frames[0][0].study, " ".join(hash_phases(read_pixels(frames))), 0

    return KnownCines(((reference.study, _images_in_folder(reference)) for reference in references), images_found)


def find_same_hearts(folder: Path, studies: Collection[str]) -> Iterator[str]:
    """A sentence for each of the ``studies`` of ``folder`` whose voxels are there as another patient's, too.

    So it is where the same examination came from the scanner and, with the issuer of the patient's number, from the PACS.
    """
    found: dict[tuple[str, ...], list[CineReference]] = defaultdict(list)
    for reference in _references(folder) if studies else ():
        if reference.voxels_sha256:
            found[tuple(reference.voxels_sha256)].append(reference)
    for same in found.values():
        for one in same:
            others = [other.study for other in same if other.patient != one.patient]
            if others and f"{one.study}_4d" in studies:
                yield (
                    f"{one.study} holds the same images as {others[0]}, of another patient: remove one of them, or training counts one "
                    "heart as two."
                )


def _references(folder: Path) -> Iterator[CineReference]:
    """Of the cines of ``folder`` with a sidecar that can be read."""
    for path in sorted(folder.glob("*_4d.json")):
        with suppress(DicomError):
            reference = CineReference.load(path)
            if path.name == f"{reference.study}_4d.json":
                yield reference


def _images_in_folder(cine: CineReference) -> set[_FolderImage]:
    images = (image for t in range(cine.phases) for image in cine.images_of_phase(t))
    found = {(cine.patient, cine.dicom.study_instance_uid, uid, number or 1) for _, uid, number in images if uid}
    return found | {(cine.patient, cine.dicom.study_instance_uid, " ".join(cine.voxels_sha256 or ()), 0)}
