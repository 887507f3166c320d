"""Cines that are already in a folder keep their names, matched by their images, whatever else their examination turns out to hold."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from prato.dicom.cines import FoundCine
from prato.dicom.find import DicomError
from prato.dicom.references import CineReference

#: The UIDs of the examination and of the instance, as some programs that make images anonymous give those of other examinations, too; and
#: which frame of a multi-frame object, from 1.
_Image = tuple[str, str, int]


class KnownCines:
    """The cines of ``folder``, as their sidecars tell of them; those that cannot be read are none."""

    def __init__(self, folder: Path) -> None:
        self._names: dict[_Image, str] = {}
        for path in sorted(folder.glob("*_4d.json")):
            with suppress(DicomError):
                reference = CineReference.load(path)
                if path.name == f"{reference.study}_4d.json":
                    self._names |= dict.fromkeys(_images_of(reference), reference.study)

    def keep_names(self, cines: Iterable[FoundCine]) -> Iterator[FoundCine]:
        """``cines``, called as those of the folder that they share images with, where their patient is called so, too.

        Another cine of an examination, arrived since, would change its name: what is labelled would be there again, under another one.
        """
        taken: set[str] = set()
        for cine in cines:
            images = ((frame.study, frame.sop_instance, frame.number + 1) for own in cine.cine.frames for frame in own)
            known = next((self._names[image] for image in images if image in self._names), "")
            is_same = known.startswith(f"{cine.patient}_") and known not in taken
            kept = replace(cine, study=known) if is_same else cine
            taken.add(kept.study)
            yield kept


def _images_of(reference: CineReference) -> set[_Image]:
    images = (image for t in range(reference.phases) for image in reference.images_of_phase(t))
    return {(reference.dicom.study_instance_uid, uid, number or 1) for _, uid, number in images if uid}
