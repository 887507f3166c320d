"""A studies folder that was imported from DICOM, and a folder of DICOM labels beside it."""

from __future__ import annotations

import copy
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
from pydicom.dataset import Dataset, FileDataset

from prato.dicom.importer import import_dicom
from prato.labelling.versions import LabelVersions
from scripts import labels
from tests.prato.dicom.scans import Scan, save, to_bytes
from tests.scripts.cli import run_script

SCAN = Scan(slices=4, phases=6)
SHAPE = (SCAN.columns, SCAN.rows, SCAN.slices)
LAYOUTS: dict[str, Callable[[], list[FileDataset]]] = {
    "one series": SCAN.images,
    "one series a slice": SCAN.one_series_a_slice,
    "enhanced": lambda: [SCAN.enhanced()],
}
#: How a progress bar ends, in files a second or seconds a file.
_PROGRESS = re.compile(r"(\w+/s|s/\w+)\]")


class Folders:
    """A studies folder with a cine, its single phases, and a folder of DICOM labels."""

    def __init__(self, folder: Path, images: list[FileDataset]) -> None:
        [cine] = import_dicom(save(folder / "in", images), folder / "cines", phases="all").imported
        (folder / "masks").mkdir()
        self._place(folder, cine.study)

    def _place(self, folder: Path, study: str) -> None:
        self.folder, self.study = folder, study
        self.source, self.studies, self.masks = folder / "in", folder / "cines", folder / "masks"
        self.phases = self.studies / "phases"

    def copy_to(self, folder: Path) -> Folders:
        """The same, to be changed."""
        shutil.copytree(self.folder, folder, dirs_exist_ok=True)
        other = copy.copy(self)
        other._place(folder, self.study)
        return other

    def put(self, dataset: Dataset, name: str = "IM1") -> None:
        (self.masks / name).write_bytes(to_bytes(dataset))

    def take(self, code: int = 0, studies: Path | None = None, *options: str) -> tuple[str, str]:
        """What an import says, and what it leaves out."""
        done = run_script(labels.app, "import", studies or self.studies, self.masks, *options)
        said = "\n".join(line for line in done.stderr.splitlines() if line.strip() and not _PROGRESS.search(line))
        assert done.exit_code == code, done.stdout + said
        return done.stdout, said

    def label(self, study: str = "", studies: Path | None = None) -> np.ndarray:
        versions = LabelVersions(studies or self.studies, study or self.study)
        current = versions.current()
        assert current is not None
        return versions.read_volume(current.version).array

    def states(self) -> dict[int, str]:
        current = LabelVersions(self.studies, self.study).current()
        return {} if current is None else {t: phase.state for t, phase in current.phases.items()}

    def files(self) -> dict[Path, bytes]:
        return {path: path.read_bytes() for path in self.studies.rglob("*") if path.is_file()}


def cine_of(**phases: np.ndarray) -> np.ndarray:
    """A mask of all phases: ``p2=mask`` is of phase 2."""
    mask = np.zeros((*SHAPE, SCAN.phases), np.uint8)
    for name, drawn in phases.items():
        mask[..., int(name[1:])] = drawn
    return mask
