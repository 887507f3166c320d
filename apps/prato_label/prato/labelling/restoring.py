"""Stores labels again with their meaning: older versions, and files that were put into the folder by other means."""

from __future__ import annotations

import os
from typing import Any

import numpy as np

from prato.data.cine import read_cine, read_cine_head
from prato.data.labels.names import LABEL_INFO
from prato.data.nifti import VolumeError
from prato.labelling.records import LabelVersionError
from prato.labelling.versions import LabelVersions, SavedVersion


def restore(versions: LabelVersions, number: int, image: str | os.PathLike[str], params: dict[str, Any]) -> SavedVersion:
    """Store a copy of version ``number`` as a new version; nothing is removed.

    Args:
        image: the study's image, which the label must still fit.
        params: as for ``LabelVersions.save``; where they name phases of a cine, the others stay as they are.

    Raises:
        LabelVersionError: no such version, or one that does not fit the image.
    """
    versions.find(number)
    try:
        mask = versions.read_mask(number, read_cine(image).grid())
    except VolumeError as error:
        reason = str(error).replace(f"Version {number} of the label of {versions.study}", "it")
        raise LabelVersionError(f"Version {number} of {versions.study} cannot be restored: {reason}") from error
    return versions.save(mask, params, number, "restored")


def convert_found_label(versions: LabelVersions, image: str | os.PathLike[str]) -> None:
    """Store what a current label means that was put into the folder by other means, as a new version.

    Names that are recorded of it, as a stock MONAI Label server does, decide what its values are; axes that it stores otherwise than its
    image are turned. The file that was found stays as a version of its own. Where nothing has to be converted, or the label cannot be used
    (``prato.labelling.doubts`` says why), nothing is written.

    Raises:
        OSError: no space, no permission; the label is as it was.
    """
    current = versions.current()
    if current is None or current.origin != "found":
        return
    try:
        found, mask = versions.read_volume(current.version), versions.read_mask(current.version, read_cine_head(image).grid())
    except (VolumeError, LabelVersionError):
        return
    if np.array_equal(found.array, mask.array):
        return
    params = {**{key: value for key, value in current.params.items() if key != "phases"}, "label_info": LABEL_INFO}
    versions.save(mask, params, current.version, "converted")
