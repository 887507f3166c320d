"""Checks a submitted label before anything stored is touched, and turns what is wrong with it into HTTP errors."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from fastapi import HTTPException

from prato.data.cine import read_cine
from prato.data.labels.check import check_label, read_label_volume
from prato.data.labels.names import LabelError
from prato.data.nifti import Volume, VolumeError
from prato.data.nifti_head import VolumeTooLargeError
from prato.data.studies.label_records import recorded_label_info
from prato.labelling.merging import check_submission, merge_masks
from prato.labelling.phases import named_phases, phase_count
from prato.labelling.records import DamagedVersionError, LabelVersionError, OvertakenError, UnknownVersionError


def read_submitted_label(study: str, image: Path, label: Path, params: Mapping[str, Any]) -> Volume:
    """The label at ``label``, as it is to be stored for ``study``: uint8 (X, Y, Z), of a cine (X, Y, Z, T), with the image's affine.

    Raises:
        LabelError, LabelVersionError: unreadable, or as ``check_submission``; or the image is unreadable.
    """
    try:
        grid = read_cine(image).grid()
    except VolumeError as error:
        raise LabelError(str(error).replace(image.name, f"The image {study}")) from error
    name = f"The label for {study}"
    return grid.with_array(check_submission(grid, read_label_volume(label, name), name, params))


def merge_proposals(label: Volume, path: Path, params: Mapping[str, Any]) -> Volume:
    """``label`` with the phases that ``params`` name, and all others as the proposals at ``path`` have them; as it is where none is named.

    Raises:
        LabelVersionError: as ``named_phases``.
    """
    named, stored = named_phases(params, phase_count(label.array)), None
    if named is None or label.array.ndim == 3:
        return label
    with suppress(VolumeError):  # there are none, or they are of another image
        stored = check_label(label, read_label_volume(path, "it"), "it", recorded_label_info(path))
    return label.with_array(merge_masks(label.array, named, stored))


@contextmanager
def http_errors() -> Iterator[None]:
    """Turn errors about an image, a label or a version into HTTP errors: 400, 404 for an unknown version and for an image that is gone, 409
    for a decision that was overtaken, 413 for an image or a label that is too large, 503 for a damaged version."""
    try:
        yield
    except UnknownVersionError as error:
        raise HTTPException(404, str(error)) from error
    except OvertakenError as error:
        raise HTTPException(409, str(error)) from error
    except DamagedVersionError as error:
        raise HTTPException(503, str(error)) from error
    except VolumeTooLargeError as error:
        raise HTTPException(413, str(error)) from error
    except (LabelVersionError, VolumeError) as error:
        raise HTTPException(404 if _is_gone(error) else 400, str(error)) from error


def _is_gone(error: BaseException | None) -> bool:
    """Whether the file that ``error`` is about is not there (any more)."""
    return error is not None and (isinstance(error, FileNotFoundError) or _is_gone(error.__cause__))
