"""What every layout is read into: one future study with its label, checked; and how a fault in one is reported."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from prato.data.image_files import read_exact, read_mask
from prato.data.label_anatomy import judge_anatomy
from prato.data.label_check import check_label
from prato.data.label_names import LabelError
from prato.data.nifti import Volume
from prato.data.stack import slice_axis
from prato.data.studies import Study


class FolderError(ValueError):
    """A folder that cannot be imported or exported; ``faults`` holds one sentence for each bad thing found."""

    def __init__(self, faults: list[str]) -> None:
        super().__init__("\n".join(faults))
        self.faults = faults


@dataclass(frozen=True)
class Case:
    """One future study.

    Attributes:
        image: (X, Y, Z), the values as they are stored in ``origin``.
        label: uint8 (X, Y, Z), the values of ``prato.data.structures``; None where nothing is drawn.
        origin: the file of the label, or else of the image, relative to the folder that is imported.
    """

    id: str
    study: Study
    image: Volume
    label: np.ndarray | None
    origin: str


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
    anatomy = judge_anatomy(voxels, slice_axis(image.array.shape, image.spacing))
    if anatomy.verdict == "contradicted":
        raise LabelError(f"{name} cannot be what its names say: {anatomy.sentence}")
    return voxels if voxels.any() else None
