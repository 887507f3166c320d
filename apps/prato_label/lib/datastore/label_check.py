"""A submitted label, checked before anything stored is touched, and what is wrong with it as HTTP."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from fastapi import HTTPException

from prato.data.label_check import check_label, read_label_volume
from prato.data.label_names import LabelError
from prato.data.nifti import Volume, VolumeError, read_volume
from prato.labelling.records import DamagedVersionError, LabelVersionError, UnknownVersionError


def read_submitted_label(study: str, image: Path, label: Path, label_info: Any = None) -> Volume:
    """The label at ``label``, as it is to be stored for ``study``: uint8 (X, Y, Z), with the image's affine; see ``check_label``.

    Raises:
        LabelError: unreadable, or as ``check_label``; or the image is unreadable.
    """
    try:
        grid = read_volume(image)
    except VolumeError as error:
        raise LabelError(str(error).replace(image.name, f"The image {study}")) from error
    name = f"The label for {study}"
    return grid.with_array(check_label(grid, read_label_volume(label, name), name, label_info))


@contextmanager
def http_errors() -> Iterator[None]:
    """Turn errors about a label or a version into HTTP errors: 400, 404 for an unknown version, 503 for a damaged one."""
    try:
        yield
    except UnknownVersionError as error:
        raise HTTPException(404, str(error)) from error
    except DamagedVersionError as error:
        raise HTTPException(503, str(error)) from error
    except (LabelVersionError, VolumeError) as error:
        raise HTTPException(400, str(error)) from error
