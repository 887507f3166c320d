"""The names that clients choose, which become names of files and folders."""

from __future__ import annotations

import re

from fastapi import HTTPException

_MAX_BYTES = 150
#: What 3D Slicer calls a series of DICOM is one, too: "6: cine (SA)".
_IMAGE, _TAG = re.compile(r"\w[\w .+:;,=#%&'()\[\]-]*"), re.compile(r"\w[\w .+-]*")


def require_image_name(text: str) -> None:
    """Refuse a name that an image may not be uploaded under.

    Raises:
        HTTPException: 400.
    """
    _require(_IMAGE, text, "An image's name", "spaces and . + - : ; , = # % & ' ( ) [ ]")


def require_tag(text: str) -> None:
    """Refuse a tag that cannot be a folder of labels.

    Raises:
        HTTPException: 400.
    """
    _require(_TAG, text, "A label's tag", "spaces and . + -")


def _require(allowed: re.Pattern[str], text: str, what: str, further: str) -> None:
    if not allowed.fullmatch(text) or len(text.encode("utf-8", "replace")) > _MAX_BYTES:
        rule = f"may hold only letters, digits, underscore and, except at its beginning, {further} (at most {_MAX_BYTES} bytes)"
        raise HTTPException(400, f"{what} {rule}, not {text!r:.60}.")
