"""The final labels of a studies folder, as other programs should get them: checked as for training."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from prato.data.cases import StudyReader, untold_numbering
from prato.data.cine import Cine, read_cine, read_cine_head
from prato.data.image_files import read_exact
from prato.data.labels.names import ContradictedLabelError
from prato.data.nifti import Volume, VolumeError
from prato.data.studies.ed_es import named_ed_es
from prato.data.studies.folder import Study, StudyFile, find_labelled_studies, load_manifest
from prato.data.studies.label_records import recorded_image_info
from prato.exchange.cases import FolderError
from prato.labelling.trusted import find_trusted_phases

#: Wraps the studies that are gone through, with a word for what is being done, as a progress bar does.
Progress = Callable[[Sequence[str], str], Iterable[str]]


@dataclass(frozen=True)
class FinalLabel:
    """A study with its final label: ``image`` as stored, ``label`` uint8 (X, Y, Z) on its grid, the values of ``prato.data.structures``."""

    image: Volume
    label: np.ndarray


@dataclass
class FinalLabels:
    """The final labels of the folder ``folder``, each phase of a cine as a case of its own.

    Attributes:
        files: of each case, by name: a study's, or ``<cine>_frame01`` for the first phase of ``<cine>_4d``.
        about: what each case is. cines: what the study is that a phase is of, by study.
        left_out: why labels are not exported, by case or study.

    Raises:
        FolderError: the folder has no final labels, or its manifest cannot be used.
    """

    folder: Path
    files: dict[str, StudyFile] = field(init=False, default_factory=dict)
    about: dict[str, Study] = field(init=False, default_factory=dict)
    cines: dict[str, Study] = field(init=False, default_factory=dict)
    left_out: dict[str, str] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        try:
            manifest = load_manifest(self.folder)
            labelled = find_labelled_studies(self.folder)
        except ValueError as error:
            raise FolderError([str(error)]) from error
        trusted, self.left_out = find_trusted_phases(labelled)
        if not trusted:
            reasons = [*self.left_out.values()]
            words = f"{self.folder} has no final labels: name a studies folder, whose labels lie in its folder labels/final."
            raise FolderError(reasons or [words])
        known = manifest.studies if manifest is not None else {}
        self._cine: tuple[Path, Cine] | None = None
        self._reader = StudyReader()
        for file in sorted(trusted, key=lambda file: file.phase is None):  # of a phase that is labelled twice, the cine's label counts
            study = self.cines.get(file.study) or known.get(file.study, Study(patient=file.patient))
            if file.phase is not None and file.study not in self.cines:
                study = self._with_named_phases(file, study)
            name, about = (file.study, study) if file.phase is None else _describe_phase(file.study, study, file.phase)
            if name in self.files:
                self.left_out[f"{name} (the volume)"] = f"{self.files[name].study} has a label of the same phase."
                continue
            self.files[name], self.about[name], self.cines[file.study] = file, about, study
        self.files = dict(sorted(self.files.items()))

    def _with_named_phases(self, file: StudyFile, study: Study) -> Study:
        """``study``, a cine, with end-diastole and end-systole as somebody marked them in the folder, or as its manifest names them."""
        named = named_ed_es(recorded_image_info(self.folder, file.study), study, read_cine_head(file.image).phases)
        return study.model_copy(update={"ed": named.ed if named else None, "es": named.es if named else None})

    def usable(self, progress: Progress) -> list[str]:
        """The cases whose labels can be used, in order; ``left_out`` then says why others cannot."""
        sources, contradicted = dict[str, str](), False
        for name in progress(list(self.files), "checking"):
            try:
                checked = self._reader.read(self.files[name])[1]
            except VolumeError as error:
                self.left_out[name] = str(error)
                contradicted |= isinstance(error, ContradictedLabelError)
                continue
            if checked.mask.any():
                sources[name] = checked.source
            else:
                self.left_out[name] = f"The label for {name} is empty."
        self.left_out.update(untold_numbering(sources, contradicted))
        return [name for name in sources if name not in self.left_out]

    def read(self, name: str) -> FinalLabel:
        """One of them.

        Raises:
            VolumeError: it cannot be used.
        """
        file = self.files[name]
        volume, checked = self._reader.read(file)
        if file.phase is None:
            return FinalLabel(read_exact(file.image), checked.mask)
        array = np.asanyarray(self.read_cine(file).image.dataobj[..., file.phase])
        return FinalLabel(replace(volume, array=array.astype(array.dtype.newbyteorder("="), copy=False)), checked.mask)

    def read_cine(self, file: StudyFile) -> Cine:
        """The image of ``file``; of several phases one after another it is read once.

        Raises:
            VolumeError: it cannot be used.
        """
        if self._cine is None or self._cine[0] != file.image:
            self._cine = file.image, read_cine(file.image)
        return self._cine[1]


def _describe_phase(id: str, study: Study, number: int) -> tuple[str, Study]:
    """The name of a phase, from 0, and what it is."""
    phase = "ED" if number == study.ed else "ES" if number == study.es else None
    about = study.model_copy(update={"frame": number + 1, "phase": phase, "ed": None, "es": None})
    return f"{id.removesuffix('_4d')}_frame{number + 1:02d}", about
