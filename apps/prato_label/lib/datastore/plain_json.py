"""What may be stored of what clients send: plain JSON, which every reader of the list of studies and of labels' records can read back."""

from __future__ import annotations

import json
from typing import Any

from fastapi import HTTPException

#: Objects and lists inside each other. Readers give up at 200 and writers at 255 levels, some of which are the server's own; a record that
#: was written and cannot be read again would have lost whose label it is.
_MAX_DEPTH = 64


def require_plain_json(value: Any, name: str = "params") -> Any:
    """``value``, called ``name``, if it can be stored, read again, and sent to every client.

    Python reads NaN, infinity and half surrogate pairs, which no reply can carry: once stored, they would break every reply.

    Raises:
        HTTPException: 400.
    """
    if _is_deeper(value, _MAX_DEPTH):
        raise HTTPException(400, f"{name} nests objects and lists more than {_MAX_DEPTH} deep: send a flatter object.")
    try:
        json.dumps(value, allow_nan=False, ensure_ascii=False).encode()
    except (ValueError, TypeError) as error:
        raise HTTPException(400, f"{name} must be plain JSON, with finite numbers and Unicode text only ({error}).") from error
    return value


def _is_deeper(value: Any, levels: int) -> bool:
    """Whether ``value`` has more than ``levels`` of objects and lists inside each other."""
    if not isinstance(value, (dict, list, tuple)):
        return False
    return levels == 0 or any(_is_deeper(each, levels - 1) for each in (value.values() if isinstance(value, dict) else value))
