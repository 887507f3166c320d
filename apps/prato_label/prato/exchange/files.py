"""A plain folder of images with masks beside them, in NIfTI, NRRD or MetaImage: ``a.nrrd``, ``a_gt.nrrd``, ``b.mha``, ``b.seg.nrrd``."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path

import numpy as np

from prato.data.image_files import split_ending, write_exact
from prato.data.studies.folder import Study, is_study_id, patient_of
from prato.exchange.cases import Case, FolderError, Reader, read_case
from prato.exchange.final_labels import FinalLabels
from prato.exchange.layouts import Convention, Phases, register_layout
from prato.labelling.mask_files import plain_name


class Files:
    """A folder of single files; ``ending`` is that of what is written."""

    name = "files"

    def __init__(self, ending: str) -> None:
        self.ending = ending
        self.about = f"images and masks in one folder: a{ending}, a_gt{ending}, …"

    def find(self, source: Path, convention: Convention, phases: Phases) -> list[Reader]:
        """A reader for each image: masks are files called like an image, but for a word such as ``_gt``, or its ``.seg.nrrd``."""
        if phases != "ed,es":
            raise FolderError(["Single files have no phases: leave --phases out."])
        if not source.is_dir():
            raise FolderError([f"{source} is not a folder."])
        files = {
            path: parts
            for path in sorted(source.iterdir())
            if path.is_file() and path.name[0] != "." and (parts := split_ending(path.name))
        }
        names = {plain for plain, ending in files.values() if ending != ".seg.nrrd"}
        images, masks, faults = dict[str, Path](), dict[str, Path](), []
        for path, (plain, ending) in files.items():
            owner = plain if ending == ".seg.nrrd" else plain_name(plain)
            is_mask = ending == ".seg.nrrd" or (owner != plain and owner in names)
            kind, key = (masks, plain_name(owner) if owner not in names else owner) if is_mask else (images, plain)
            if key in kind:
                faults.append(
                    f"{kind[key].name} and {path.name} would be the same {'mask' if is_mask else 'study'}: keep only one of them."
                )
            kind[key] = path
        faults += [
            f"{path.name} would become the study {id!a:.80}: its name must be printable text without slashes."
            for id, path in images.items()
            if not is_study_id(id)
        ]
        faults += [f"{path.name} is a mask, and there is no image called {name}." for name, path in masks.items() if name not in images]
        if faults or not images:
            raise FolderError(faults or [f"{source} holds no image: .nii.gz, .nii, .nrrd and .mha are read."])

        def read(id: str) -> Iterator[Case]:
            yield read_case(id, Study(patient=patient_of(id, None)), source, images[id], masks.get(id), convention)

        return [partial(read, id) for id in images]

    def write(self, labels: FinalLabels, studies: Iterable[str], target: Path, values: np.ndarray) -> list[str]:
        """Image and mask of each study beside one another."""
        written = []
        for study in studies:
            final = labels.read(study)
            write_exact(target / f"{study}{self.ending}", final.image.array, final.image.affine)
            write_exact(target / f"{study}_gt{self.ending}", values[final.label], final.image.affine)
            written.append(study)
        return written


register_layout("files", Files(".nii.gz"))
register_layout("nrrd", Files(".nrrd"))
register_layout("mha", Files(".mha"))
