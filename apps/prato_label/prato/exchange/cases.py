"""What every layout is read into: one future study with its label, checked; and how a fault in one is reported."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from prato.data.cine import cine_bytes
from prato.data.image_files import read_exact, read_mask, writable
from prato.data.labels.anatomy import judge_anatomy
from prato.data.labels.check import check_label
from prato.data.labels.names import LabelError
from prato.data.nifti import Volume, nifti_bytes
from prato.data.stack import slice_axis
from prato.data.studies.folder import Study
from prato.labelling.phases import phase_count, phase_of


class FolderError(ValueError):
    """A folder that cannot be imported or exported; ``faults`` holds one sentence for each bad thing found, in one line whatever letters
    the names of files have; what is wrong with several files at once stands there once."""

    def __init__(self, faults: list[str]) -> None:
        self.faults = [
            "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in fault) for fault in dict.fromkeys(faults)
        ]
        super().__init__("\n".join(self.faults))


@dataclass(frozen=True)
class Case:
    """One future study.

    Attributes:
        image: (X, Y, Z), or a cine (X, Y, Z, T), the values as they are stored in the file.
        label: uint8 of the same shape, the values of ``prato.data.structures``; None where nothing is drawn.
        origin: the file of the label, or else of the image, relative to the folder that is imported.
        step_ms: of a cine, the time from phase to phase where it is known.
    """

    id: str
    study: Study
    image: Volume
    label: np.ndarray | None
    origin: str
    step_ms: float | None = None

    def image_bytes(self) -> bytes:
        """The uncompressed file of the image."""
        array = writable(self.image.array)
        return nifti_bytes(array, self.image.affine) if array.ndim == 3 else cine_bytes(array, self.image.affine, self.step_ms)


#: Reads the cases of one patient, or one case, each time that it is called.
Reader = Callable[[], Iterator[Case]]


def read_case(id: str, study: Study, source: Path, image: Path, mask: Path | None, names: Any) -> Case:
    """The case of the files ``image`` and ``mask`` of the folder ``source``.

    Args:
        names: of the mask's values, as ``structure_numbers`` takes them; names in the mask's own file come first.

    Raises:
        VolumeError: either cannot be used, or as ``name_label``.
    """
    volume = read_exact(image)
    if mask is None:
        return Case(id, study, volume, None, image.relative_to(source).as_posix())
    label, own_names = read_mask(mask)
    origin = mask.relative_to(source).as_posix()
    return Case(id, study, volume, name_label(volume, label, origin, own_names or names), origin)


def name_label(image: Volume, label: Volume, name: str, names: Any) -> np.ndarray | None:
    """``label`` as ``Case.label`` has it.

    Args:
        name: what messages call it. names: as for ``read_case``.

    Raises:
        LabelError: it does not lie on ``image``, has values without a name or no names at all, or its structures lie as they cannot.
    """
    if not label.array.any():
        return None
    if not names:
        raise LabelError(f"Nothing says what the values of {name} are: name their convention.")
    voxels = check_label(image, label, name, names)
    for number in range(phase_count(voxels)):
        anatomy = judge_anatomy(phase_of(voxels, number), slice_axis(image.array.shape[:3], image.spacing))
        if anatomy.verdict == "contradicted":
            where = f"Phase {number} of {name}" if phase_count(voxels) > 1 else name
            raise LabelError(f"{where} cannot be what its names say: {anatomy.sentence}")
    return voxels if voxels.any() else None
