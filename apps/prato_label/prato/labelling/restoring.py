"""An older version of a label made the current one again."""

from __future__ import annotations

import os
from typing import Any

from prato.data.cases import label_on
from prato.data.nifti import VolumeError, read_volume
from prato.labelling.version import LabelVersionError
from prato.labelling.versions import LabelVersions, Saved


def restore(versions: LabelVersions, number: int, image: str | os.PathLike[str], params: dict[str, Any]) -> Saved:
    """Store a copy of version ``number`` as a new version; nothing is removed.

    Args:
        image: the study's image, which the label must still fit.
        params: as for ``LabelVersions.save``.

    Raises:
        LabelVersionError: no such version, or one that does not fit the image.
    """
    stored = versions.find(number)
    try:
        grid = read_volume(image)
        mask = label_on(grid, versions.volume(stored.version), f"version {number} of {versions.study}")
    except VolumeError as error:
        raise LabelVersionError(f"Version {number} of {versions.study} cannot be restored: {error}") from error
    return versions.save(mask, grid.affine, params, restored_from=number)
