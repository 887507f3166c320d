"""The final labels of a studies folder, as other programs should get them: checked as for training."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from prato.data.cases import read_label_file, untold_numbering
from prato.data.image_files import read_exact
from prato.data.label_names import ContradictedLabelError
from prato.data.nifti import Volume, VolumeError
from prato.data.studies import ManifestError, Study, StudyFile, find_labelled_studies, load_manifest
from prato.exchange.cases import FolderError

#: Wraps the studies that are gone through, with a word for what is being done, as a progress bar does.
Progress = Callable[[Sequence[str], str], Iterable[str]]


@dataclass(frozen=True)
class FinalLabel:
    """A study with its final label: ``image`` as stored, ``label`` uint8 (X, Y, Z) on its grid, the values of ``prato.data.structures``."""

    image: Volume
    label: np.ndarray


@dataclass
class FinalLabels:
    """The final labels of the folder ``folder``.

    Attributes:
        files: of each study with a label. about: what each of them is.
        left_out: why labels are not exported, by study.

    Raises:
        FolderError: the folder has no final labels, or its manifest cannot be used.
    """

    folder: Path
    files: dict[str, StudyFile] = field(init=False)
    about: dict[str, Study] = field(init=False)
    left_out: dict[str, str] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        try:
            manifest = load_manifest(self.folder)
        except ManifestError as error:
            raise FolderError([str(error)]) from error
        self.files = {file.study: file for file in find_labelled_studies(self.folder)}
        if not self.files:
            raise FolderError([f"{self.folder} has no final labels: name a studies folder, whose labels lie in its folder labels/final."])
        known = manifest.studies if manifest is not None else {}
        self.about = {study: known.get(study, Study(patient=file.patient)) for study, file in self.files.items()}

    def usable(self, progress: Progress) -> list[str]:
        """The studies whose labels can be used, in order; ``left_out`` then says why others cannot."""
        sources, contradicted = dict[str, str](), False
        for study in progress(list(self.files), "checking"):
            file = self.files[study]
            try:
                checked = read_label_file(file.label, read_exact(file.image))
            except VolumeError as error:
                self.left_out[study] = str(error)
                contradicted |= isinstance(error, ContradictedLabelError)
                continue
            if checked.mask.any():
                sources[study] = checked.source
            else:
                self.left_out[study] = f"The label for {study} is empty."
        self.left_out.update(untold_numbering(sources, contradicted))
        return [study for study in sources if study not in self.left_out]

    def read(self, study: str) -> FinalLabel:
        """One of them.

        Raises:
            VolumeError: it cannot be used.
        """
        file = self.files[study]
        image = read_exact(file.image)
        return FinalLabel(image, read_label_file(file.label, image).mask)
