"""The names that clients choose, which become names of files and folders."""

from __future__ import annotations

import re

from fastapi import HTTPException

from prato.data.studies.folder import is_study_id

_MAX_BYTES = 150
_TAG = re.compile(r"\w[\w .+-]*")


def require_image_name(text: str) -> None:
    """Refuse a name that no image in the folder may have; 3D Slicer calls what it loads from DICOM "6: cine (SA)".

    Raises:
        HTTPException: 400.
    """
    if not is_study_id(text) or not re.match(r"\w", text) or len(text.encode()) > _MAX_BYTES:
        rule = f"must be printable text of at most {_MAX_BYTES} bytes without slashes that begins with a letter, digit or underscore"
        raise HTTPException(400, f"An image's name {rule}, not {text!r:.60}.")


def require_tag(text: str) -> None:
    """Refuse a tag that cannot be a folder of labels.

    Raises:
        HTTPException: 400.
    """
    if not _TAG.fullmatch(text) or len(text.encode("utf-8", "replace")) > _MAX_BYTES:
        rule = (
            f"may hold only letters, digits, underscore and, but for its beginning, space, dot, plus and dash (at most {_MAX_BYTES} bytes)"
        )
        raise HTTPException(400, f"A label's tag {rule}, not {text!r:.60}.")
