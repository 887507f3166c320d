"""Keeps the log readable: MONAI Label logs every request whole, and a click's holds a mask of many thousand characters."""

from __future__ import annotations

import logging
import re

#: Of a click's mask, which is base64; nothing that a person reads is so long without a space or another sign.
_PACKED = re.compile(r"[A-Za-z0-9+/=]{256,}")
_SHOWN = 16


class ShortenPacked(logging.Filter):
    """Shortens what is packed in a record, and says how long it was; all else stays."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Every record passes."""
        try:
            text = record.getMessage()
        except Exception:  # its arguments do not fit: the handler says so, and whoever logs it goes on
            return True
        short = _PACKED.sub(lambda found: f"{found[0][:_SHOWN]}... ({len(found[0])} characters)", text)
        if short != text:
            record.msg, record.args = short, ()
        return True


def shorten_packed() -> None:
    """Let all that is written to the log from now on, by whatever library, be shortened."""
    for handler in logging.getLogger().handlers:
        handler.addFilter(ShortenPacked())
